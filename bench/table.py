"""The rows of the speed tables and their targets, in groups. Not here: running them (run.py)."""
from dataclasses import dataclass, field


# What a row's figure is, and which way its target points.
KINDS = {
    "share": "≥",         # of the peak, flops of visible pairs
    "dense": "≥",         # of the peak, flops of all pairs: where every tile is computed, whatever is hidden in it
    "stream": "≥",        # of a sequential read beside it
    "limit": "≥",         # of the larger of the times that peak and stream allow
    "relative": "≥",      # share of the peak against that of the second call
    "speedup": "≥",       # time of the second call against this one
    "latency": "≤",       # seconds of a call
    "loss": "≤",          # points of share below the second call
    "proportional": "≤",  # time beyond the second call's, scaled to the pairs that are left
}


@dataclass(frozen=True)
class Row:
    section: str
    label: str
    args: tuple                 # of `heed bench`, for one call
    target: float | None = None  # what `kind` asks for; None: shown, nothing asked
    kind: str = "share"         # one of KINDS
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


def forward_rows():
    yield from main_rows()
    yield from short_rows()
    yield from isa_rows()
    yield from thread_rows()
    yield from latency_rows()
    yield from dim_rows()
    yield from stride_rows()


# --------------------------------------------------------------------------- what options cost

SHAPES = (("f32", 64), ("f32", 128), ("bf16", 64), ("bf16", 128))
RANDOM = ("--mask", "random:0.7")
# label, options, kind, targets in the order of SHAPES, in percent
OPTIONS = (
    ("softcap", ("--softcap", "30"), "share", (77, 84, 63, 75)),
    ("ALiBi", ("--alibi",), "share", (81, 86, 68, 79)),
    ("bias, one row for all", ("--bias", "1,1,1,S"), "share", (81, 86, 68, 79)),
    ("bias, one column for all", ("--bias", "1,1,S,1"), "share", (81, 86, 68, 79)),
    ("bias S × S, f32", ("--bias", "1,1,S,S"), "share", (75, 82, 62, 74)),
    ("bias S × S, bf16", ("--bias", "1,1,S,S", "--bias-dtype", "bf16"), "share", (None, None, 62, 74)),
    ("mask, random 70 %, of all pairs", RANDOM, "dense", (78, 84, 65, 76)),
    ("mask, 64-blocks, a quarter visible", ("--mask", "blocks:64:0.25"), "share", (72, 77, 56, 67)),
    ("mask, 128-blocks, a quarter visible", ("--mask", "blocks:128:0.25"), "share", (72, 77, 56, 67)),
    ("dropout 0.1", ("--dropout", "0.1"), "share", (74, 82, 58, 71)),
    ("softcap, ALiBi, bias, random mask, dropout, of all pairs",
     ("--softcap", "30", "--alibi", "--bias", "1,1,S,S", *RANDOM, "--dropout", "0.1"), "dense", (57, 69, 40, 55)),
)
WINDOWS = (("255,0", (78, 78, 69, 75)), ("1023,0", (85, 85, 76, 82)))


def option_rows():
    for label, options, kind, targets in OPTIONS:
        for (dtype, d), target in zip(SHAPES, targets):
            if target is not None:
                yield Row("Options, one head, one thread, N = 2048 full", f"{label}: {dtype} d={d}",
                          call(2048, d, dtype, *options), target / 100, kind)


def window_rows():
    for window, targets in WINDOWS:
        for (dtype, d), target in zip(SHAPES, targets):
            yield Row("Windows, one head, one thread, N = 8192", f"window {window}: {dtype} d={d}",
                      call(8192, d, dtype, "--window", window), target / 100)


def block_rows():
    for share, target in (("0.5", 0.1), ("0.1", 0.2)):
        for dtype, d in SHAPES:
            yield Row("Block maps of 64 × 128, N = 4096: time beyond what is kept of the whole",
                      f"{float(share):.0%} kept: {dtype} d={d}",
                      call(4096, d, dtype, "--block-map", f"64x128:{share}"), target, "proportional",
                      call(4096, d, dtype))


def ragged(lengths, d, dtype, *more, threads=1):
    return ("--lengths", lengths, "--d", str(d), "--dtype", dtype, "--threads", str(threads), *more)


