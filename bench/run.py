#!/usr/bin/env python3
"""Runs the speed tables and writes bench/results/<date>-<cpu>-<group>.{json,md,png} for each group of rows.

Every row is a process of its own that measures its own peak; the whole table is run several times over,
so that a disturbance hits rounds, not rows, and the median of the rounds is what counts.
Standard library only; the plot (plot.py) needs matplotlib."""
import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import time

import table

HERE = os.path.dirname(os.path.abspath(__file__))
# Debian's matplotlib belongs to Debian's Python, which need not be the first in the PATH.
PYTHONS = (sys.executable, "/usr/bin/python3")


# A peak below this share of the largest one measured on this machine is what other work left of it
# (bench/busy.h): such a call is made again, and what was measured before the larger one was seen is dropped.
STEADY = 0.8
PATIENCE = (5, 20, 60)  # seconds between the attempts


def kind_of(args):
    """What a peak depends on: dtype, instruction set, threads."""
    return tuple(args[args.index(name) + 1] if name in args else "" for name in ("--dtype", "--isa", "--threads"))


class Bench:
    def __init__(self, heed, seconds, any_peak=False):
        self.heed, self.seconds, self.any_peak = heed, seconds, any_peak
        self.usual = {}  # kind -> the largest peak, GFLOP/s

    def info(self):
        return json.loads(subprocess.check_output([self.heed, "info", "--json"], text=True))

    def run(self, args):
        """The JSON of one call, or None with the reason printed."""
        kind = kind_of(args)
        for wait in (*PATIENCE, None):
            more = ["--any-peak"] if self.any_peak else ["--usual-peak", str(self.usual.get(kind, 0))]
            command = [self.heed, "bench", "--json", "--seconds", str(self.seconds), *more, *args]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not done.returncode:
                result = json.loads(done.stdout)
                self.usual[kind] = max(self.usual.get(kind, 0), result["peak_gflops"] or 0)
                return result
            if wait is None or "busy with other work" not in done.stderr:
                break
            time.sleep(wait)
        print(f"\n  {' '.join(args)}: {done.stderr.strip()}", file=sys.stderr)
        return None

    def steady(self, args, result):
        """Whether the peak that was measured beside a call is this machine's."""
        peak = result and result["peak_gflops"]
        return self.any_peak or not peak or peak >= STEADY * self.usual.get(kind_of(args), 0)


def value(row, results):
    """What a row is about, from the results of its calls in one round."""
    if any(r is None for r in results):
        return None
    first = results[0]
    second = results[-1]
    share = first["fraction_of_peak"]
    return {
        "share": lambda: share,
        "dense": lambda: share * first["dense_flops"] / first["flops"],
        "stream": lambda: first["fraction_of_stream"],
        "limit": lambda: first["fraction_of_limit"],
        "relative": lambda: share / second["fraction_of_peak"],
        "speedup": lambda: second["seconds_median"] / first["seconds_median"],
        "latency": lambda: first["seconds_median"],
        "loss": lambda: second["fraction_of_peak"] - share,
        "proportional": lambda: second["fraction_of_peak"] / share - 1,
    }[row.kind]()


def meets(row, measured):
    if measured is None or row.target is None:
        return None
    # Shares are compared as they are printed, in whole tenths of a point.
    digits = 9 if row.kind == "latency" else 3
    a, b = round(measured, digits), round(row.target, digits)
    return a <= b if table.KINDS[row.kind] == "≤" else a >= b


def limit_share(row, samples):
    """Of the nearer of the two limits, stream and arithmetic, for rows that are measured against the stream."""
    shares = [results[0]["fraction_of_limit"] for results in samples if results[0]]
    return statistics.median(shares) if row.kind == "stream" and shares else None


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def run_table(bench, rows, rounds):
    samples = [[] for _ in rows]
    for r in range(rounds):
        for i, row in enumerate(rows):
            progress(f"round {r + 1} of {rounds}: {i + 1} of {len(rows)}, {row.section}, {row.label}")
            samples[i].append([bench.run(args) for args in row.calls()])
    progress("")
    out = []
    for row, ss in zip(rows, samples):
        ss = [results for results in ss if all(map(bench.steady, row.calls(), results))]
        vs = [v for results in ss if (v := value(row, results)) is not None]
        measured = statistics.median(vs) if vs else None
        out.append({"section": row.section, "label": row.label, "kind": row.kind, "target": row.target,
                    "measured": measured, "meets": meets(row, measured), "rounds": vs,
                    "of_limit": limit_share(row, ss),
                    "calls": [" ".join(args) for args in row.calls()], "samples": ss})
    return out


