#!/usr/bin/env python3
"""Everything that needs a GPU in one command (`make gpu-test`): builds, then conformance of the
instructions, all cases of the tests, large random calls, the bits of repeated runs and of batch neighbours,
a CUDA graph, index arrays that are wrong, and compute-sanitizer. Exit 0: all passed. 1: something failed.
2: it does not build. 3: there is no GPU here. Needs nvcc, g++ and, for the calls, torch.

With --rehearse all of it but the GPU: the backends of the CPU on small calls."""
import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

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


def program(command, seconds=240, lines=12):
    """The last line of what a program prints; its end, raised, where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, cwd=ROOT)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{os.path.basename(command[0])} took more than {seconds} s") from error
    text = (done.stdout + done.stderr).strip().splitlines() or ["it printed nothing"]
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}\n        " + "\n        ".join(text[-lines:]))
    return text[-1]


# ---------------------------------------------------------------- random calls

def dtypes(device):
    """Those that the device multiplies: Turing has no bf16, and the backend says so (tests/cuda)."""
    import torch  # pylint: disable=import-outside-toplevel
    turing = device == "cuda" and torch.cuda.get_device_capability() < (8, 0)
    return ("f16", "f32") if turing else ("bf16", "f16", "f32")


def random_specs(calls, count, most, seed, types):
    """Calls over all options, up to `most` queries and keys."""
    rng = random.Random(seed)
    for n in range(count):
        some = lambda *values: rng.choice(values)
        layout = some("bshd", "bhsd", "padded", "packed", "ragged", "ragged", "paged", "paged", "cache")
        cached = layout in ("cache", "paged")
        kv_heads = some(1, 2, 4)
        heads = kv_heads * some(1, 1, 2, 4, 8)
        sk = rng.randint(most // 8, most)
        sq = sk if layout == "packed" else some(1, rng.randint(1, 9), sk, rng.randint(1, most)) if cached \
            else some(sk, rng.randint(1, most))
        dim = some(64, 128, 128, 256, 8, 40, 72, 96, 192, rng.randint(1, 256))
        if layout == "packed":
            heads = kv_heads
        plain = n % 4 == 0  # the kernels without options, too
        window = (-1, -1) if plain or rng.random() < 0.6 else (rng.randint(0, sk), some(-1, 0, rng.randint(0, sk)))
        align = some("bottom_right", "top_left", "offset")
        # What takes a byte for every pair of every head stays below a gigabyte.
        pairs = sq * sk
        yield calls.Spec(
            sq=sq, sk=sk, heads=heads, kv_heads=kv_heads, dim=dim, dtype=some(*types),
            dim_v=dim if layout == "packed" else some(dim, dim, dim, rng.randint(1, 256)), batch=rng.randint(1, 3),
            layout=layout, causal=window[1] < 0 and rng.random() < 0.5, window=window, align=align,
            offset=rng.randint(-9, sk) if align == "offset" else 0,
            prefix=0 if plain else some(0, 0, 0, rng.randint(1, 99)),
            chunk=0 if plain else some(0, 0, 0, rng.randint(64, 2 * most)),
            scale=None if plain else some(None, None, 0.1, -0.05), softcap=0.0 if plain else some(0.0, 0.0, 20.0),
            alibi=not plain and rng.random() < 0.3,
            bias="" if plain or cached else some("", "", "full" if 4 * heads * pairs < 2**30 else "keys", "keys"),
            mask=not plain and not cached and rng.random() < 0.25,
            block_map=() if plain or cached or rng.random() < 0.7 else some((64, 64), (128, 16), (100, 52)),
            sinks=not plain and rng.random() < 0.3, key_lengths=layout in ("bshd", "bhsd") and rng.random() < 0.4,
            page=some(1, 16, 64, 256, 7), seed=seed + n)


def check_call(engine, calls, spec, device, backend, rng):
    """Raises with the spec's words where a call is wrong."""
    made = calls.make(spec, device)
    runner = calls.Runner(engine, made, backend)
    runner.poison()
    runner.run()
    o, lse = runner.o.clone(), runner.lse.clone()
    runner.poison()
    runner.run()
    if not (calls.same(runner.o, o) and calls.same(runner.lse, lse)):
        raise RuntimeError(f"a second run gave other bits: {spec}")
    places = []
    for b in sorted({0, spec.batch - 1}):
        one = calls.Runner(engine, calls.alone(made, b), backend)
        one.poison()
        one.run()
        if not (calls.same(one.entry(0)[3], runner.entry(b)[3]) and calls.same(one.entry(0)[4], runner.entry(b)[4])):
            raise RuntimeError(f"entry {b} alone has other bits than beside its neighbours: {spec}")
        sq = made.lengths[b][0]
        places += [(b, first, rng.randrange(spec.kv_heads)) for first in {0, max(0, sq - 16), rng.randrange(sq)}]
    # The library judges without Python's lock.
    with ThreadPoolExecutor(len(places)) as pool:
        judged = list(pool.map(lambda at: calls.judge(engine, runner, at[0], at[1], 16, at[2]), places))
    for (b, first, kv_head), (right, words) in zip(places, judged):
        if not right:
            raise RuntimeError(f"queries from {first} of entry {b}, kv head {kv_head}: {words}: {spec}")


