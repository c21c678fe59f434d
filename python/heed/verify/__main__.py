# verify/__main__.py: the command, its table and its verdict in words. Not here: the checks (_check.py).
import argparse
import contextlib
import json
import sys
import time

import heed

from . import verify


def table(results, console):
    from rich.table import Table
    view = Table("where", "dtype", "what", "checks", "worst error, of what rounding allows", "verdict")
    for r in results:
        view.add_row(r.where, r.dtype, r.what, str(r.checks), f"{r.worst:.1%}",
                     "[red]wrong[/red]" if r.failed else "[green]right[/green]")
    console.print(view)


def plain(results):
    print(f"{'where':<16} {'dtype':<6} {'what':<20} {'checks':>6}  {'worst':>7}  verdict")
    for r in results:
        print(f"{r.where:<16} {r.dtype:<6} {r.what:<20} {r.checks:>6}  {r.worst:>7.1%}  "
              f"{'WRONG' if r.failed else 'right'}")
    print("(worst: the largest error as a share of what rounding allows)")


def verdict(results, not_here, seconds):
    checks, failed = sum(r.checks for r in results), [f"{r.where} {r.dtype} {f}" for r in results for f in r.failed]
    lines = [f"not checked: {line}" for line in not_here]
    if not checks:
        return [*lines, "Nothing was checked."]
    if failed:
        lines += [f"wrong: {line}" for line in failed[:20]]
        return [*lines, f"heed {heed.__version__} computes WRONG results on this machine: {len(failed)} of {checks} "
                "comparisons are beyond what rounding allows."]
    worst = max(results, key=lambda r: r.worst)
    return [*lines, f"heed {heed.__version__} works on this machine: {checks} comparisons, none beyond "
            f"{worst.worst:.0%} of what rounding allows ({worst.where}, {worst.dtype}); {seconds:.1f} s."]


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m heed.verify", description="Checks heed on this machine: every instruction set, dtype and a "
        "sample of the options against the reference in float64. Exit code 0: all right, 1: something is wrong.")
    parser.add_argument("--only", default="", metavar="NAME", help="backends whose name contains it (avx2)")
    parser.add_argument("--no-pytorch", action="store_true", help="not through PyTorch")
    parser.add_argument("--json", action="store_true", help="one JSON object on the output instead of a table")
    args = parser.parse_args(argv)
    console = None
    if not args.json:
        with contextlib.suppress(ImportError):
            from rich.console import Console
            console = Console()
    start = time.perf_counter()
    if console is not None and console.is_terminal:
        with console.status("checking") as status:
            results, not_here = verify(only=args.only, pytorch=not args.no_pytorch,
                                       progress=lambda name: status.update(f"checking: {name}"))
    else:
        results, not_here = verify(only=args.only, pytorch=not args.no_pytorch)
    seconds = time.perf_counter() - start
    lines = verdict(results, not_here, seconds)
    right = bool(results) and not any(r.failed for r in results)
    if args.json:
        json.dump({"heed": heed.__version__, "right": right, "seconds": seconds, "not_checked": not_here,
                   "results": [vars(r) for r in results], "verdict": lines[-1]}, sys.stdout, indent=1)
        print()
    else:
        if console is not None:
            table(results, console)
        else:
            plain(results)
        print("\n".join(lines))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
