# compare/peers.py: the processes of the sides, and what PyTorch needs to be told. Not here: what a process
# does (worker.py).
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict

from .cases import Case
from .sides import NEEDS

# MKL takes its fast kernels where this says that the processor is Intel's.
SHIM = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def cpu() -> tuple[str, str]:
    """(vendor, name) of the processor."""
    found = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            for line in f:
                name, _, value = line.partition(":")
                found.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    return found.get("vendor_id", ""), found.get("model name", "unknown processor")


def versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "numpy", "onnxruntime", "openvino"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def make_shim(folder: str) -> str:
    """A shared object for LD_PRELOAD. Raises RuntimeError with the reason where there can be none."""
    if not sys.platform.startswith("linux"):
        raise RuntimeError("needs LD_PRELOAD, which this system does not have")
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        raise RuntimeError("needs a C compiler, to make what tells MKL the processor")
    source, out = os.path.join(folder, "shim.c"), os.path.join(folder, "shim.so")
    with open(source, "w", encoding="ascii") as f:
        f.write(SHIM)
    done = subprocess.run([compiler, "-shared", "-fPIC", "-o", out, source], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise RuntimeError(f"{compiler} failed: {done.stderr.strip()[-200:]}")
    return out


def missing(side: str) -> str | None:
    """Why the side cannot take part on this machine, or None."""
    absent = [n for n in NEEDS[side] if importlib.util.find_spec(n) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if side == "torch-best" and cpu()[0] == "GenuineIntel":
        return "on an Intel processor the same as shipped"
    return None


class Process:
    """A side that computes one case: a process of its own, so that nothing is left from another."""

    def __init__(self, side: str, threads: int, preload: str | None = None):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads))
        if preload:
            env["LD_PRELOAD"] = preload
        self.side = side
        self.said = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "heed.compare.worker", side, str(threads)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.said, text=True, env=env)

    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, **message) -> None:
        if self.process.stdin is None or self.process.poll() is not None:
            return  # answer() tells
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def answer(self) -> dict:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if line:
            return json.loads(line)
        self.said.seek(0)
        last = self.said.read().strip().splitlines()[-1:]
        return {"failed": f"the process ended with code {self.process.wait()}: {' '.join(last)}"}

    def load(self, case: Case, data: str, truth: str) -> None:
        self.send(do="load", case=asdict(case), data=data, truth=truth)

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.said.close()


def close(running: dict[str, Process]) -> None:
    for process in running.values():
        if process.process.stdin:
            process.process.stdin.close()  # all end at the same time
    for process in running.values():
        process.close()
