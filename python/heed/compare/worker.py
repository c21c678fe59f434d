# compare/worker.py: a process that computes with one side: reads commands and writes answers, JSON a line.
# Not here: which process is asked what and when (peers.py, __main__.py).
import gc
import json
import os
import statistics
import sys
import threading
import time
import traceback

import numpy as np

from . import sides
from .cases import Case, inputs


def _memory(field: str) -> int | None:
    """Bytes of this process as the system counts them; None where it does not."""
    try:
        with open("/proc/self/status", encoding="ascii") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def growth(call) -> tuple[object, int | None]:
    """The result of a call, and how far the memory of the process rose above what it was before."""
    gc.collect()
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as f:
            f.write("5")  # forgets the highest point so far
    except OSError:
        return call(), None
    before = _memory("VmRSS")
    result = call()
    peak = _memory("VmHWM")
    return result, None if before is None or peak is None else max(0, peak - before)


def spread(processors: list[int]) -> None:
    """Every thread of this process to a processor of its own, the calling one to the first: a scheduler that
    saves processors may put those that were asleep on one of them for tens of milliseconds."""
    threads = sorted(int(name) for name in os.listdir("/proc/self/task"))
    threads.remove(threading.get_native_id())
    places = [(threading.get_native_id(), processors[0])]
    places += [(t, processors[1 + i % (len(processors) - 1)]) for i, t in enumerate(threads)]
    for thread, processor in places:
        try:
            os.sched_setaffinity(thread, {processor})
        except OSError:  # it has ended
            pass


class Worker:
    def __init__(self, side: str, threads: int):
        self.side, self.threads, self.call = side, threads, None
        # OpenVINO computes in threads of its own, which it places itself.
        self.processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.spreads = side != "openvino" and 1 < threads <= len(self.processors)
        if side.startswith(("heed", "torch")):
            try:
                import torch
                torch.set_num_threads(threads)
            except ImportError:
                pass

    def _prepare(self, case, data):
        if case.op == "train":
            if self.side in ("onnxruntime", "openvino"):
                raise sides.NotOffered("no training")
            try:
                from . import gpt
            except ImportError:
                raise sides.NotOffered("training needs PyTorch") from None
            return gpt.prepare(self.side, case, self.threads)
        call, numbers = sides.prepare(self.side, case, data, self.threads)
        return call, numbers, None

    def load(self, message):
        """Prepares the case, computes it once: errors and memory."""
        case = Case(**message["case"])
        case.lengths = None if case.lengths is None else tuple(case.lengths)
        if "torch" in sys.modules:
            sys.modules["torch"].set_grad_enabled(case.op in ("backward", "train"))
        tiny = case.tiny()
        self._prepare(tiny, inputs(tiny))[0]()  # what a library does once
        with np.load(message["data"]) as stored:
            data = dict(stored)
        self.call, numbers, truth = self._prepare(case, data)
        result, grown = growth(self.call)
        got = numbers(result)
        del result
        with np.load(message["truth"]) as stored:
            want = dict(stored)
        if not want and truth is not None:  # the first side that trains computes it for all
            want = truth()
            np.savez(message["truth"], **want)
        rows = want.pop("rows", None)
        if rows is not None:
            got["o"] = got["o"][:, rows]
        errors = [abs(got[n] - want[n]) for n in want]
        return {"max_error": max(float(e.max(initial=0.0)) for e in errors),
                "mean_error": float(np.mean([e.mean() for e in errors])), "bytes": grown}

    def time(self, message):
        """The median of calls that together take the seconds that are asked for, three at least."""
        if self.spreads:
            spread(self.processors)
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - start < message["seconds"]:
            t = time.perf_counter()
            self.call()
            times.append(time.perf_counter() - t)
        return {"seconds": statistics.median(times), "calls": len(times)}


def main() -> None:
    # Libraries print what they like; answers have a way of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = getattr(worker, message["do"])(message)
        except sides.NotOffered as reason:
            answer = {"not_offered": str(reason)}
        except Exception as error:  # pylint: disable=broad-except
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
