# compare/cases.py: what is compared, the inputs, and the results in float64. Not here: how a side computes
# it (sides.py, gpt.py).
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Case:
    """One row of the comparison. Tensors are (B, S, H, D), those of ragged batches (T, H, D)."""

    name: str
    op: str  # forward, backward (forward and backward), decode, train
    dtype: str = "f32"
    sq: int = 1
    sk: int = 1
    d: int = 64
    batch: int = 1
    heads: int = 1
    kv_heads: int = 1
    causal: bool = False
    window: int | None = None  # keys before the query's own that it sees
    lengths: tuple[int, ...] | None = None
    sweep: bool = False  # a point of the plots
    layers: int = 6  # of the trained model, whose features are heads * d

    def tiny(self) -> "Case":
        """The same in small, to be called before anything is measured."""
        small = dict(vars(self), sq=min(self.sq, 8), sk=min(self.sk, 8), layers=1)
        return Case(**dict(small, lengths=None if self.lengths is None else (8, 4)))

    def pairs(self) -> int:
        """Visible pairs of a query and a key, in all entries and heads."""
        def of(sq, sk):
            if not self.causal and self.window is None:
                return sq * sk
            last = np.arange(sq, dtype=np.int64) + sk - sq
            first = np.zeros_like(last) if self.window is None else np.maximum(last - self.window, 0)
            return int(np.maximum(last - first + 1, 0).sum())
        if self.lengths is not None:
            return self.heads * sum(of(n, n) for n in self.lengths)
        return self.batch * self.heads * of(self.sq, self.sk)

    def flops(self) -> int:
        """Multiplications and additions of the products: 4 d a pair, 14 d with the gradients."""
        return 0 if self.op == "train" else (14 if self.op == "backward" else 4) * self.d * self.pairs()


def all_cases() -> Iterator[Case]:
    for dtype in ("f32", "bf16", "f16"):
        for d in (64, 128):
            for n, causal in ((2048, False), (2048, True), (512, True)):
                if dtype != "f16" or (causal and n == 2048):
                    yield Case(f"forward {dtype} d{d} N={n}{' causal' if causal else ''}", "forward", dtype, n, n, d,
                               causal=causal)
    for dtype in ("f32", "bf16"):
        for d in (64, 128):
            yield Case(f"forward and backward {dtype} d{d} N=2048 causal", "backward", dtype, 2048, 2048, d,
                       causal=True)
    for dtype in ("f32", "bf16"):
        yield Case(f"decode {dtype} 16384 keys, 8 heads share one, d128", "decode", dtype, 1, 16384, 128, heads=8)
    for dtype in ("f32", "bf16"):
        yield Case(f"one query {dtype} 512 keys, 32/8 heads, d128", "decode", dtype, 1, 512, 128, heads=32, kv_heads=8)
    for dtype in ("f32", "bf16"):
        yield Case(f"window {dtype} 256 of 8192, d64", "forward", dtype, 8192, 8192, 64, causal=True, window=255)
    for dtype in ("f32", "bf16"):
        yield Case(f"BERT shape {dtype} B=8 H=12 S=128 d64", "forward", dtype, 128, 128, 64, 8, 12, 12)
    for dtype in ("f32", "bf16"):
        yield Case(f"ragged {dtype} 8 sequences of 64 to 1024, H=4 d64 causal", "forward", dtype, d=64, heads=4,
                   kv_heads=4, causal=True, lengths=(1024, 64, 300, 777, 128, 512, 91, 640))
    for dtype in ("f32", "bf16"):
        yield Case(f"training step of a GPT {dtype}, 6 layers, 384 features, S=1024", "train", dtype, 1024, 1024, 64,
                   heads=6, kv_heads=6, causal=True)
    for n in (256, 512, 1024, 2048, 4096, 8192):
        yield Case(f"sweep f32 H=2 d64 causal N={n}", "forward", "f32", n, n, 64, heads=2, kv_heads=2, causal=True,
                   sweep=True)


