# compare/report.py: results as a table on the terminal and as Markdown. Not here: plots (plots.py).
from .sides import NAMES


HEAD = ("case", "side", "ms", "× heed's time", "of peak", "max error", "mean error", "MiB")


def of_peak(row: dict, answer: dict) -> float | None:
    """The share of the processor's peak that an answer reaches, counting the products of visible pairs."""
    peak = row.get("engine", {}).get("peak_gflops")
    return row["flops"] / answer["ms"] * 1e-6 / peak if peak and row["flops"] else None


def cells(row: dict, answer: dict) -> list[str]:
    """milliseconds, times as slow as heed, share of the peak, largest and mean error, MiB"""
    if "ms" not in answer:
        return [""] * (len(HEAD) - 2)
    shown = [(answer["ms"], ".4g"), (answer.get("times_heed"), ".2f"), (of_peak(row, answer), ".1%"),
             (answer.get("max_error"), ".1e"), (answer.get("mean_error"), ".1e"),
             (None if answer.get("bytes") is None else answer["bytes"] / 2**20, ".1f")]
    return ["" if x is None else format(x, form) for x, form in shown]


def rows(result: dict):
    for row in result["cases"]:
        for n, (side, answer) in enumerate(row["sides"].items()):
            why = answer.get("failed") or answer.get("not_offered")
            name = row["case"]["name"] if n == 0 else ""
            yield [name, NAMES[side] + (f": {why}" if why else ""), *cells(row, answer)]
            engine, ours = row.get("engine"), answer.get("ms")
            if side == "heed" and engine and ours:
                yield ["", "heed without Python", *cells(row, dict(engine, times_heed=engine["ms"] / ours))]


def introduction(result: dict) -> str:
    return (f"{result['cpu']}, {result['threads']} thread(s); heed {result['heed']}, "
            + ", ".join(f"{n} {v}" for n, v in result["versions"].items())
            + f". The median of {result['rounds']} rounds, each the median of {result['seconds']} s of calls, one side "
            "after the other. Errors against float64. MiB: how far a call raises the memory of its process. "
            "Of peak: of the multiplications and additions that `heed bench` reaches with registers alone; without Python: its "
            "own time for the case. "
            "At its best, and math: MKL told that the processor is Intel's. In training heed stands twice, and each side "
            "beside the one with the same MKL; math there: the softmax's matrix written out.")


def on_terminal(result: dict) -> None:
    skipped = [f"{NAMES[side]}: {reason}" for side, reason in result["skipped"].items()]
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(introduction(result))
        for row in [HEAD, *rows(result)]:
            print(f"{row[0]:<56} {row[1]:<24} " + " ".join(f"{c:>13}" for c in row[2:]))
        print("\n".join(skipped))
        return
    console = Console()
    view = Table(title=f"heed {result['heed']} beside others", caption=introduction(result))
    for name in HEAD:
        view.add_column(name, justify="left" if name in HEAD[:2] else "right")
    for row in rows(result):
        if row[0] and view.rows:
            view.add_section()
        view.add_row(*row, style="bold" if row[1] == "heed" else None)
    console.print(view)
    for line in skipped:
        console.print(line, markup=False)


def markdown(result: dict) -> str:
    lines = [f"# heed beside others, {result['date']}", "", introduction(result), "",
             "| " + " | ".join(HEAD) + " |", "|---|---|" + "---:|" * (len(HEAD) - 2)]
    lines += ["| " + " | ".join(c.replace("|", "/") for c in row) + " |" for row in rows(result)]
    lines += ["", *(f"* {NAMES[side]}: {reason}" for side, reason in result["skipped"].items())]
    return "\n".join(lines).rstrip() + "\n"
