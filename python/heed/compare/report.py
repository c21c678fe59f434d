# compare/report.py: results as a table on the terminal and as Markdown. Not here: plots (plots.py).
from .sides import SIDES


def cells(answer: dict) -> list[str]:
    """milliseconds, times as slow as heed, largest and mean error, MiB"""
    if "ms" not in answer:
        return [""] * 5
    ratio, grown = answer.get("times_heed"), answer.get("bytes")
    return [f"{answer['ms']:.4g}", "" if ratio is None else f"{ratio:.2f}", f"{answer['max_error']:.1e}",
            f"{answer['mean_error']:.1e}", "" if grown is None else f"{grown / 2**20:.1f}"]


HEAD = ("case", "side", "ms", "× heed's time", "max error", "mean error", "MiB")


def rows(result: dict):
    for row in result["cases"]:
        for n, (side, answer) in enumerate(row["sides"].items()):
            why = answer.get("failed") or answer.get("not_offered")
            name = row["case"]["name"] if n == 0 else ""
            yield [name, SIDES[side] + (f": {why}" if why else ""), *cells(answer)]


def introduction(result: dict) -> str:
    return (f"{result['cpu']}, {result['threads']} thread(s); heed {result['heed']}, "
            + ", ".join(f"{n} {v}" for n, v in result["versions"].items())
            + f". The median of {result['rounds']} rounds, each the median of {result['seconds']} s of calls, one side "
            "after the other. Errors against float64. MiB: how far a call raises the memory of its process. "
            "At its best, and math: MKL told that the processor is Intel's. Math in training: the softmax's matrix written out.")


def on_terminal(result: dict) -> None:
    skipped = [f"{SIDES[side]}: {reason}" for side, reason in result["skipped"].items()]
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
    lines += ["", *(f"* {SIDES[side]}: {reason}" for side, reason in result["skipped"].items())]
    return "\n".join(lines).rstrip() + "\n"
