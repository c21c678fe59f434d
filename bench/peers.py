#!/usr/bin/env python3
"""Compares with PyTorch's scaled_dot_product_attention on one thread and writes
bench/results/<date>-<cpu>-peers.{json,md}. Needs torch in the Python that runs it, and a C compiler.

Two columns: as shipped, and at its best. On an AMD processor PyTorch's MKL takes a slower path than on
an Intel one; a shared object that answers MKL's question otherwise is preloaded for the second column
(it changes nothing where MKL takes the fast path anyway). Both sides of a row run one after the other,
several rounds; medians count."""
import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import run

HERE = os.path.dirname(os.path.abspath(__file__))


def rows():
    """(label, arguments of `heed bench`, what PyTorch computes, least ratio or None)"""
    for dtype in ("f32", "bf16"):
        for d in (64, 128):
            base = ["--dtype", dtype, "--d", str(d)]
            for n, causal in ((2048, False), (2048, True), (512, True)):
                yield (f"{dtype} d{d} N={n}{' causal' if causal else ''}",
                       [*base, "--sq", str(n), *(["--causal"] if causal else [])],
                       {"dtype": dtype, "d": d, "n": n, "causal": causal}, None)
    for dtype in ("f32", "bf16"):
        for d in (64, 128):
            yield (f"{dtype} d{d} window of 256, N=8192",
                   ["--dtype", dtype, "--d", str(d), "--sq", "8192", "--window", "255,0"],
                   {"dtype": dtype, "d": d, "n": 8192, "window": 255}, 50)
    for dtype, targets in (("f32", (1.4, 1.28)), ("bf16", (1.75, 1.5))):
        for d, target in zip((64, 128), targets):
            yield (f"{dtype} d{d} N=2048 causal, forward and backward",
                   ["--op", "forward+backward", "--dtype", dtype, "--d", str(d), "--sq", "2048", "--causal"],
                   {"dtype": dtype, "d": d, "n": 2048, "causal": True, "backward": True}, target)
    for dtype in ("f32", "bf16"):
        yield (f"{dtype} decode, 16384 keys, 8 heads share one",
               ["--op", "decode", "--dtype", dtype, "--d", "128", "--sk", "16384", "--heads", "8",
                "--kv-heads", "1"],
               {"dtype": dtype, "d": 128, "n": 16384, "decode": 8}, None)


def worker(case, seconds):
    """Median seconds of PyTorch's call, on standard output."""
    import torch  # pylint: disable=import-outside-toplevel
    torch.set_num_threads(1)
    torch.manual_seed(1)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[case["dtype"]]
    n, d, heads = case["n"], case["d"], case.get("decode", 0)
    make = lambda h, s: torch.randn(1, h, s, d).to(dtype)
    attend = torch.nn.functional.scaled_dot_product_attention
    if heads:
        # The heads of the group as queries of one head: PyTorch's fastest way, and the same result.
        q, k, v = make(1, heads), make(1, n), make(1, n)
        call = lambda: attend(q, k, v)
    else:
        q, k, v = make(1, n), make(1, n), make(1, n)
        if "window" in case:
            i, j = torch.arange(n)[:, None], torch.arange(n)[None, :]
            mask = (j <= i) & (j >= i - case["window"])
            call = lambda: attend(q, k, v, attn_mask=mask)
        else:
            call = lambda: attend(q, k, v, is_causal=case["causal"])
    if case.get("backward"):
        dout = make(1, n)
        for tensor in (q, k, v):
            tensor.requires_grad_()
        forward = call
        # Gradients alone: nothing is added to what tensors hold.
        call = lambda: torch.autograd.grad(forward(), (q, k, v), dout)
    times = []
    with torch.set_grad_enabled(bool(case.get("backward"))):
        call()
        start = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - start < seconds:
            t = time.perf_counter()
            call()
            times.append(time.perf_counter() - t)
    print(json.dumps({"seconds": statistics.median(times), "torch": torch.__version__}))


def intel_shim(folder):
    source, out = os.path.join(folder, "shim.c"), os.path.join(folder, "shim.so")
    with open(source, "w", encoding="utf-8") as f:
        f.write("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", out, source], check=True)
    return out


def run_torch(case, seconds, preload):
    env = dict(os.environ, OMP_NUM_THREADS="1")
    if preload:
        env["LD_PRELOAD"] = preload
    done = subprocess.run([sys.executable, os.path.abspath(__file__), "--worker", json.dumps(case),
                           "--seconds", str(seconds)], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"PyTorch failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def run_heed(bench, arguments):
    result = bench.run(["--threads", "1", *arguments])
    if result is None:
        sys.exit("no comparison: heed's side of it could not be measured")
    return result["seconds_median"]


def markdown(result):
    lines = [f"# Beside PyTorch {result['torch']}, {result['date']}", "",
             f"{result['cpu']}, one thread, milliseconds: the median of {result['rounds']} rounds, each the median "
             f"of {result['seconds']} s of calls, one side after the other. \"At its best\": MKL told that the "
             "processor is Intel's. The ratio is that of PyTorch at its best to heed.", "",
             "| | heed | PyTorch as shipped | at its best | times as fast |", "|---|---|---|---|---|"]
    for r in result["rows"]:
        target = f" (≥ {r['target']})" if r["target"] else ""
        lines.append(f"| {r['label']} | {r['heed'] * 1e3:.3f} | {r['shipped'] * 1e3:.3f} | {r['best'] * 1e3:.3f} | "
                     f"{r['best'] / r['heed']:.2f}{target} |")
    return "\n".join([*lines, ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--heed", default="build/release/cli/heed", help="the program (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of every call (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    parser.add_argument("--only", default="", help="rows whose label matches this expression")
    parser.add_argument("--out", default=os.path.join(HERE, "results"), help="folder (default %(default)s)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(json.loads(args.worker), args.seconds)
    cpu = json.loads(subprocess.check_output([args.heed, "info", "--json"], text=True))["machine"]["cpu"]
    result = {"date": datetime.date.today().isoformat(), "cpu": cpu, "rounds": args.rounds,
              "seconds": args.seconds, "rows": []}
    bench = run.Bench(args.heed, args.seconds)
    with tempfile.TemporaryDirectory() as folder:
        shim = intel_shim(folder)
        for label, arguments, case, target in rows():
            if not re.search(args.only, label):
                continue
            sides = {"heed": [], "shipped": [], "best": []}
            for _ in range(args.rounds):
                sides["heed"].append(run_heed(bench, arguments))
                for name, preload in (("shipped", None), ("best", shim)):
                    answer = run_torch(case, args.seconds, preload)
                    result["torch"] = answer["torch"]
                    sides[name].append(answer["seconds"])
            result["rows"].append({"label": label, "target": target,
                                   **{name: statistics.median(times) for name, times in sides.items()}})
            print(label, {name: f"{statistics.median(t) * 1e3:.3f} ms" for name, t in sides.items()}, file=sys.stderr)
    os.makedirs(args.out, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-")
    stem = os.path.join(args.out, f"{result['date']}-{slug}-peers")
    with open(stem + ".json", "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    with open(stem + ".md", "w", encoding="utf-8") as f:
        f.write(markdown(result))
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
