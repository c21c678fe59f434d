# compare/__main__.py: the command: which cases, which sides, in which order. Not here: what each of them is.
import argparse
import contextlib
import datetime
import glob
import json
import math
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import asdict

import numpy as np

import heed

from . import cases as cases_module
from . import peers, plots, report
from .engine import Engine
from .sides import HEED_TOLD, SIDES

TOLD = (HEED_TOLD, "torch-best", "torch-math")  # MKL is told that the processor is Intel's


def one_case(case, sides, args, folder, shim, kept):
    """Every side computes the case once; then they take turns. `kept`: processes that go on from case to
    case, or None: new ones, in which nothing is left of another case, as memory wants it."""
    data, truth = os.path.join(folder, "data.npz"), os.path.join(folder, "truth.npz")
    made = cases_module.inputs(case)
    np.savez(data, **made)
    if case.op == "train" and shim and "heed" in sides:
        sides = [*sides, HEED_TOLD]
    np.savez(truth, **({} if case.op == "train" else cases_module.truth(case, made)))
    running = {} if kept is None else kept
    try:
        for side in sides:
            if side not in running or not running[side].alive():
                preload = shim if side in TOLD else None
                running[side] = peers.Process(side, args.threads, preload)
        answers = {}
        for side in sides:  # one at a time: memory and time are for one alone
            running[side].load(case, data, truth)
            answers[side] = running[side].answer()
        going = [s for s in sides if "max_error" in answers[s]]
        times = {s: [] for s in going}
        engine = Engine(case, args.threads)
        for n in range(args.rounds):
            engine.time(args.seconds)
            for side in going if n % 2 == 0 else going[::-1]:
                running[side].send(do="time", seconds=args.seconds)
                answer = running[side].answer()
                if "seconds" in answer:
                    times[side].append(answer["seconds"] * 1e3)
                else:
                    answers[side] = answer
    finally:
        if kept is None:
            peers.close(running)
    for side, ms in times.items():
        if ms and "max_error" in answers[side]:
            answers[side].update(ms=statistics.median(ms), ms_rounds=ms)
    for side in answers:
        ours = HEED_TOLD if side in TOLD and HEED_TOLD in answers else "heed"
        if "ms" in answers[side] and "ms" in answers.get(ours, {}):
            answers[side]["times_heed"] = answers[side]["ms"] / answers[ours]["ms"]
    return {"case": asdict(case), "flops": case.flops(), "sides": answers, "engine": engine.found()}