def run_plots(bench, group):
    share, memory = [], []
    if group not in table.PLOTTED:
        return {"share": share, "standard": memory}
    for dtype, d, n, args in table.sweep(group):
        progress(f"plot: {dtype} d={d} N={n}")
        if (r := bench.run(args)) is not None:
            share.append({"dtype": dtype, "d": d, "n": n, "fraction_of_peak": r["fraction_of_peak"]})
    for n, args in table.standard(group):
        progress(f"plot: standard attention N={n}")
        if (r := bench.run(args)) is not None:
            memory.append({"n": n, "workspace_bytes": r["workspace_bytes"], "seconds": r["seconds_median"],
                           "standard_bytes": r["standard_bytes"],
                           "standard_seconds": r["standard_seconds_median"],
                           "max_abs_difference": r["max_abs_difference"]})
    progress("")
    return {"share": share, "standard": memory}


def peaks(result):
    """"f32 118.2, bf16 236.4": the best peak of one thread with the default instruction set, GFLOP/s."""
    best = {}
    for row in result["table"]:
        for r in (r for results in row["samples"] for r in results if r):
            if r["threads"] == 1 and r["isa"] == result["isa"] and r["peak_gflops"]:
                best[r["dtype"]] = max(best.get(r["dtype"], 0), r["peak_gflops"])
    return ", ".join(f"{dtype} {peak:.1f}" for dtype, peak in best.items())


def shown(kind, x):
    if x is None:
        return "–"
    return {"latency": f"{x * 1e6:.2f} µs", "speedup": f"{x:.2f} ×",
            "loss": f"{100 * x + 0:.1f} points", "proportional": f"{100 * x + 0:+.1f} %"}.get(kind, f"{100 * x:.1f} %")


def busy(result):
    """A warning where the machine had other work: every figure is then too low."""
    load = max(result["load"])
    if load <= result["machine"]["processors"] + 0.5:
        return f"Load average at most {load:.1f}."
    return f"**The machine was busy with other work: load average up to {load:.1f}.**"


def markdown(result, plot):
    m, b = result["machine"], result["build"]
    lines = [f"# {result['group'].capitalize()}, {result['date']}", "",
             f"{m['cpu']}, {m['processors']} processors, L1d {m['l1d_bytes'] >> 10} KB, "
             f"L2 {m['l2_bytes'] >> 10} KB, L3 {m['l3_bytes'] >> 20} MB; heed {result['version']}, "
             f"{b['compiler']}, {b['type']}; default instruction set {result['isa']}. Peaks of one thread, GFLOP/s: "
             f"{peaks(result)}. {busy(result)}",
             "", "Shares are of the peak measured in the same process (f32 multiply-adds, or bf16 dot products "
             f"where the instruction set has them). Each figure is the median of {result['rounds']} round(s), each "
             f"the median of {result['seconds']} s of calls. The targets are for a core with AVX512-BF16.", ""]
    section = None
    for row in result["table"]:
        if row["section"] != section:
            section = row["section"]
            lines += [f"## {section}", "", "| | target | measured | |", "|---|---|---|---|"]
        sign = table.KINDS[row["kind"]]
        verdict = {True: "met", False: "**short**", None: ""}[row["meets"]]
        limit = f" ({100 * row['of_limit']:.1f} % of the nearer limit)" if row["of_limit"] else ""
        lines.append(f"| {row['label']} | {sign} {shown(row['kind'], row['target'])} | "
                     f"{shown(row['kind'], row['measured'])}{limit} | {verdict} |")
        rows = result["table"]
        if row is rows[-1] or rows[rows.index(row) + 1]["section"] != section:
            lines.append("")
    if result["plots"]["standard"]:
        lines += ["## Beside standard attention", "",
                  f"f32, d = 64, one head, one thread, {result['group']}: OpenBLAS for the products, a vectorised exp, "
                  "all scores in memory.", "", "| N | heed | standard | times as long | workspace | its memory | differ by |",
                  "|---|---|---|---|---|---|---|"]
        for r in result["plots"]["standard"]:
            lines.append(f"| {r['n']} | {r['seconds'] * 1e3:.2f} ms | {r['standard_seconds'] * 1e3:.2f} ms | "
                         f"{r['standard_seconds'] / r['seconds']:.2f} | {r['workspace_bytes'] / 1e6:.2f} MB | "
                         f"{r['standard_bytes'] / 1e6:.1f} MB | {r['max_abs_difference']:.1e} |")
        lines.append("")
    if plot:
        lines += [f"![the rows of this table]({plot})", ""]
    return "\n".join(lines)


