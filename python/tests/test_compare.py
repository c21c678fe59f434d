# test_compare.py: `python -m heed.compare` computes what it says, on tiny cases. Not here: any speed.
import dataclasses
import datetime
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import heed
from heed.compare import __main__ as command
from heed.compare import cases, engine, peers, plots, report, sides, worker


def run(*arguments, capsys):
    assert command.main(["--quick", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("case", [
    cases.Case("full", "backward", sq=7, sk=9, d=4, batch=2, heads=4, kv_heads=2),
    cases.Case("causal", "backward", sq=5, sk=9, d=4, causal=True),
    cases.Case("window", "forward", sq=9, sk=9, d=4, causal=True, window=3),
    cases.Case("ragged", "forward", d=4, heads=2, kv_heads=2, causal=True, lengths=(3, 1, 6)),
    cases.Case("decode", "decode", sq=1, sk=30, d=8, heads=6, kv_heads=2)], ids=lambda c: c.name)
def test_truth_is_pytorchs_math(case):
    torch = pytest.importorskip("torch")
    data = cases.inputs(case)
    want = cases.truth(case, data)
    parts = [tuple(torch.from_numpy(data[n]).double()[b] for n in ("q", "k", "v", "dout")) for b in range(case.batch)]
    if case.lengths:
        parts = list(zip(*(torch.from_numpy(data[n]).double().split(case.lengths) for n in ("q", "k", "v", "dout"))))
    at = 0
    for b, (q, k, v, dout) in enumerate(parts):
        i, j = torch.arange(len(q))[:, None] + len(k) - len(q), torch.arange(len(k))
        seen = torch.ones(len(q), len(k), dtype=torch.bool)
        seen = seen & (j <= i) if case.causal else seen
        seen = seen & (j >= i - case.window) if case.window is not None else seen
        leaves = [t.clone().requires_grad_() for t in (q, k, v)]
        turned = [t.transpose(0, 1) for t in leaves]
        o = torch.nn.functional.scaled_dot_product_attention(*turned, attn_mask=seen, enable_gqa=True).transpose(0, 1)
        mine = want["o"][b] if not case.lengths else want["o"][at:at + len(q)]
        at += len(q)
        np.testing.assert_allclose(mine, o.detach(), atol=1e-12)
        if case.op == "backward":
            for name, g in zip("qkv", torch.autograd.grad(o, leaves, dout)):
                np.testing.assert_allclose(want[f"d{name}"][b], g, atol=1e-12)


def test_pairs_and_rows():
    assert cases.Case("", "forward", sq=4, sk=4, causal=True).pairs() == 10
    assert cases.Case("", "forward", sq=4, sk=4, causal=True, window=1).pairs() == 7
    assert cases.Case("", "forward", sq=2, sk=5, batch=3, heads=2).pairs() == 60
    assert cases.Case("", "forward", causal=True, lengths=(2, 3)).pairs() == 9
    assert cases.Case("", "backward", sq=2, sk=2, d=8).flops() == 14 * 8 * 4
    case = cases.Case("", "forward", sq=300, sk=300, d=4)
    assert len(cases.truth(case, cases.inputs(case))["rows"]) == 256
    x = np.array([1.0, 1 + 2**-8, 1 + 2**-7, 3.0e38], np.float32)
    assert cases.rounded(x, "bf16")[:3].tolist() == [1.0, 1.0, 1 + 2**-7]
    names = [c.name for c in cases.all_cases()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("side", [s for s in sides.SIDES if s != "torch-best"])
def test_sides_are_right(side):
    """Every side on every quick case, in this process: errors of its dtype, or a reason."""
    why = peers.missing(side)
    if why:
        pytest.skip(why)
    offered = 0
    for case in cases.quick_cases():
        if case.op == "train":
            continue
        data = cases.inputs(case)
        try:
            call, numbers = sides.prepare(side, case, data, 1)
        except sides.NotOffered as reason:
            assert len(str(reason)) > 5 and side != "heed"
            continue
        got, want = numbers(call()), cases.truth(case, data)
        if "rows" in want:
            got["o"] = got["o"][:, want.pop("rows")]
        for name, expected in want.items():
            np.testing.assert_allclose(got[name], expected, atol=2e-5 if case.dtype == "f32" else 0.05)
        offered += 1
    assert offered >= 4


def test_heed_without_pytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for case in cases.quick_cases():
        if case.op != "train":
            data = cases.inputs(case)
            call, numbers = sides.prepare("heed", case, data, 1)
            want = cases.truth(case, data)
            rows = want.pop("rows", slice(None))
            got = numbers(call())
            got["o"] = got["o"] if case.lengths else got["o"][:, rows]
            for name, expected in want.items():
                np.testing.assert_allclose(got[name], expected, atol=2e-5 if case.dtype == "f32" else 0.05)


@pytest.mark.parametrize("side", ["heed", "torch", "torch-math"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_training_step(side, dtype):
    torch = pytest.importorskip("torch")
    from heed.compare import gpt
    case = cases.Case("", "train", dtype, 12, 12, 8, heads=2, kv_heads=2, causal=True, layers=2)
    with torch.enable_grad():
        step, numbers, truth = gpt.prepare(side, case, 1)
        first = float(step().detach())
        got, want = numbers(None), truth()
        assert len(want) == 2
        for name, expected in want.items():
            np.testing.assert_allclose(got[name], expected, atol=1e-5 if dtype == "f32" else 0.02)
        for _ in range(20):
            last = float(step().detach())
        assert last < first


@pytest.mark.parametrize("chosen, only", [
    ("heed", "forward f32|sweep"), pytest.param(",".join(sides.SIDES), "", marks=pytest.mark.slow)])
def test_command(capsys, tmp_path, monkeypatch, chosen, only):
    said = run("--sides", chosen, "--out", str(tmp_path), "--only", only, capsys=capsys)
    assert len(said["cases"]) == (3 if only else len(list(cases.quick_cases())))
    here = [s for s in chosen.split(",") if s not in said["skipped"]]
    for row in said["cases"]:
        assert list(row["sides"]) == here
        for side, answer in row["sides"].items():
            if "not_offered" in answer:
                assert side != "heed" or row["case"]["op"] == "train"
                continue
            assert 0 < answer["max_error"] < (1e-4 if row["case"]["dtype"] == "f32" else 0.05), side
            assert answer["ms"] > 0 and answer["times_heed"] > 0
            assert answer["bytes"] is None or answer["bytes"] >= 0
    written = sorted(p.suffix for p in tmp_path.iterdir())
    plotted = importlib.util.find_spec("matplotlib") is not None
    assert written == [".json", ".md"] + [".png"] * (2 if plotted else 0)
    text = next(tmp_path.glob("*.md")).read_text(encoding="utf-8")
    assert "| forward f32 N=48 causal | heed |" in text and "thread(s)" in text
    monkeypatch.setenv("COLUMNS", "200")
    report.on_terminal(said)
    assert "forward f32 N=48" in capsys.readouterr().out


def test_runs_go_on_with_what_is_there(capsys, tmp_path, monkeypatch):
    """--minutes ends early, --missing goes on, --add measures again; the files are whole after each."""
    count = iter(range(1, 100))
    monkeypatch.setattr(command, "one_case", lambda case, *_: {
        "case": dataclasses.asdict(case), "flops": case.flops(), "engine": {}, "sides": {"heed": {
            "ms": next(count), "max_error": 1e-7, "mean_error": 1e-8, "bytes": None}}})

    def files(*arguments):
        said = run("--sides", "heed", "--out", str(tmp_path), "--only", "sweep|decode", *arguments, capsys=capsys)
        path, = tmp_path.glob("*-python.json")
        written = json.loads(path.read_text(encoding="utf-8"))
        assert written == said
        return [(row["case"]["name"], row["sides"]["heed"]["ms"]) for row in written["cases"]]

    first = files("--only", "sweep f32 N=64")
    assert [name for name, _ in first] == ["sweep f32 N=64"]
    assert files("--missing", "--minutes", "0") == first
    everything = files("--missing")
    assert len(everything) == 3 and everything[0][0] == "decode f32 100 keys" and everything[-1] == first[0]
    assert files("--missing") == everything
    for path in list(tmp_path.iterdir()):  # midnight passes
        path.rename(path.with_name("2020-02-29" + path.name[10:]))
    for path in tmp_path.glob("*.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(datetime.date.today().isoformat(), "2020-02-29"),
                        encoding="utf-8")
    again = files("--add", "--only", "decode")
    assert again[1:] == everything[1:] and again[0][1] != everything[0][1]
    with pytest.raises(SystemExit):
        command.main(["--quick", "--missing", "--out", str(tmp_path), "--seconds", "0.0005"])
    assert "has seconds 0.001, and this run 0.0005: one table must be of one setting" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--quick", "--add"])
    assert "given without --out" in capsys.readouterr().err
    assert command.main(["--quick", "--sides", "heed", "--only", "decode", "--threads", "2", "--out", str(tmp_path)]) == 0
    assert list(tmp_path.glob("*-python-2-threads.md"))


def test_share_of_the_peak(tmp_path, monkeypatch):
    """From what `heed bench` says, here a script in its place."""
    said = {"flops": 4 * 16 * 10, "seconds_median": 2e-6, "peak_gflops": 4.0}
    script = tmp_path / "heed"
    script.write_text(f"#!/bin/sh\necho \"$*\" >> {tmp_path}/given\ncat <<EOF\n{json.dumps(said)}\nEOF\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(engine, "command", lambda: str(script))
    case = cases.Case("c", "backward", "bf16", sq=4, sk=4, d=16, causal=True)
    one = engine.Engine(case, 2)
    one.time(0.5)
    one.time(0.5)
    found = one.found()
    assert found == {"ms_rounds": [2e-3, 2e-3], "ms": 2e-3, "peak_gflops": 4.0}
    given = (tmp_path / "given").read_text(encoding="utf-8").split("\n")[0]
    assert given == ("bench --json --any-peak --seconds 0.5 --dtype bf16 --d 16 --heads 1 --kv-heads 1 --op "
                     "forward+backward --batch 1 --sq 4 --sk 4 --causal --threads 2")
    row = {"case": {"name": "c"}, "flops": 640, "engine": found, "sides": {
        "heed": {"ms": 4e-4, "max_error": 1e-7, "mean_error": 1e-8, "bytes": 1 << 20, "times_heed": 1.0},
        "torch": {"not_offered": "nothing"}}}
    assert list(report.rows({"cases": [row]})) == [
        ["c", "heed", "0.0004", "1.00", "40.0%", "1.0e-07", "1.0e-08", "1.0"],
        ["", "heed without Python", "0.002", "5.00", "8.0%", "", "", ""],
        ["", "PyTorch as shipped: nothing", *[""] * 6]]
    monkeypatch.setattr(engine, "command", lambda: None)
    nothing = engine.Engine(case, 1)
    nothing.time(0.5)
    assert nothing.found() == {} and report.of_peak(dict(row, engine={}), {"ms": 1.0}) is None


def test_every_case_is_one_of_heed_bench():
    path = engine.command()
    if path is None:
        pytest.skip("the command heed is neither beside this Python nor in the PATH")
    for case in cases.quick_cases():
        if case.op != "train":
            one = engine.Engine(case, 1)
            one.time(0)
            assert one.found()["ms"] > 0, case.name


def test_a_side_that_dies_is_told(tmp_path):
    process = peers.Process("heed", 1)
    process.process.kill()
    process.process.wait()
    process.load(next(cases.quick_cases()), "none", "none")
    assert "the process ended with code" in process.answer()["failed"]
    process.close()
    process = peers.Process("heed", 1)
    process.load(next(cases.quick_cases()), str(tmp_path / "missing.npz"), "none")
    assert "missing.npz" in process.answer()["failed"]
    process.close()


def test_words(capsys, monkeypatch):
    for arguments, words in ((["--only", "no such case"], "no case matches"), (["--sides", "jax"], "the sides are heed"),
                             (["--rounds", "0"], "must be at least 1"), (["--only", "("], "unterminated")):
        with pytest.raises(SystemExit) as end:
            command.main(["--quick", *arguments])
        assert end.value.code == 2 and words in capsys.readouterr().err
    assert command.main(["--list"]) == 0
    assert "BERT shape" in capsys.readouterr().out
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert peers.missing("onnxruntime") == "not installed: onnxruntime, onnx"
    with pytest.raises(SystemExit):
        command.main(["--quick", "--sides", "openvino"])
    assert "no side is left: OpenVINO: not installed" in capsys.readouterr().err


def test_memory_is_seen():
    out, grown = worker.growth(lambda: np.ones(4 << 20).sum())
    assert out == 4 << 20 and (grown is None or 30 << 20 < grown < 40 << 20)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
                    reason="needs two processors, and a system that lets threads choose")
def test_threads_stay_on_processors_of_their_own():
    """In a process of its own, whose other threads nobody else uses."""
    say = ("import os, threading; from heed.compare import worker\n"
           "stop = threading.Event(); other = threading.Thread(target=stop.wait); other.start()\n"
           "worker.spread(sorted(os.sched_getaffinity(0)))\n"
           "print(*os.sched_getaffinity(0), '|', *os.sched_getaffinity(other.native_id)); stop.set()")
    out = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True).stdout
    first, _, other = out.partition("|")
    assert len(first.split()) == len(other.split()) == 1 and first.strip() != other.strip()


def test_nothing_to_plot(tmp_path):
    pytest.importorskip("matplotlib")
    assert plots.draw({"cases": []}, str(tmp_path / "x")) == []
    assert heed.__version__
