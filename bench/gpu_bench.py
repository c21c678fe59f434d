#!/usr/bin/env python3
"""Times of the cuda backend, forward, backward and decoding, beside PyTorch's flash, efficient and cuDNN
attention and flash-attn where it is installed, in one run, and memory over N (`make gpu-bench`); writes
bench/results/<date>-<gpu>-cuda.{json,md}. Needs nvcc, g++ and torch.

A row: 10 calls of each side to warm up, then rounds in which the sides take turns, each for a tenth of a
second of calls timed by CUDA events, the L2 cache overwritten before every call; the median of a round is
its figure, and that of the rounds the row's. Ratios are of one run. Of a backward the gradients alone are timed,
of others by autograd. A few rows of every result, of a backward all gradients of a head, are judged against
float64. With --rehearse on the CPU, small, against PyTorch's plain attention: everything but the
GPU. Exit 1: a result is wrong. 2: it does not build. 3: there is no GPU here."""
import argparse
import contextlib
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "gpu"), os.path.join(ROOT, "scripts")]

import gpu_build  # pylint: disable=wrong-import-position

FLUSH_BYTES = 512 << 20  # more than any L2 cache, and a tenth of a millisecond


def rows(rehearse):
    """(group, label, spec as a dictionary)"""
    tokens, width = (256, 128) if rehearse else (16384, 2048)
    lengths = (64, 128) if rehearse else (1024, 2048, 4096, 8192, 16384)
    for group in ("forward", "backward"):
        for dtype, dims in (("bf16", (64, 128, 256)), ("f16", (128,))):
            for dim in dims if not rehearse else (64,):
                for causal in (False, True):
                    for n in lengths:
                        heads = max(1, width // dim)
                        yield (group, f"{dtype} d={dim} N={n}{' causal' if causal else ''}",
                               {"batch": tokens // n, "sq": n, "sk": n, "heads": heads, "kv_heads": heads, "dim": dim,
                                "dtype": dtype, "causal": causal, "layout": "bhsd"})
    for keys in (96,) if rehearse else (4096, 16384, 65536):
        for batch, heads, kv_heads in ((1, 32, 8), (16, 32, 8), (16, 32, 32)):
            for layout in ("bhsd", "paged"):
                yield ("decode", f"bf16 d=128, {batch} of {keys} keys, {heads} heads on {kv_heads}"
                                 f"{', pages of 64' if layout == 'paged' else ''}",
                       {"batch": batch, "sq": 1, "sk": keys, "heads": heads, "kv_heads": kv_heads, "dim": 128,
                        "dtype": "bf16", "layout": layout, "page": 64})


def work(group, spec):
    """(flops of visible pairs, bytes of all tensors) of a call: two products of tiles, or five."""
    pairs = spec["batch"] * spec["heads"] * spec["sq"] * spec["sk"] / (2 if spec.get("causal") else 1)
    element = 2
    tokens = spec["batch"] * spec["dim"] * element
    return ((10 if group == "backward" else 4) * pairs * spec["dim"],
            tokens * (2 * spec["sq"] * spec["heads"] + 2 * spec["sk"] * spec["kv_heads"]))


class CpuClock:
    """Stands in for events in a rehearsal."""
    warm_up = 1

    def time(self, calls):
        times = []
        for call in calls:
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return times


class GpuClock:
    """Every call between two events, the L2 cache overwritten before it. The overwriting also gives the
    CPU time to put the call on the stream, so that its own time does not show."""
    warm_up = 10

    def __init__(self, torch):
        self.torch = torch
        self.flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")

    def time(self, calls):
        torch = self.torch
        pairs = []
        for call in calls:
            self.flush.zero_()
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            call()
            last.record()
            pairs.append((first, last))
        torch.cuda.synchronize()
        return [first.elapsed_time(last) * 1e-3 for first, last in pairs]


def measure(clock, sides, rounds, seconds):
    """name -> the figures of the rounds, in seconds."""
    count = {}
    for name, (choice, call) in sides.items():
        with choice():
            clock.time([call] * clock.warm_up)
            once = statistics.median(clock.time([call] * 3))
        count[name] = max(3, min(500, int(seconds / max(once, 1e-7))))
    figures = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (choice, call) in sides.items():
            with choice():
                figures[name].append(statistics.median(clock.time([call] * count[name])))
    return figures


def judged(calls, engine, group, runner):
    """What is wrong with a call's results."""
    import chunks  # pylint: disable=import-outside-toplevel
    spec = runner.made.spec
    last = spec.kv_heads - 1
    if group == "backward":
        verdicts = [chunks.judge(runner, spec.batch - 1, last)]
    else:
        verdicts = [calls.judge(engine, runner, b, first, 16, last)
                    for b, first in ((0, 0), (spec.batch - 1, max(0, spec.sq - 16)))]
    return [words for right, words in verdicts if not right]


def one_row(calls, engine, args, group, spec):
    """The row's figures, and what is wrong with its results."""
    import gpu_peers  # pylint: disable=import-outside-toplevel
    import gradients  # pylint: disable=import-outside-toplevel
    device = "cpu" if args.rehearse else "cuda"
    spec = calls.Spec(**spec, seed=1)
    made = calls.make(spec, device)
    if spec.layout == "paged":  # entries of one length: PyTorch has no others
        made.lengths = [(spec.sq, spec.sk)] * spec.batch
        made.arrays["cache_seqlens"].fill_(spec.sk)
    runner = (gradients.Gradients if group == "backward" else calls.Runner)(engine, made, device)
    runner.poison()
    runner.run()
    wrong = judged(calls, engine, group, runner)
    sides, refused = {"heed": (contextlib.nullcontext, runner.run)}, {}
    memory = {"heed": runner.call.workspace_bytes() + sum(x.nbytes for x in runner.results.values())}
    for name in ("math",) if args.rehearse else gpu_peers.PEERS:
        side = gpu_peers.peer(name, made, runner.dout if group == "backward" else None)
        if isinstance(side, str):
            refused[name] = side
        else:
            sides[name] = side
            memory[name] = gpu_peers.memory(side)
    figures = measure(args.clock, sides, args.rounds, args.seconds)
    return {"seconds": {name: statistics.median(times) for name, times in figures.items()}, "rounds": figures,
            "memory": memory, "refused": refused, "wrong": wrong, "plan": runner.call.describe().splitlines()[0]}


def machine(torch, rehearse):
    facts = {"date": datetime.date.today().isoformat(), "torch": torch.__version__, "gpu": "none, a rehearsal",
             "driver": "", "cuda": str(torch.version.cuda)}
    if not rehearse:
        facts["gpu"] = torch.cuda.get_device_name()
        done = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
                              capture_output=True, text=True, check=False)
        facts["driver"] = done.stdout.split("\n", maxsplit=1)[0].strip()
        facts["cudnn"] = str(torch.backends.cudnn.version())
    return facts