def ragged_rows():
    section = "Ragged batches"
    for dtype in ("f32", "bf16"):
        for threads in (1, 2):
            # 16 · 1238 · 1239 / 2 pairs are those of 128, 256, ..., 2048 tokens to a tenth of a percent.
            yield Row(section, f"16 sequences of 128 to 2048, causal, against as many pairs dense: {dtype} d=64, "
                      f"{threads} thread{'s' * (threads > 1)}",
                      ragged("128-2048:16", 64, dtype, "--causal", threads=threads), 0.95, "relative",
                      call(1238, 64, dtype, "--batch", "16", "--causal", threads=threads))
    yield Row(section, "256 sequences of 64 tokens, 12 heads: f32 d=64", ragged("64x256", 64, "f32", "--heads", "12"), 0.55)


def options_rows():
    yield from option_rows()
    yield from window_rows()
    yield from block_rows()
    yield from ragged_rows()


# --------------------------------------------------------------------------- decoding

def decode(dtype, keys, heads, kv_heads, *more, d=128, layout="bhsd", threads=1, megabytes=256):
    args = ["--op", "decode", "--sk", str(keys), "--heads", str(heads), "--kv-heads", str(kv_heads), "--d", str(d),
            "--dtype", dtype, "--layout", layout, "--threads", str(threads)]
    if megabytes:
        args += ["--kv-total-mb", str(megabytes)]
    return (*args, *more)


def stream_rows():
    section = "Decoding, d = 128, 256 MiB of keys and values, of a sequential read beside it"
    for dtype, targets in (("bf16", (0.86, 0.82)), ("f32", (0.83, 0.78))):
        for keys in (16384, 65536):
            for threads, target in zip((1, 2), targets):
                yield Row(section, f"{dtype}, 8 heads a group, {keys} keys, {threads} thread{'s' * (threads > 1)}",
                          decode(dtype, keys, 32, 4, threads=threads), target, "stream")
    yield Row(section, "bf16, 1 head a group, 16384 keys", decode("bf16", 16384, 4, 4), 0.88, "stream")
    for page, target in ((256, 0.78), (16, 0.70)):
        yield Row(section, f"bf16, 8 heads a group, pages of {page} keys per head in random order",
                  decode("bf16", 16384, 32, 4, "--page-size", str(page)), target, "stream")
    for group, target in ((8, 0.66), (1, 0.62)):
        yield Row(section, f"bf16, 8 kv heads interleaved, {group} head{'s' * (group > 1)} a group",
                  decode("bf16", 16384, 8 * group, 8, layout="bshd"), target, "stream")


def decode_rows():
    yield from stream_rows()
    section = "Decoding, bounded by arithmetic"
    yield Row(section, "MLA: 128 heads, D 576, Dv 512 in the rows of k, bf16, 16384 keys, of the nearer limit",
              decode("bf16", 16384, 128, 1, "--dv", "512", "--v-in-k", d=576, megabytes=0), 0.82, "limit")
    yield Row(section, "4 queries, 8 heads a group, bf16, of the dot peak", decode("bf16", 16384, 32, 4, "--sq", "4"), 0.70)
    section = "Decoding, latency: 8 kv heads, 4 heads a group, 512 keys, d = 128"
    for dtype, target in (("bf16", 28e-6), ("f32", 48e-6)):
        one, two = (decode(dtype, 512, 32, 8, threads=n, megabytes=0) for n in (1, 2))
        yield Row(section, f"{dtype}, one thread", one, target, "latency")
        yield Row(section, f"{dtype}, two threads against one", two, 1.0, "speedup", one)


# --------------------------------------------------------------------------- backward

BACKWARD = ("--op", "backward")
# Shares of the peak, in the order of SHAPES, in percent: N, options, targets.
BACKWARD_PLAIN = (
    (1024, (), (90, 91, 85, 87)), (1024, ("--causal",), (87, 87, 82, 84)),
    (2048, (), (90, 91, 85, 87)), (2048, ("--causal",), (87, 87, 82, 84)),
    (8192, (), (88, 88, 83, 86)), (512, ("--causal",), (85, 84, 75, 79)),
)
BIAS = ("--bias", "1,1,S,S")
BACKWARD_OPTIONS = (
    ("softcap", ("--softcap", "30"), "share", (82, 86, 73, 80)),
    ("ALiBi", ("--alibi",), "share", (82, 86, 76, 81)),
    ("bias, one row for all", ("--bias", "1,1,1,S"), "share", (82, 86, 76, 81)),
    ("bias, one row for all, with its gradient", ("--bias", "1,1,1,S", "--dbias"), "share", (82, 86, 76, 81)),
    ("bias, one column for all, with its gradient", ("--bias", "1,1,S,1", "--dbias"), "share", (82, 86, 76, 81)),
    ("bias S × S", BIAS, "share", (80, 84, 68, 79)),
    ("bias S × S, with its gradient", (*BIAS, "--dbias"), "share", (75, 80, 60, 73)),
    ("dropout 0.1", ("--dropout", "0.1"), "share", (81, 85, 71, 78)),
    ("mask, random 70 %, of all pairs", RANDOM, "dense", (82, 86, 73, 79)),
    ("mask, 64-blocks, a quarter visible", ("--mask", "blocks:64:0.25"), "share", (69, 73, 60, 63)),
    ("softcap, ALiBi, bias with its gradient, random mask, dropout, of all pairs",
     ("--softcap", "30", "--alibi", *BIAS, "--dbias", *RANDOM, "--dropout", "0.1"), "dense", (59, 70, 42, 57)),
)
BACKWARD_WINDOWS = (("255,0", (78, 71, 71, 67)), ("1023,0", (86, 83, 81, 81)))


