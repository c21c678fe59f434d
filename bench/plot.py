#!/usr/bin/env python3
"""Draws the plot of a result: of the forward and the backward the share of the peak over N, and memory beside standard attention; of the
other groups one bar a row, with its target.

Usage: plot.py RESULT.json PLOT.png. Needs matplotlib."""
import json
import sys

import matplotlib

matplotlib.use("Agg")  # no display needed
from matplotlib import pyplot as plt  # noqa: E402

COLOURS = {"f32": "#1b6ca8", "bf16": "#c8553d", "f16": "#588157"}


def draw_share(axes, points, group):
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
    axes.set_title(f"{group}, one head, one thread, full")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def draw_memory(axes, points, group):
    n = [p["n"] for p in points]
    axes.plot(n, [p["standard_bytes"] / 1e6 for p in points], "-", color="#777777", marker="o",
              markersize=3, label="standard attention")
    axes.plot(n, [p["workspace_bytes"] / 1e6 for p in points], "-", color=COLOURS["f32"], marker="o",
              markersize=3, label="heed")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("N (queries = keys)")
    axes.set_ylabel("MB besides inputs and output")
    axes.set_title(f"memory, f32, d = 64, one head, {group}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


# Figures that are shares; the others have units of their own and stay in the table.
SHARES = ("share", "dense", "stream", "limit", "relative")


def draw_rows(result):
    """One bar a row, sections below one another, the target as a line across it."""
    rows = [r for r in result["table"] if r["kind"] in SHARES and r["measured"] is not None]
    figure, axes = plt.subplots(figsize=(11, 1 + 0.24 * len(rows)))
    places = range(len(rows))
    sections = list(dict.fromkeys(r["section"] for r in rows))
    tints = ("#1b6ca8", "#c8553d", "#588157", "#7d5ba6", "#777777")
    axes.barh(places, [100 * r["measured"] for r in rows], height=0.72,
              color=[tints[sections.index(r["section"]) % len(tints)] for r in rows])
    for place, row in zip(places, rows):
        if row["target"] is not None:
            axes.plot([100 * row["target"]] * 2, [place - 0.42, place + 0.42], color="#212529", linewidth=1.5)
        axes.text(1, place, f"{100 * row['measured']:.1f}", va="center", fontsize=7, color="white")
    axes.set_yticks(list(places), [r["label"] for r in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, max(100, *(100 * r["measured"] for r in rows)))
    axes.set_xlabel("% of what the row is measured against; the line is its target")
    axes.grid(alpha=0.3, axis="x")
    return figure


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        result = json.load(f)
    if result["plots"]["share"]:
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
        draw_share(left, result["plots"]["share"], result["group"])
        draw_memory(right, result["plots"]["standard"], result["group"])
    elif any(r["kind"] in SHARES for r in result["table"]):
        figure = draw_rows(result)
    else:
        sys.exit("no row of this result is a share")
    figure.suptitle(f"heed {result['version']} · {result['machine']['cpu']} · {result['date']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=120)


if __name__ == "__main__":
    main()
