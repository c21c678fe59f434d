#!/usr/bin/env python3
"""Draws the plot of a result: share of the peak over N, and memory beside standard attention.

Usage: plot.py RESULT.json PLOT.png. Needs matplotlib."""
import json
import sys

import matplotlib

matplotlib.use("Agg")  # no display needed
from matplotlib import pyplot as plt  # noqa: E402

COLOURS = {"f32": "#1b6ca8", "bf16": "#c8553d", "f16": "#588157"}


def draw_share(axes, points):
    for dtype, colour in COLOURS.items():
        for d, style in ((64, "--"), (128, "-")):
            chosen = [p for p in points if p["dtype"] == dtype and p["d"] == d]
            if chosen:
                axes.plot([p["n"] for p in chosen], [100 * p["fraction_of_peak"] for p in chosen],
                          style, color=colour, marker="o", markersize=3, label=f"{dtype}, d = {d}")
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 100)
    axes.set_xlabel("N (queries = keys)")
    axes.set_ylabel("% of the peak measured beside it")
    axes.set_title("forward, one head, one thread, full")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def draw_memory(axes, points):
    n = [p["n"] for p in points]
    axes.plot(n, [p["standard_bytes"] / 1e6 for p in points], "-", color="#777777", marker="o",
              markersize=3, label="standard attention")
    axes.plot(n, [p["workspace_bytes"] / 1e6 for p in points], "-", color=COLOURS["f32"], marker="o",
              markersize=3, label="heed")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("N (queries = keys)")
    axes.set_ylabel("MB besides inputs and output")
    axes.set_title("memory, f32, d = 64, one head")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        result = json.load(f)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    draw_share(left, result["plots"]["share"])
    draw_memory(right, result["plots"]["standard"])
    figure.suptitle(f"heed {result['version']} · {result['machine']['cpu']} · {result['date']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=120)


if __name__ == "__main__":
    main()