def quick_cases() -> Iterator[Case]:
    """Every kind of case in a size that takes no time, to see that everything works."""
    yield Case("forward f32 N=48 causal", "forward", "f32", 48, 48, 16, causal=True)
    yield Case("forward bf16 N=40", "forward", "bf16", 40, 40, 16)
    yield Case("forward and backward f32 N=40 causal", "backward", "f32", 40, 40, 16, causal=True)
    yield Case("decode f32 100 keys", "decode", "f32", 1, 100, 16, heads=8, kv_heads=2)
    yield Case("window f32 8 of 64", "forward", "f32", 64, 64, 16, causal=True, window=7)
    yield Case("ragged f32", "forward", "f32", d=16, heads=2, kv_heads=2, causal=True, lengths=(20, 3, 11))
    yield Case("training step of a GPT f32", "train", "f32", 16, 16, 8, heads=2, kv_heads=2, causal=True, layers=1)
    yield Case("training step of a GPT bf16", "train", "bf16", 16, 16, 8, heads=2, kv_heads=2, causal=True, layers=1)
    for n in (32, 64):
        yield Case(f"sweep f32 N={n}", "forward", "f32", n, n, 16, heads=2, kv_heads=2, causal=True, sweep=True)


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """float32 numbers that the dtype has."""
    if dtype == "f16":
        return x.astype(np.float16).astype(np.float32)
    if dtype == "bf16":  # to nearest, ties to even, in the upper half of a float32
        bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return bits.astype(np.uint32).view(np.float32)
    return x.astype(np.float32)


def inputs(case: Case, seed: int = 1) -> dict[str, np.ndarray]:
    """q, k, v, dout in float32, of numbers that the dtype has."""
    rng = np.random.default_rng(seed)
    rows = {"q": case.sq, "k": case.sk, "v": case.sk, "dout": case.sq}
    made = {}
    for name, n in rows.items():
        heads = case.kv_heads if name in ("k", "v") else case.heads
        shape = (sum(case.lengths), heads, case.d) if case.lengths else (case.batch, n, heads, case.d)
        made[name] = rounded(rng.standard_normal(shape, np.float32), case.dtype)
    return made


def _one(case, q, k, v, dout, rows):
    """float64 of one head: (Sq, D), (Sk, D); `rows` of the queries."""
    i, j = (np.arange(q.shape[0]) + k.shape[0] - q.shape[0])[rows, None], np.arange(k.shape[0])[None, :]
    s = q[rows] @ k.T / np.sqrt(case.d)
    if case.causal:
        s[j > i] = -np.inf
    if case.window is not None:
        s[j < i - case.window] = -np.inf
    s -= s.max(-1, keepdims=True)
    p = np.exp(s, out=s)
    p /= p.sum(-1, keepdims=True)
    o = p @ v
    if dout is None:
        return o, None, None, None
    dp = dout @ v.T
    ds = p * (dp - (dout * o).sum(-1, keepdims=True)) / np.sqrt(case.d)
    return o, ds @ k, ds.T @ q, p.T @ dout


def truth(case: Case, data: dict[str, np.ndarray], most: int = 256) -> dict[str, np.ndarray]:
    """o, and dq, dk, dv for gradients, in float64. Of long sequences without gradients `most` rows are
    computed, which `rows` numbers."""
    wide = {n: x.astype(np.float64) for n, x in data.items()}
    backward = case.op == "backward"
    parts: list[tuple] = [(b,) for b in range(case.batch)]
    if case.lengths is not None:
        ends = np.cumsum((0, *case.lengths))
        parts = [(slice(a, b),) for a, b in zip(ends, ends[1:])]
    rows = np.arange(case.sq)
    if not backward and case.lengths is None and case.sq > most:
        rows = np.sort(np.random.default_rng(2).choice(case.sq, most, replace=False))
    out: dict[str, Any] = {"o": np.zeros(wide["q"].shape), **{
        f"d{n}": np.zeros(wide[n].shape) for n in "qkv" if backward}}
    group = case.heads // case.kv_heads
    for part in parts:
        for h in range(case.heads):
            at, kv = (*part, slice(None), h), (*part, slice(None), h // group)
            if case.lengths is not None:
                at, kv = (part[0], h), (part[0], h // group)
            q, k, v = wide["q"][at], wide["k"][kv], wide["v"][kv]
            some = rows if case.lengths is None else np.arange(q.shape[0])
            o, dq, dk, dv = _one(case, q, k, v, wide["dout"][at] if backward else None, some)
            if backward:
                out["o"][at], out["dq"][at] = o, dq
                out["dk"][kv] += dk
                out["dv"][kv] += dv
            else:
                whole = out["o"][at]
                whole[some] = o
    if case.lengths is None:
        out["o"] = out["o"][:, rows]
        out["rows"] = rows
    return out