def random_calls(engine, calls, device, backend, count, most, seed):
    rng = random.Random(seed)
    done, refused, wrong = 0, {}, []
    from engine import Failed  # pylint: disable=import-outside-toplevel
    for spec in random_specs(calls, count, most, seed, dtypes(device)):
        try:
            check_call(engine, calls, spec, device, backend, rng)
            done += 1
        except Failed as error:
            refused[str(error)] = refused.get(str(error), 0) + 1
        except RuntimeError as error:
            wrong.append(str(error))
            if len(wrong) == 5:
                break
    if wrong or refused or not done:
        raise RuntimeError("\n        ".join([*wrong, *(f"{n} times: {words}" for words, n in refused.items())]))
    return f"{done} calls of up to {most} queries and keys, each twice and its entries alone"


def cuda_graph(engine, calls, device, backend):
    """A capture allows neither allocation nor synchronisation."""
    import torch  # pylint: disable=import-outside-toplevel
    if device == "cpu":
        raise Skip("there are none on the CPU")
    specs = [calls.Spec(sq=1024, sk=1024, heads=8, kv_heads=2, dim=128, causal=True, dtype="f16"),
             calls.Spec(sq=1, sk=4096, heads=16, kv_heads=2, dim=128, batch=3, layout="paged", dtype="f16"),
             calls.Spec(sq=512, sk=777, heads=4, kv_heads=4, dim=64, mask=True, batch=2, dtype="f16")]
    for spec in specs:
        runner = calls.Runner(engine, calls.make(spec, device), backend).run()
        o = runner.o.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            runner.run()
        runner.poison()
        graph.replay()
        torch.cuda.synchronize()
        if not calls.same(runner.o, o):
            raise RuntimeError(f"a replayed graph gave other bits: {spec}")
    return f"{len(specs)} calls captured and replayed"


def wrong_arrays(engine, calls, device, backend):
    """Index arrays on a device are brought into range: garbage in them reaches no foreign memory."""
    import torch  # pylint: disable=import-outside-toplevel
    if device == "cpu":
        raise Skip("arrays in host memory are checked before the call")
    garbage = [2**31 - 1, -2**31, -1, 10**6, 7]
    for spec in (calls.Spec(sq=33, sk=300, heads=4, kv_heads=2, dim=64, batch=4, layout="ragged", dtype="f16"),
                 calls.Spec(sq=2, sk=500, heads=8, kv_heads=2, dim=128, batch=4, layout="paged", dtype="f16"),
                 calls.Spec(sq=100, sk=200, heads=4, kv_heads=4, dim=64, batch=4, key_lengths=True, dtype="f16")):
        made = calls.make(spec, device)
        for name in ("cu_seqlens_q", "cu_seqlens_k", "cache_seqlens", "block_table", "key_lengths"):
            if name in made.arrays:
                flat = made.arrays[name].view(-1)
                flat.copy_(torch.tensor([garbage[n % 5] for n in range(flat.numel())], dtype=torch.int32))
        calls.Runner(engine, made, backend).run()
        torch.cuda.synchronize()
    return "three calls returned"


# ---------------------------------------------------------------- the steps

def sanitizer():
    """The program, beside nvcc where it is not on PATH."""
    found = shutil.which("compute-sanitizer")
    beside = os.path.join(os.path.dirname(os.path.realpath(shutil.which("nvcc") or "nvcc")), "compute-sanitizer")
    return found or (beside if os.path.exists(beside) else None)


def sanitize(tool, cases, folder):
    tool_path = sanitizer()
    if not tool_path:
        raise Skip("compute-sanitizer is not installed")
    return program([tool_path, "--tool", tool, "--error-exitcode", "9", "--print-limit", "5", cases, "--folder", folder,
                    "--lists", "small", "--every", "29" if tool == "memcheck" else "67"], seconds=100, lines=30)


def steps(args, made, report):
    backend, device = ("cpu", "cpu") if args.rehearse else ("cuda", "cuda")
    folder = os.path.join(os.path.dirname(made["cases"]), "flat") if not args.library else args.flat
    number = flatten.flatten(os.path.join(ROOT, "tests", "data", "conformance"), folder)
    cases = [made["cases"], "--backend", backend, "--threads", str(args.jobs)]
    if "conformance" in made:
        report.step("conformance of the instructions",
                    lambda: program([made["conformance"], "tests/data/cuda/conformance.bin"]))
    report.step(f"{number} conformance cases in every dtype", lambda: program([*cases, "--folder", folder]))
    every = ["--every", "20"] if args.rehearse else []
    report.step("the tests' lists of cases", lambda: program([*cases, "--lists", "options,dense", *every]))
    try:
        import calls  # pylint: disable=import-outside-toplevel
        import engine as engines  # pylint: disable=import-outside-toplevel
        import torch  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        report.skipped.append("calls on torch tensors")
        print(f"skipped calls on torch tensors: {error}", flush=True)
    else:
        engine = engines.Engine(made["library"])
        if device == "cuda" and not torch.cuda.is_available():
            raise gpu_build.Stop("there is a GPU here and this PyTorch cannot use it", 3)
        small = (6, 96) if args.rehearse else (120, 1024)
        report.step("random calls", lambda: random_calls(engine, calls, device, backend, *small, args.seed))
        if not args.rehearse:
            report.step("random large calls",
                        lambda: random_calls(engine, calls, device, backend, 20, 8192, args.seed + 1000))
        report.step("a CUDA graph", lambda: cuda_graph(engine, calls, device, backend))
        report.step("index arrays that are wrong", lambda: wrong_arrays(engine, calls, device, backend))
    if not args.rehearse:
        for tool in ("memcheck", "racecheck", "synccheck"):
            report.step(tool, lambda tool=tool: sanitize(tool, made["cases"], folder))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rehearse", action="store_true", help="on the CPU: everything but the GPU")
    parser.add_argument("--seed", type=int, default=1, help="of the random calls (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--library", help="libheed_gpu.so that is built already, with gpu_cases beside it")
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