@contextlib.contextmanager
def progress(total):
    """A function to be called with the name of each case that begins."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        console = Console(stderr=True)
    except ImportError:
        console = None
    if console is None or not console.is_terminal:
        count = iter(range(1, total + 1))
        yield lambda name: print(f"{next(count)}/{total} {name}", file=sys.stderr, flush=True)
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                  console=console) as bar:
        task, first = bar.add_task("", total=total), []

        def tell(name):
            bar.update(task, description=name, advance=1 if first else 0)
            first.append(name)

        yield tell


def cases_of(args):
    """{name: case}, in the order of the tables."""
    return {c.name: c for c in (cases_module.quick_cases() if args.quick else cases_module.all_cases())}


def stem(result, folder, date=None):
    """Of the files of a result, which are of one day, one processor and one number of threads."""
    slug = re.sub(r"[^a-z0-9]+", "-", result["cpu"].lower()).strip("-")
    threads = "" if result["threads"] == 1 else f"-{result['threads']}-threads"
    return os.path.join(folder, f"{date or result['date']}-{slug}-python{threads}")


def rows_before(result, args):
    """The rows of the folder's newest files, by name, where --add or --missing goes on with them; the
    result then is of their day."""
    if not (args.add or args.missing):
        return {}
    found = sorted(glob.glob(stem(result, glob.escape(args.out), "[0-9]" * 4 + "-[0-9][0-9]" * 2) + ".json"))
    if not found:
        return {}
    path = found[-1]
    with open(path, encoding="utf-8") as f:
        before = json.load(f)
    for what in ("heed", "versions", "rounds", "seconds"):
        if before[what] != result[what]:
            raise heed.Error(f"{path} has {what} {before[what]}, and this run {result[what]}: one table must be of one "
                             "setting; give another --out")
    result["date"] = before["date"]
    return {row["case"]["name"]: row for row in before["cases"]}


def compare(args):
    cases = cases_of(args)
    chosen = [c for c in cases.values() if re.search(args.only, c.name)]
    if not chosen:
        raise heed.Error(f"no case matches --only {args.only}: --list names them")
    skipped = {s: why for s in args.sides if (why := peers.missing(s))}
    sides = [s for s in args.sides if s not in skipped]
    result = {"date": datetime.date.today().isoformat(), "cpu": peers.cpu()[1], "threads": args.threads,
              "heed": heed.__version__, "versions": peers.versions(), "rounds": args.rounds,
              "seconds": args.seconds, "cases": [], "skipped": skipped}
    rows = rows_before(result, args)
    if args.missing:
        chosen = [c for c in chosen if c.name not in rows]
    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        shim = None
        if {"torch-best", "torch-math"} & set(sides) and peers.cpu()[0] != "GenuineIntel":
            try:
                shim = peers.make_shim(folder)
            except RuntimeError as reason:
                skipped["torch-best"] = str(reason)
                sides = [s for s in sides if s != "torch-best"]
        if not sides:
            raise heed.Error("no side is left: " + "; ".join(f"{SIDES[s]}: {why}" for s, why in skipped.items()))
        kept = {} if args.quick else None
        try:
            with progress(len(chosen)) as tell:
                for case in chosen:
                    if time.monotonic() > end:
                        break
                    tell(case.name)
                    rows[case.name] = one_case(case, sides, args, folder, shim, kept)
                    result["cases"] = [rows[name] for name in cases if name in rows]
                    if args.out:  # what is measured is kept, whatever comes
                        write(result, args.out)
        finally:
            peers.close(kept or {})
    result["cases"] = [rows[name] for name in cases if name in rows]
    left = [c.name for c in chosen if c.name not in rows]
    if left:
        print(f"{len(left)} cases were not begun within {args.minutes:g} minutes", file=sys.stderr)
    return result


def write(result, folder):
    """The JSON and the Markdown; their paths."""
    os.makedirs(folder, exist_ok=True)
    paths = []
    for suffix, text in ((".json", json.dumps(result, indent=1)), (".md", report.markdown(result))):
        paths.append(stem(result, folder) + suffix)
        with open(paths[-1], "w", encoding="utf-8") as f:
            f.write(text)
    return paths


def drawn(result, folder):
    try:
        return plots.draw(result, stem(result, folder))
    except ImportError:
        print("no plots: matplotlib is not installed", file=sys.stderr)
        return []


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m heed.compare", description="heed beside PyTorch, ONNX Runtime and "
                                     "OpenVINO, whichever are installed: time, error against float64, memory.")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases whose name matches")
    parser.add_argument("--sides", default=",".join(SIDES), help="of " + ",".join(SIDES) + " (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="of every side (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of calls in a round (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny cases, to see that everything works")
    parser.add_argument("--out", metavar="FOLDER", help="writes JSON, Markdown and plots there")
    parser.add_argument("--add", action="store_true", help="keep the cases that the newest files in FOLDER have, beside those "
                        "measured now")
    parser.add_argument("--missing", action="store_true", help="as --add, and measure only what they lack")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no case after so many; --missing goes on")
    parser.add_argument("--json", action="store_true", help="JSON on the output instead of a table")
    parser.add_argument("--list", action="store_true", help="names the cases and ends")
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(cases_of(args)))
        return 0
    args.sides = args.sides.split(",")
    unknown = [s for s in args.sides if s not in SIDES]
    if unknown:
        parser.error(f"--sides has {', '.join(unknown)}: the sides are {', '.join(SIDES)}")
    for name in ("threads", "rounds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}: it must be at least 1")
    if (args.add or args.missing) and not args.out:
        parser.error("--add and --missing are given without --out: the folder whose files they go on with")
    if args.quick:
        args.rounds, args.seconds = min(args.rounds, 1), min(args.seconds, 0.001)
    try:
        result = compare(args)
    except (heed.Error, re.error) as error:
        parser.error(str(error))
    if args.json:
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        report.on_terminal(result)
    if args.out:
        for path in [*write(result, args.out), *drawn(result, args.out)]:
            print(f"wrote {path}", file=sys.stderr)
    return 1 if any("failed" in row["sides"].get("heed", {}) for row in result["cases"]) else 0


if __name__ == "__main__":
    sys.exit(main())
