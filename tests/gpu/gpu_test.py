#!/usr/bin/env python3
"""Everything that needs a GPU in one command (`make gpu-test`), forward and backward: builds, then
conformance of the instructions, all cases of the tests, random calls of up to 32768 keys, the bits of repeated
runs and of batch neighbours, CUDA graphs, index arrays that are wrong, compute-sanitizer, and the Python
package. Exit 0: all passed. 1: something failed. 2: it does not build. 3: there is no GPU here. Needs nvcc,
g++ and, for the calls, torch; the package needs nanobind, too.

With --rehearse all of it but the GPU: the backends of the CPU on small calls."""
import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "scripts")]

import flatten  # pylint: disable=wrong-import-position
import gpu_build  # pylint: disable=wrong-import-position


class Report:
    """A line for each step, and the verdict."""

    def __init__(self):
        self.failed, self.skipped, self.passed = [], [], 0

    def step(self, name, run):
        """`run` gives the words of its line; raising is failing."""
        began = time.monotonic()
        try:
            words = run()
        except Skip as skip:
            self.skipped.append(name)
            return print(f"skipped {name}: {skip}", flush=True)
        except Exception as error:  # pylint: disable=broad-except
            self.failed.append(name)
            return print(f"FAILED  {name}: {error}", flush=True)
        self.passed += 1
        return print(f"passed  {name}: {words} ({time.monotonic() - began:.1f} s)", flush=True)

    def verdict(self):
        print()
        print(f"{self.passed} steps passed, {len(self.failed)} failed"
              + (f" ({', '.join(self.failed)})" if self.failed else "")
              + (f"; not run: {', '.join(self.skipped)}" if self.skipped else ""), flush=True)
        return 1 if self.failed or not self.passed else 0


class Skip(Exception):
    """Why a step is not run."""


def program(command, seconds=240, lines=12, skips=None):
    """The last line of what a program prints; its end, raised, where it fails; a Skip where it ends with the
    code `skips`."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, cwd=ROOT)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{os.path.basename(command[0])} took more than {seconds} s") from error
    text = (done.stdout + done.stderr).strip().splitlines() or ["it printed nothing"]
    if done.returncode and done.returncode == skips:
        raise Skip(text[-1])
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}\n        " + "\n        ".join(text[-lines:]))
    return text[-1]


# ---------------------------------------------------------------- calls of torch tensors

def planned(engine, spec, device, backward, spoil=None):
    """A runner of the spec, its index arrays spoiled before it is planned."""
    import calls  # pylint: disable=import-outside-toplevel
    import gradients  # pylint: disable=import-outside-toplevel
    made = calls.make(spec, device)
    if spoil:
        spoil(made.arrays)
    return (gradients.Gradients if backward else calls.Runner)(engine, made, device)


def captured(runner, device):
    """A CUDA graph of a run, as what replays it. (A CPU has none, and runs again.)"""
    import torch  # pylint: disable=import-outside-toplevel
    if device == "cpu":
        return runner.run
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        runner.run()

    def replay():
        graph.replay()
        torch.cuda.synchronize()
    return replay


def cuda_graph(engine, device):
    """A capture allows neither allocation nor synchronisation."""
    from calls import Spec, same  # pylint: disable=import-outside-toplevel
    long = 1024 if device == "cuda" else 64
    square = Spec(sq=long, sk=long, heads=8, kv_heads=2, dim=128, causal=True, dtype="f16")
    masked = Spec(sq=long // 2, sk=long - 7, heads=4, kv_heads=4, dim=64, mask=True, batch=2, dtype="f16", bias="keys",
                  sinks=True, dbias=True, dsinks=True)
    paged = Spec(sq=1, sk=4 * long, heads=16, kv_heads=2, dim=128, batch=3, layout="paged", dtype="f16")
    some = ((square, False), (paged, False), (masked, False), (square, True), (masked, True))
    for spec, backward in some:
        runner = planned(engine, spec, device, backward).run()
        before = {name: tensor.clone() for name, tensor in runner.results.items()}
        replay = captured(runner, device)
        runner.poison()
        replay()
        for name, tensor in runner.results.items():
            if not same(tensor, before[name]):
                raise RuntimeError(f"a replayed graph gave another {name}: {spec}")
    return f"{len(some)} calls captured and replayed"


def spoil(arrays):
    """Numbers that were never lengths or pages."""
    import torch  # pylint: disable=import-outside-toplevel
    garbage = [2**31 - 1, -2**31, -1, 10**6, 7]
    for name in ("cu_seqlens_q", "cu_seqlens_k", "cache_seqlens", "block_table", "key_lengths"):
        if name in arrays:
            flat = arrays[name].view(-1)
            flat.copy_(torch.tensor([garbage[n % 5] for n in range(flat.numel())], dtype=torch.int32))


def wrong_arrays(engine, device):
    """Index arrays on a device are brought into range: garbage in them reaches no foreign memory. Those in
    host memory are refused."""
    import torch  # pylint: disable=import-outside-toplevel
    from calls import Spec  # pylint: disable=import-outside-toplevel
    from engine import Failed  # pylint: disable=import-outside-toplevel
    ragged = Spec(sq=33, sk=300, heads=4, kv_heads=2, dim=64, batch=4, layout="ragged", dtype="f16")
    paged = Spec(sq=2, sk=500, heads=8, kv_heads=2, dim=128, batch=4, layout="paged", dtype="f16")
    lengths = Spec(sq=100, sk=200, heads=4, kv_heads=4, dim=64, batch=4, key_lengths=True, dtype="f16")
    some = ((ragged, False), (paged, False), (lengths, False), (ragged, True), (lengths, True))
    for spec, backward in some:
        try:
            planned(engine, spec, device, backward, spoil).run()
        except Failed:
            if device == "cpu":
                continue
            raise
        if device == "cpu":
            raise RuntimeError(f"garbage in index arrays was taken: {spec}")
        torch.cuda.synchronize()
    return f"{len(some)} calls returned"


# ---------------------------------------------------------------- the steps

def sanitizer():
    """The program, beside nvcc where it is not on PATH."""
    found = shutil.which("compute-sanitizer")
    beside = os.path.join(os.path.dirname(os.path.realpath(shutil.which("nvcc") or "nvcc")), "compute-sanitizer")
    return found or (beside if os.path.exists(beside) else None)


SANITIZER_SECONDS = 25  # of cases; one that has begun is finished


def sanitize(tool, cases, rehearse):
    """Small cases under a tool, for a time; in a rehearsal without it."""
    under = []
    if not rehearse:
        if not sanitizer():
            raise Skip("compute-sanitizer is not installed")
        under = [sanitizer(), "--tool", tool, "--error-exitcode", "9", "--print-limit", "5"]
    return program([*under, *cases, "--lists", "small,small_backward", "--seconds", str(1 if rehearse else
                                                                                         SANITIZER_SECONDS)],
                   seconds=120, lines=30)


def python_package(args, made):
    """The package on CUDA tensors, by a program of its own: built around the library made here, where that
    can be, or as it is installed."""
    command = [sys.executable, os.path.join(HERE, "python_calls.py"), *(["--rehearse"] if args.rehearse else [])]
    missing = "this library was built before" if args.library else gpu_build.why_no_package()
    if not missing:
        command += ["--package", gpu_build.build_package(made, args.jobs)]
    elif importlib.util.find_spec("heed") is None:
        raise Skip(f"{missing}, and the package is not installed either")
    return program(command)


RANDOM_SECONDS = 25  # of each step of random calls


def on_tensors(args, made, report):
    """The steps that call the library with torch's tensors."""
    try:
        import random_calls  # pylint: disable=import-outside-toplevel
        import engine as engines  # pylint: disable=import-outside-toplevel
        import torch  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        report.skipped.append("calls on torch tensors")
        print(f"skipped calls on torch tensors: {error}", flush=True)
        return
    device = "cpu" if args.rehearse else "cuda"
    engine = engines.Engine(made["library"])
    if device == "cuda" and not torch.cuda.is_available():
        raise gpu_build.Stop("there is a GPU here and this PyTorch cannot use it", 3)
    both = (("forward", random_calls.forward), ("backward", random_calls.backward))
    sizes = {"forward": ((6, 96),), "backward": ((4, 60), (3, 300))} if args.rehearse else {
        "forward": ((120, 1024), (24, 32768)), "backward": ((40, 192), (40, 2048), (24, 32768))}
    for name, run in both:
        for n, (count, most) in enumerate(sizes[name]):
            report.step(f"random calls, {name}", lambda run=run, n=n, count=count, most=most: run(
                engine, device, device, count, most, args.seed + 1000 * n, RANDOM_SECONDS))
    report.step("CUDA graphs", lambda: cuda_graph(engine, device))
    report.step("index arrays that are wrong", lambda: wrong_arrays(engine, device))


