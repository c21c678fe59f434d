# test_gpu_scripts.py: what `make gpu-test` and `make gpu-bench` do with torch, rehearsed on the CPU with the
# library of the release build. Not here: what needs no torch (tests/gpu/gpu_scripts_test.py).
import importlib
import json
import os
import random
import subprocess
import sys
import types

import pytest

pytest.importorskip("torch")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = os.path.join(ROOT, "build", "release", "tests", "gpu", "libheed_gpu.so")
pytestmark = pytest.mark.skipif(not os.path.exists(LIBRARY), reason="there is no release build here")


def rehearse(script, *arguments):
    command = [sys.executable, os.path.join(ROOT, script), "--rehearse", "--library", LIBRARY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_gpu_test_runs_every_step_that_needs_no_gpu(tmp_path):
    done = rehearse("tests/gpu/gpu_test.py", "--flat", str(tmp_path), "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed  69 conformance cases in every dtype, with gradients: 6 passed, 0 failed, 0 refused" in done.stdout
    for words in ("random calls, forward: 6 calls of up to 96 queries", "random calls, backward: 4 calls of up to 60",
                  "random calls, backward: 3 calls of up to 300", "CUDA graphs: 5 calls",
                  "index arrays that are wrong: 5 calls", "memcheck, without the tool: "):
        assert "passed  " + words in done.stdout, words
    assert " steps passed, 0 failed" in done.stdout


def test_gpu_bench_writes_its_table(tmp_path):
    done = rehearse("bench/gpu_bench.py", "--out", str(tmp_path), "--rounds", "1", "--seconds", "0.001", "--only",
                    "bf16 d=64 N=64|1 of 96 keys")
    assert done.returncode == 0, done.stdout + done.stderr
    table, = tmp_path.glob("*-cuda.md")
    assert "WRONG" not in table.read_text()
    for row in ("bf16 d=64 N=64 causal", "forward bf16 d=64 N=64", "backward bf16 d=64 N=64 causal"):
        assert f"\n| {row} | " in table.read_text()
    file, = tmp_path.glob("*-cuda.json")
    rows = json.loads(file.read_text())["rows"]
    assert [row["group"] for row in rows] == ["forward"] * 2 + ["backward"] * 2 + ["decode"] * 2
    assert all(row["seconds"]["heed"] > 0 and row["seconds"]["math"] > 0 and not row["wrong"] for row in rows)


# A wrong result must not pass for a time: these judge what the rehearsals above believe.
@pytest.fixture
def scripts(monkeypatch):
    """The modules of tests/gpu."""
    monkeypatch.syspath_prepend(os.path.join(ROOT, "tests", "gpu"))
    names = ("calls", "engine", "gradients", "random_calls")
    yield types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in (*names, "chunks"):
        del sys.modules[name]


class Off:
    """Adds `error` to every result; another one each time where `grows`, not to entries alone where `lonely`."""
    error, grows, lonely, to = 0.0, False, False, ""

    def run(self):
        super().run()
        if not Off.lonely or self.made.spec.batch > 1:
            for name, tensor in self.results.items():
                if name == Off.to:
                    tensor += Off.error
        Off.error *= 2 if Off.grows else 1
        return self


def setting(monkeypatch, **changes):
    for name, value in {"error": 0.0, "grows": False, "lonely": False, "to": "o", **changes}.items():
        monkeypatch.setattr(Off, name, value)


def test_wrong_results_bits_and_neighbours_are_found(scripts, monkeypatch):
    spec = scripts.calls.Spec(sq=40, sk=50, heads=4, kv_heads=2, dim=64, batch=3, layout="ragged", causal=True,
                              dtype="f32")
    monkeypatch.setattr(scripts.calls, "Runner", type("Runner", (Off, scripts.calls.Runner), {}))
    check = lambda: scripts.random_calls.check_forward(scripts.engine.Engine(LIBRARY), spec, "cpu", "cpu",
                                                       random.Random(1))
    setting(monkeypatch)
    check()
    for changes, words in (({}, "o: worst error"), ({"grows": True}, "a second run gave other bits"),
                           ({"lonely": True}, "entry 0 alone has other bits")):
        setting(monkeypatch, error=1e-3, **changes)
        with pytest.raises(RuntimeError, match=words):
            check()


@pytest.mark.parametrize("whole", [True, False])
def test_wrong_gradients_are_found(scripts, monkeypatch, whole):
    options = {"softcap": 20.0, "alibi": True, "window": (20, 9), "prefix": 3, "chunk": 30, "bias": "keys",
               "mask": True, "block_map": (8, 16), "sinks": True, "scale": -0.2, "align": "top_left",
               "layout": "padded"}
    spec = scripts.calls.Spec(sq=40, sk=50, heads=4, kv_heads=2, dim=24, dtype="f16", dlse=True, dbias=True,
                              dsinks=True, **options)
    two = scripts.calls.Spec(sq=40, sk=50, heads=2, kv_heads=1, dim=24, dtype="f16", batch=2, layout="ragged")
    monkeypatch.setattr(scripts.gradients, "Gradients", type("Gradients", (Off, scripts.gradients.Gradients), {}))
    check = lambda spec: scripts.random_calls.check_backward(scripts.engine.Engine(LIBRARY), spec, "cpu", "cpu",
                                                             random.Random(1), whole)
    setting(monkeypatch)
    check(spec)
    for name in ("dq", "dk", "dv", "dbias", "dsinks"):
        setting(monkeypatch, error=0.1, to=name)
        with pytest.raises(RuntimeError, match=f"{name}: (the )?worst error"):
            check(spec)
        if name in ("dq", "dk", "dv"):
            setting(monkeypatch, error=0.1, to=name, lonely=True)
            with pytest.raises(RuntimeError, match=f"{name} of entry 0 alone has other bits"):
                check(two)
    setting(monkeypatch, error=0.1, to="dk", grows=True)
    with pytest.raises(RuntimeError, match="a second run gave other bits"):
        check(spec)


# float64 by chunks is the reference's gradients, with every option, however it is cut.
def test_chunks_are_the_definition(scripts, monkeypatch):
    spec = scripts.calls.Spec(sq=33, sk=41, heads=4, kv_heads=2, dim=16, dim_v=8, dtype="f32", causal=True,
                              window=(9, -1), align="offset", offset=11, prefix=2, chunk=20, softcap=5.0, alibi=True,
                              bias="full", mask=True, block_map=(8, 8), sinks=True, dlse=True, dbias=True, dsinks=True)
    chunks = importlib.import_module("chunks")
    runner = scripts.gradients.Gradients(scripts.engine.Engine(LIBRARY), scripts.calls.make(spec, "cpu"), "reference")
    runner.run()
    cuts = []
    for size in (2 * 41 * 7, 2**24):
        monkeypatch.setattr(chunks, "CHUNK", size)
        cuts.append(chunks.gradients_of(chunks.Group(runner, 0, 1), chunks.TRUTH))
    cut = runner.entry(0)
    want = {"dq": cut["dq"][:, 2:].transpose(0, 1), "dk": cut["dk"][:, 1], "dv": cut["dv"][:, 1],
            "dbias": runner.results["dbias"][0, 2:]}
    for got in cuts:
        got["dsinks"] = got["dsinks"].sum(-1)
        for name, tensor in {**want, "dsinks": runner.results["dsinks"][2:]}.items():
            assert got[name].shape == tensor.shape, name
            assert (got[name] - tensor).abs().max() < 1e-5, name
