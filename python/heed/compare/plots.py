# compare/plots.py: speed and memory over N, as PNG. Not here: the numbers.
import math

from .sides import SIDES


def points(result: dict, side: str, what: str):
    for row in result["cases"]:
        answer = row["sides"].get(side, {})
        if row["case"]["sweep"] and answer.get("ms") and answer.get(what if what == "bytes" else "ms") is not None:
            yield row["case"]["sq"], (row["flops"] / answer["ms"] * 1e-6 if what == "speed"
                                      else max(answer["bytes"] / 2**20, 2.0**-6))


def draw(result: dict, stem: str) -> list[str]:
    """Writes <stem>-speed.png and <stem>-memory.png; returns their paths. Needs matplotlib."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    sweep = [row["case"] for row in result["cases"] if row["case"]["sweep"]]
    if not sweep:
        return []
    one, made = sweep[0], []
    threads = "one thread" if result["threads"] == 1 else f"{result['threads']} threads"
    for what, label in (("speed", "GFLOP/s"), ("bytes", "memory of a call, MiB")):
        figure, axes = pyplot.subplots(figsize=(8, 4.2), dpi=120)
        drawn = False
        for n, side in enumerate(SIDES):
            line = sorted(points(result, side, what))
            if line:
                axes.plot(*zip(*line), marker="o", markersize=4, label=SIDES[side], color=f"C{n}",
                          linewidth=2.4 if side == "heed" else 1.3)
                drawn = True
        if drawn:
            ns = sorted({case["sq"] for case in sweep})
            axes.set_xscale("log", base=2)
            axes.set_xticks(ns, [str(n) for n in ns])
            axes.minorticks_off()
            if what == "bytes":
                axes.set_yscale("log", base=2)
                low, high = (math.floor(math.log2(axes.get_ylim()[0])), math.ceil(math.log2(axes.get_ylim()[1])))
                ticks = [2.0**e for e in range(low, high + 1, max(1, (high - low) // 8))]
                axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
            else:
                axes.set_ylim(0)
            axes.set(xlabel="N", ylabel=label, title=f"{'causal ' if one['causal'] else ''}forward, {one['dtype']}, "
                     f"{one['heads']} heads of {one['d']}, {threads}\n{result['cpu']}")
            axes.grid(alpha=0.3)
            # Beside the lines, in the order in which they end: on the axes it would hide some of them.
            ends = sorted(axes.get_lines(), key=lambda line: -line.get_ydata()[-1])
            axes.legend(handles=ends, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
            figure.tight_layout()
            path = f"{stem}-{'memory' if what == 'bytes' else what}.png"
            figure.savefig(path)
            made.append(path)
        pyplot.close(figure)
    return made
