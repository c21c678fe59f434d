# compare/engine.py: what the processor can do for a case, and what heed's engine takes for it without
# Python: both from the command `heed bench`. Not here: the sides (sides.py), the table (report.py).
import json
import os
import shutil
import statistics
import subprocess
import sys

from .cases import Case


def command() -> str | None:
    """The command heed: beside this Python, as a wheel installs it, or in the PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "heed")
    return beside if os.access(beside, os.X_OK) else shutil.which("heed")


def arguments(case: Case) -> list[str]:
    """The case as `heed bench` takes it."""
    given = ["--dtype", case.dtype, "--d", str(case.d), "--heads", str(case.heads), "--kv-heads", str(case.kv_heads)]
    given += ["--op", {"backward": "forward+backward"}.get(case.op, case.op)]
    if case.lengths is None:
        given += ["--batch", str(case.batch), "--sq", str(case.sq), "--sk", str(case.sk)]
    else:
        given += ["--lengths", ",".join(map(str, case.lengths))]
    if case.causal:
        given.append("--causal")
    return given if case.window is None else [*given, "--window", f"{case.window},0"]


class Engine:
    """`heed bench` of one case, call by call."""

    def __init__(self, case: Case, threads: int):
        self.path = None if case.op == "train" else command()
        self.given = [*arguments(case), "--threads", str(threads)]
        self.said: list[dict] = []

    def time(self, seconds: float) -> None:
        """One call more. Where it fails there is nothing to say."""
        if self.path is None:
            return
        done = subprocess.run([self.path, "bench", "--json", "--any-peak", "--seconds", str(max(seconds, 0.02)),
                               *self.given], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            self.said.append(json.loads(done.stdout))

    def found(self) -> dict:
        """ms of each call, and the best peak of the arithmetic that was measured beside them."""
        if not self.said or not all(s["peak_gflops"] for s in self.said):
            return {}
        return {"ms_rounds": [s["seconds_median"] * 1e3 for s in self.said],
                "ms": statistics.median(s["seconds_median"] for s in self.said) * 1e3,
                "peak_gflops": max(s["peak_gflops"] for s in self.said)}
