# test_gpu_scripts.py: what `make gpu-test` and `make gpu-bench` do with torch, rehearsed on the CPU with the
# library of the release build. Not here: what needs no torch (tests/gpu/gpu_scripts_test.py).
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
    assert "207 passed, 0 failed, 0 refused" in done.stdout
    assert "6 calls of up to 96 queries and keys" in done.stdout
    assert "3 steps passed, 0 failed; not run: a CUDA graph, index arrays that are wrong" in done.stdout


def test_gpu_bench_writes_its_table(tmp_path):
    done = rehearse("bench/gpu_bench.py", "--out", str(tmp_path), "--rounds", "1", "--seconds", "0.001", "--only",
                    "bf16 d=64 N=64|1 of 96 keys")
    assert done.returncode == 0, done.stdout + done.stderr
    table, = tmp_path.glob("*-cuda.md")
    assert "| bf16 d=64 N=64 causal | " in table.read_text() and "WRONG" not in table.read_text()
    file, = tmp_path.glob("*-cuda.json")
    rows = json.loads(file.read_text())["rows"]
    assert [row["group"] for row in rows] == ["forward", "forward", "decode", "decode"]
    assert all(row["seconds"]["heed"] > 0 and row["seconds"]["math"] > 0 and not row["wrong"] for row in rows)


# A wrong result must not pass for a time: these judge what the rehearsals above believe.
def test_wrong_results_bits_and_neighbours_are_found():
    sys.path.insert(0, os.path.join(ROOT, "tests", "gpu"))
    sys.path.insert(0, os.path.join(ROOT, "scripts"))
    try:
        import calls  # pylint: disable=import-outside-toplevel
        import engine  # pylint: disable=import-outside-toplevel
        import gpu_test  # pylint: disable=import-outside-toplevel
    finally:
        del sys.path[:2]
    library = engine.Engine(LIBRARY)
    spec = calls.Spec(sq=40, sk=50, heads=4, kv_heads=2, dim=64, batch=3, layout="ragged", causal=True, dtype="f32")

    class Off(calls.Runner):
        """Adds `error` to every result; another one each time where `grows`, not to entries alone where `lonely`."""
        error, grows, lonely = 0.0, False, False

        def run(self):
            super().run()
            if not self.lonely or self.made.spec.batch > 1:
                self.o += self.error
            Off.error *= 2 if self.grows else 1
            return self

    def words(**changes):
        for name, value in {"error": 0.0, "grows": False, "lonely": False, **changes}.items():
            setattr(Off, name, value)
        stand_in = types.SimpleNamespace(**{**vars(calls), "Runner": Off})
        gpu_test.check_call(library, stand_in, spec, "cpu", "cpu", random.Random(1))

    words()
    with pytest.raises(RuntimeError, match="o: worst error"):
        words(error=1e-3)
    with pytest.raises(RuntimeError, match="a second run gave other bits"):
        words(error=1e-3, grows=True)
    with pytest.raises(RuntimeError, match="entry 0 alone has other bits"):
        words(error=1e-3, lonely=True)