def draw(json_path, png_path):
    """Runs plot.py with the first Python that has matplotlib."""
    for python in PYTHONS:
        try:
            done = subprocess.run([python, os.path.join(HERE, "plot.py"), json_path, png_path],
                                  capture_output=True, text=True, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return True
    print("no plot: no Python with matplotlib (Debian: python3-matplotlib)", file=sys.stderr)
    return False


def measure(args, bench, info, group, rows):
    load = [os.getloadavg()[0]]
    result = {"date": datetime.date.today().isoformat(), "group": group, "version": info["version"],
              "build": info["build"], "machine": info["machine"], "features": info["features"],
              "isa": next((i["name"] for b in info["backends"] for i in b["isas"] if i["usable"]), ""),
              "rounds": args.rounds, "seconds": args.seconds, "table": run_table(bench, rows, args.rounds),
              "plots": {"share": [], "standard": []} if args.no_plots else run_plots(bench, group)}
    result["load"] = [*load, os.getloadavg()[0]]
    return result


def write(args, group, result):
    os.makedirs(args.out, exist_ok=True)
    cpu = re.sub(r"[^a-z0-9]+", "-", result["machine"]["cpu"].lower()).strip("-")
    stem = os.path.join(args.out, f"{result['date']}-{cpu}-{group}")
    with open(stem + ".json", "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    plotted = not args.no_plots and draw(stem + ".json", stem + ".png")
    text = markdown(result, os.path.basename(stem) + ".png" if plotted else "")
    with open(stem + ".md", "w", encoding="utf-8") as f:
        f.write(text)
    print(text)
    print(f"written: {stem}.json, .md{', .png' if plotted else ''}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--heed", default="build/release/cli/heed", help="the program (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of every call (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="over the whole table (default %(default)s)")
    parser.add_argument("--group", choices=table.GROUPS, help="one group of rows (default all, each its own result)")
    parser.add_argument("--only", default="", help="rows whose section or label matches this expression")
    parser.add_argument("--any-peak", action="store_true", help="measure on a busy machine, too")
    parser.add_argument("--no-plots", action="store_true", help="only the table")
    parser.add_argument("--out", default=os.path.join(HERE, "results"), help="folder (default %(default)s)")
    args = parser.parse_args()

    bench = Bench(args.heed, args.seconds, args.any_peak)
    info = bench.info()
    usable = {isa["name"] for b in info["backends"] for isa in b["isas"] if isa["usable"]}
    found = False
    for group in [args.group] if args.group else table.GROUPS:
        rows = [row for row in table.GROUPS[group]()
                if re.search(args.only, f"{row.section} {row.label}", re.IGNORECASE)
                and all(row.args[i + 1] in usable for i, a in enumerate(row.args) if a == "--isa")]
        if rows:
            found = True
            write(args, group, measure(args, bench, info, group, rows))
    if not found:
        parser.error("no row matches")
    return 0


if __name__ == "__main__":
    sys.exit(main())