def backward(n, d, dtype, *more, threads=1):
    return call(n, d, dtype, *BACKWARD, *more, threads=threads)


def backward_plain_rows():
    section = "Backward, one head, one thread"
    for n, more, targets in BACKWARD_PLAIN:
        kind = "causal" if more else "full"
        for (dtype, d), target in zip(SHAPES, targets):
            yield Row(section, f"{dtype} d={d} N={n} {kind}", backward(n, d, dtype, *more), target / 100)
            if dtype == "f32" and n == 2048:
                yield Row(section, f"f16 d={d} N={n} {kind}, of the f32 peak", backward(n, d, "f16", *more), target / 100)
        if n == 2048:
            # Contiguous heads, as one head is, and heads whose rows take turns.
            for layout, lie in (("bhsd", "contiguous"), ("bshd", "interleaved")):
                for (dtype, d), target in zip(SHAPES, targets):
                    yield Row(f"Backward, 8 {lie} heads over 2, one thread", f"{dtype} d={d} N={n} {kind}",
                              backward(n, d, dtype, "--heads", "8", "--kv-heads", "2", "--layout", layout, *more),
                              target / 100)


def backward_option_rows():
    for label, options, kind, targets in BACKWARD_OPTIONS:
        for (dtype, d), target in zip(SHAPES, targets):
            yield Row("Backward with options, one head, one thread, N = 2048 full", f"{label}: {dtype} d={d}",
                      backward(2048, d, dtype, *options), target / 100, kind)
    for window, targets in BACKWARD_WINDOWS:
        for (dtype, d), target in zip(SHAPES, targets):
            yield Row("Backward with windows, one head, one thread, N = 8192", f"window {window}: {dtype} d={d}",
                      backward(8192, d, dtype, "--window", window), target / 100)


def backward_other_rows():
    for dtype in ("f32", "bf16"):
        for heads in (1, 16):
            for causal in (False, True):
                more = [*["--causal"] * causal, "--heads", str(heads)]
                yield Row("Backward, two threads against one",
                          f"{dtype} d=64 N=2048 {heads} head{'s' * (heads > 1)} {'causal' if causal else 'full'}",
                          backward(2048, 64, dtype, *more, threads=2), 1.85, "speedup", backward(2048, 64, dtype, *more))
    for dtype in ("f32", "bf16"):
        # As many pairs as in ragged_rows.
        yield Row("Backward of ragged batches",
                  f"16 sequences of 128 to 2048, causal, against as many pairs dense: {dtype} d=64",
                  ragged("128-2048:16", 64, dtype, *BACKWARD, "--causal"), 0.93, "relative",
                  backward(1238, 64, dtype, "--batch", "16", "--causal"))


def backward_rows():
    yield from sorted(backward_plain_rows(), key=lambda row: row.section, reverse=True)
    yield from backward_option_rows()
    yield from backward_other_rows()


GROUPS = {"forward": forward_rows, "options": options_rows, "decode": decode_rows, "backward": backward_rows}


def rows():
    for group in GROUPS.values():
        yield from group()


SWEEP_N = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
STANDARD_N = (512, 1024, 2048, 4096, 8192, 16384)


PLOTTED = ("forward", "backward")  # groups with curves over N
LONGEST = {"forward": 16384, "backward": 8192}


def sweep(op="forward"):
    """(dtype, d, N, call) of the plot: share of the peak over N."""
    for dtype in MAIN:
        for d in (64, 128):
            for n in SWEEP_N:
                if n <= LONGEST[op]:
                    yield dtype, d, n, call(n, d, dtype, "--op", op)


def standard(op="forward"):
    """(N, call) of the plot: time and memory beside standard attention."""
    for n in STANDARD_N:
        if n <= LONGEST[op]:
            yield n, call(n, 64, "f32", "--op", op, "--standard")
