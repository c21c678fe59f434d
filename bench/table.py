"""The rows of the forward speed table and their targets. Not here: running them (run.py)."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    section: str
    label: str
    args: tuple                 # of `heed bench`, for one call
    target: float | None = None  # what `kind` asks for; None: shown, nothing asked
    kind: str = "share"         # share | speedup | latency | loss
    against: tuple = field(default=())  # a second call that the row is relative to

    def calls(self):
        return [self.args, self.against] if self.against else [self.args]


def call(n, d, dtype, *more, sk=None, dv=None, threads=1):
    args = ["--sq", str(n), "--d", str(d), "--dtype", dtype, "--threads", str(threads)]
    if sk is not None:
        args += ["--sk", str(sk)]
    if dv is not None:
        args += ["--dv", str(dv)]
    return (*args, *more)


# Shares of the peak at N = 2048: dtype -> d -> (full, causal). At N = 8192 two points less will do.
MAIN = {
    "f32": {64: (0.90, 0.88), 128: (0.92, 0.88)},
    "bf16": {64: (0.82, 0.79), 128: (0.88, 0.85)},
    "f16": {64: (0.88, 0.85), 128: (0.90, 0.86)},
}


def main_rows():
    for dtype, dims in MAIN.items():
        for d, targets in dims.items():
            for n in (2048, 8192):
                for causal, target in zip((False, True), targets):
                    yield Row("One head, one thread", f"{dtype} d={d} N={n} {'causal' if causal else 'full'}",
                              call(n, d, dtype, *["--causal"] * causal),
                              target - (0.02 if n == 8192 else 0))


def short_rows():
    for dtype, d, target in (("f32", 64, 0.84), ("f32", 128, 0.85), ("bf16", 64, 0.74), ("bf16", 128, 0.80)):
        yield Row("Short causal", f"{dtype} d={d} N=512 causal", call(512, d, dtype, "--causal"), target)
    for dtype, d, target in (("f32", 64, 0.81), ("f32", 128, 0.77), ("bf16", 64, 0.72), ("bf16", 128, 0.76)):
        yield Row("BERT shape: batch 8, 12 heads, 128 tokens", f"{dtype} d={d}",
                  call(128, d, dtype, "--batch", "8", "--heads", "12"), target)
    for dtype, target in (("f32", 0.83), ("bf16", 0.70)):
        yield Row("Narrow heads", f"{dtype} d=32 N=1024", call(1024, 32, dtype), target)


def isa_rows():
    for isa in ("avx512", "avx2"):
        for dtype in ("f32", "f16"):
            for d, target in ((64, 0.87), (128, 0.89)):
                yield Row("Other instruction sets, of their own peak", f"{isa} {dtype} d={d} N=2048",
                          call(2048, d, dtype, "--isa", isa), target)


def thread_rows():
    for dtype in ("f32", "bf16"):
        for heads in (1, 16):
            for causal in (False, True):
                more = [*["--causal"] * causal, "--heads", str(heads)]
                yield Row("Two threads against one",
                          f"{dtype} d=64 N=2048 {heads} head{'s' * (heads > 1)} {'causal' if causal else 'full'}",
                          call(2048, 64, dtype, *more, threads=2), 1.9, "speedup",
                          call(2048, 64, dtype, *more))


def latency_rows():
    section = "Latency: one query, 16 keys, one head, one thread"
    yield Row(section, "with a plan", call(1, 64, "f32", sk=16), 1e-6, "latency")
    yield Row(section, "one-shot", call(1, 64, "f32", "--one-shot", sk=16), 2e-6, "latency")


def neighbour(d, dtype):
    """The share that the nearest head dim of the table has, full."""
    if d <= 16:
        return {"f32": 0.83, "bf16": 0.70}[dtype]  # d = 32
    return MAIN[dtype][64 if d <= 96 else 128][0]


def dim_rows():
    section = "Other head dims, N = 2048 full: nine tenths of the neighbour's share"
    for dtype in ("f32", "bf16"):
        for d in (16, 48, 80, 96, 112, 160, 192, 256, 512):
            yield Row(section, f"{dtype} d={d}", call(2048, d, dtype), 0.9 * neighbour(d, dtype))
        yield Row(section, f"{dtype} d=576 dv=512 (MLA)", call(2048, 576, dtype, dv=512),
                  0.9 * neighbour(576, dtype))
    yield Row("Odd head dims, N = 2048 full", "f32 d=40", call(2048, 40, "f32"), 0.77)
    yield Row("Odd head dims, N = 2048 full", "f32 d=72", call(2048, 72, "f32"), 0.82)


def stride_rows():
    for dtype in ("f32", "bf16"):
        for d in (64, 128):
            for heads in (8, 32):
                more = ("--heads", str(heads), "--layout")
                yield Row("Strided BSHD against contiguous heads, N = 2048 full: points of share lost",
                          f"{dtype} d={d} {heads} heads", call(2048, d, dtype, *more, "bshd"), 0.04, "loss",
                          call(2048, d, dtype, *more, "bhsd"))


def rows():
    yield from main_rows()
    yield from short_rows()
    yield from isa_rows()
    yield from thread_rows()
    yield from latency_rows()
    yield from dim_rows()
    yield from stride_rows()


SWEEP_N = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
STANDARD_N = (512, 1024, 2048, 4096, 8192, 16384)


def sweep():
    """(dtype, d, N, call) of the plot: share of the peak over N."""
    for dtype in MAIN:
        for d in (64, 128):
            for n in SWEEP_N:
                yield dtype, d, n, call(n, d, dtype)


def standard():
    """(N, call) of the plot: time and memory beside standard attention."""
    for n in STANDARD_N:
        yield n, call(n, 64, "f32", "--standard")