def markdown(result):
    m = result["machine"]
    lines = [f"# The cuda backend beside PyTorch {m['torch']}, {m['date']}", "",
             f"{m['gpu']}, driver {m['driver'] or 'none'}, CUDA {m['cuda']}, cuDNN {m.get('cudnn', 'none')}. "
             f"Medians of {result['rounds']} rounds of {result['seconds']} s, the sides taking turns; × is how many "
             "times as fast heed is in the same run. " + ("A few rows of every result were judged against float64."
                                                         if not result["wrong"] else "SOME RESULTS ARE WRONG."), ""]
    names = result["peers"]
    head = lambda cells: ["| | heed | " + " | ".join(cells) + " |", "|---" * (2 + len(cells)) + "|"]
    shown = lambda *groups: [r for r in result["rows"] if r["group"] in groups and "heed" in r["seconds"]]
    for group, unit in (("forward", "TFLOP/s"), ("backward", "TFLOP/s"), ("decode", "TB/s")):
        lines += [f"## {group}, {unit}", "", *head([cell for n in names for cell in (n, "×")])]
        for r in shown(group):
            amount = r["bytes" if group == "decode" else "flops"] * 1e-12
            heed = r["seconds"]["heed"]
            cells = [f"{amount / heed:.4g}"]
            for n in names:
                other = r["seconds"].get(n)
                cells += [f"{amount / other:.4g}", f"{other / heed:.2f}"] if other else ["refuses", ""]
            lines.append(f"| {r['label']} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## memory beyond the inputs, MiB: results and workspace", "", *head(names)]
    for r in shown("forward", "backward"):
        cells = [r["memory"].get(n) for n in ("heed", *names)]
        lines.append(f"| {r['group']} {r['label']} | " + " | ".join("" if x is None else f"{x / 2**20:.4g}"
                                                                   for x in cells) + " |")
    reasons = sorted({(n, words) for r in result["rows"] for n, words in r["refused"].items()})
    lines += ["", *(f"{n} refuses: {words}" for n, words in reasons)]
    lines += [f"WRONG  {r['label']}: {words}" for r in result["rows"] for words in r["wrong"]]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rehearse", action="store_true", help="on the CPU: everything but the GPU")
    parser.add_argument("--only", default="", help="rows whose group and label match this expression")
    parser.add_argument("--rounds", type=int, default=5, help="(default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a side in a round (default %(default)s)")
    parser.add_argument("--library", help="libheed_gpu.so that is built already")
    parser.add_argument("--out", default=os.path.join(HERE, "results"), help="folder (default %(default)s)")
    args = parser.parse_args()
    chosen = [row for row in rows(args.rehearse) if re.search(args.only, " ".join(row[:2]))]
    if not chosen:
        parser.error(f"no row matches '{args.only}'")
    try:
        library = args.library or gpu_build.build(arch=None if args.rehearse else "auto")["library"]
    except gpu_build.Stop as stop:
        print(stop, file=sys.stderr)
        return stop.code
    import torch  # pylint: disable=import-outside-toplevel
    import calls  # pylint: disable=import-outside-toplevel
    import engine as engines  # pylint: disable=import-outside-toplevel
    import gpu_peers  # pylint: disable=import-outside-toplevel
    if not args.rehearse and not torch.cuda.is_available():
        print("there is a GPU here and this PyTorch cannot use it", file=sys.stderr)
        return 3
    if not args.rehearse and torch.cuda.get_device_capability() < (8, 0):  # Turing has no bf16
        chosen = [row for row in chosen if row[2]["dtype"] != "bf16"]
    engine = engines.Engine(library)
    args.clock = CpuClock() if args.rehearse else GpuClock(torch)
    result = {"machine": machine(torch, args.rehearse), "rounds": args.rounds, "seconds": args.seconds,
              "peers": ["math"] if args.rehearse else list(gpu_peers.PEERS), "rows": []}
    for group, label, spec in chosen:
        flops, size = work(group, spec)
        try:
            row = one_row(calls, engine, args, group, spec)
        except engines.Failed as error:
            row = {"seconds": {}, "rounds": {}, "memory": {}, "refused": {}, "wrong": [str(error)], "plan": ""}
        except torch.cuda.OutOfMemoryError:
            print(group, label, "does not fit this GPU's memory", file=sys.stderr)
            continue
        result["rows"].append({"group": group, "label": label, "spec": spec, "flops": flops, "bytes": size, **row})
        print(group, label, {n: f"{s * 1e3:.4g} ms" for n, s in row["seconds"].items()}, *row["wrong"], file=sys.stderr,
              flush=True)
    result["wrong"] = any(r["wrong"] for r in result["rows"])
    text = markdown(result)
    os.makedirs(args.out, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", result["machine"]["gpu"].lower()).strip("-")
    stem = os.path.join(args.out, f"{result['machine']['date']}-{slug}-cuda")
    with open(stem + ".json", "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    with open(stem + ".md", "w", encoding="utf-8") as f:
        f.write(text)
    print(text)
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