def steps(args, made, report):
    folder = os.path.join(os.path.dirname(made["cases"]), "flat") if not args.library else args.flat
    number = flatten.flatten(os.path.join(ROOT, "tests", "data", "conformance"), folder)
    cases = [made["cases"], "--backend", "cpu" if args.rehearse else "cuda", "--threads", str(args.jobs)]
    if "conformance" in made:
        report.step("conformance of the instructions",
                    lambda: program([made["conformance"], "tests/data/cuda/conformance.bin"]))
    every = ["--every", "40"] if args.rehearse else []
    report.step(f"{number} conformance cases in every dtype, with gradients",
                lambda: program([*cases, "--folder", folder, "--backward", *every]))
    for name, lists in (("forward", "options,dense"), ("backward", "backward")):
        report.step(f"the tests' lists of cases, {name}",
                    lambda lists=lists: program([*cases, "--lists", lists, *every]))
    on_tensors(args, made, report)
    for tool in ("memcheck", "racecheck", "synccheck"):
        if not args.rehearse or tool == "memcheck":
            name = tool + (", without the tool" if args.rehearse else "")
            report.step(name, lambda tool=tool: sanitize(tool, [*cases[:3], "--folder", folder, "--backward"],
                                                         args.rehearse))
    report.step("the Python package", lambda: python_package(args, made))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rehearse", action="store_true", help="on the CPU: everything but the GPU")
    parser.add_argument("--seed", type=int, default=1, help="of the random calls (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--library", help="libheed_gpu.so that is built already, with gpu_cases beside it; the "
                                          "Python package is then the one that is installed")
    parser.add_argument("--flat", default=os.path.join(ROOT, "build", "gpu-host", "flat"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    report = Report()
    try:
        if args.library:
            made = {"library": args.library,
                    "cases": os.path.join(os.path.dirname(os.path.abspath(args.library)), "gpu_cases")}
        else:
            made = gpu_build.build(arch=None if args.rehearse else "auto", jobs=args.jobs)
        steps(args, made, report)
    except gpu_build.Stop as stop:
        print(stop, file=sys.stderr)
        return stop.code
    return report.verdict()


if __name__ == "__main__":
    sys.exit(main())
