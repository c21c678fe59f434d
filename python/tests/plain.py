# plain.py: attention and its gradients in float64 by the definitions of docs/semantics.md, one entry and
# one matrix at a time, with how far a program in f32 or 16 bits may be off. Not here: any engine.
import math

import numpy as np

U = 2.0**-24  # the unit roundoff of f32


def _mulhilo(a, b):
    product = a.astype(np.uint64) * np.uint64(b)
    return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)


def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011): four uint32 arrays and two numbers to four uint32 arrays."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        h0, l0 = _mulhilo(c0, 0xD2511F53)
        h1, l1 = _mulhilo(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = h1 ^ c1 ^ np.uint32(k0), l1, h0 ^ c3 ^ np.uint32(k1), l0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def keep(p_drop, seed, offset, head, sq, sk):
    """Which of (sq, sk) probabilities stay; head is b · H + h."""
    i, j = np.meshgrid(np.arange(sq), np.arange(sk), indexing="ij")
    words = philox(((j >> 2).astype(np.uint32), i.astype(np.uint32), np.full(i.shape, head, np.uint32),
                    np.full(i.shape, offset % 2**32, np.uint32)),
                   (seed % 2**32, (seed >> 32) ^ (offset >> 32)))
    return np.choose(j & 3, words) >= int(p_drop * 2**32)


def sees(sq, sk, *, causal=False, align="bottom_right", query_offset=None, window=(-1, -1), prefix=0,
         chunk=0):
    shift = query_offset if query_offset is not None else sk - sq if align == "bottom_right" else 0
    i, j = np.arange(sq)[:, None] + shift, np.arange(sk)[None, :]
    left, right = window
    right = 0 if causal else right
    visible = np.ones((sq, sk), bool)
    if left >= 0:
        visible &= j - i >= -left
    if right >= 0:
        visible &= j - i <= right
    if chunk:
        visible &= i // chunk == j // chunk
    return visible | (j < prefix), shift


def spread(array, b, heads, sq, sk):
    """Entry b of an option that broadcasts, as (heads, sq, sk)."""
    array = np.asarray(array)
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    one = array[b if array.shape[0] > 1 else 0]
    one = one[:, : sq if one.shape[1] > 1 else 1, : sk if one.shape[2] > 1 else 1]
    return np.broadcast_to(one, (heads, sq, sk))


class Entry:
    """One entry of a batch: q (Sq, H, D), k (Sk, Hk, D), v (Sk, Hk, Dv), everything in float64."""

    def __init__(self, q, k, v, b=0, *, scale=None, softcap=0.0, alibi_slopes=None, bias=None, mask=None,
                 block_map=None, block_size=None, sinks=None, dropout_p=0.0, seed=0, offset=0, **geometry):
        q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
        sq, heads, d = q.shape
        sk, group = k.shape[0], heads // k.shape[1]
        self.q, self.kh, self.vh, self.group = q, k.repeat(group, 1), v.repeat(group, 1), group
        self.scale = 1 / math.sqrt(d) if scale is None else scale
        raw = np.einsum("ihd,jhd->hij", q, self.kh) * self.scale
        size = np.einsum("ihd,jhd->hij", abs(q), abs(self.kh)) * abs(self.scale)  # rounding grows with it
        s = raw
        self.slope = np.ones_like(s)
        if softcap > 0:
            s = softcap * np.tanh(raw / softcap)
            self.slope = 1 - np.tanh(raw / softcap) ** 2
        visible, shift = sees(sq, sk, **geometry)
        most = abs(s)
        if alibi_slopes is not None:
            slopes = np.asarray(alibi_slopes).astype(np.float64)
            slopes = slopes[b] if slopes.ndim == 2 else slopes
            far = abs(np.arange(sq)[:, None] + shift - np.arange(sk)[None, :])
            s = s - slopes[:, None, None] * far
            most = most + abs(slopes[:, None, None] * far)
        if bias is not None:
            s = s + spread(bias, b, heads, sq, sk).astype(np.float64)
            finite = np.nan_to_num(spread(bias, b, heads, sq, sk).astype(np.float64), neginf=0.0)
            most = most + abs(finite)
        hidden = ~np.broadcast_to(visible, s.shape)
        if mask is not None:
            hidden = hidden | ~spread(mask, b, heads, sq, sk)
        if block_map is not None:
            rows, cols = block_size
            blocks = spread(block_map, b, heads, -(-sq // rows), -(-sk // cols))
            hidden = hidden | ~blocks.repeat(rows, 1).repeat(cols, 2)[:, :sq, :sk]
        s = np.where(hidden, -np.inf, s)
        sink = None if sinks is None else np.asarray(sinks).astype(np.float64)[:, None]
        m = s.max(-1, initial=-np.inf)
        m = m if sink is None else np.maximum(m, sink)
        m = np.where(np.isfinite(m), m, 0.0)
        total = np.exp(s - m[..., None]).sum(-1) + (0 if sink is None else np.exp(sink - m))
        with np.errstate(divide="ignore"):
            self.lse = np.where(total > 0, m + np.log(total), -np.inf)
        # Not exp(s − lse), which loses log l beside a lowest float.
        some = np.where(total > 0, total, 1.0)
        self.p = np.exp(s - m[..., None]) / some[..., None]
        self.p_sink = None if sink is None else np.exp(sink - m) / some
        self.kept = np.ones_like(self.p)
        if dropout_p:
            self.kept = np.stack([keep(dropout_p, seed, offset, b * heads + h, sq, sk)
                                  for h in range(heads)]) / (1 - dropout_p)
        self.o = np.einsum("hij,jhd->ihd", self.p * self.kept, self.vh)
        # A score is off by so much at most: its products and sums, and its terms, each rounded once.
        seen = np.where(hidden, 0.0, (d + 4) * size + 8 * most)
        self.e_s = U * seen.max(-1, initial=0.0)
        self.n, self.d = sk, d

    def gradients(self, dout, dlse=None):
        dout = np.asarray(dout).astype(np.float64)
        dlse = np.zeros_like(self.lse) if dlse is None else np.asarray(dlse).astype(np.float64)
        dlse = np.where(np.isfinite(self.lse), dlse, 0.0)
        delta = np.einsum("ihd,ihd->hi", self.o, dout)
        dp = self.kept * np.einsum("ihd,jhd->hij", dout, self.vh)
        ds = self.p * (dp - (delta - dlse)[..., None])
        raw = ds * self.slope * self.scale

        def grouped(x):
            return x.reshape(x.shape[0], x.shape[1] // self.group, self.group, x.shape[-1]).sum(2)

        out = {"dq": np.einsum("hij,jhd->ihd", raw, self.kh),
               "dk": grouped(np.einsum("hij,ihd->jhd", raw, self.q)),
               "dv": grouped(np.einsum("hij,ihd->jhd", self.p * self.kept, dout)), "ds": ds}
        if self.p_sink is not None:
            out["dsinks"] = (self.p_sink * (dlse - delta)).sum(-1)
        # The same sums of magnitudes: an error relative to a factor is at most relative to these.
        size = self.p * (self.kept * np.einsum("ihd,jhd->hij", abs(dout), abs(self.vh))
                         + np.einsum("ihd,ihd->hi", abs(self.o), abs(dout))[..., None] + abs(dlse)[..., None])
        out["size"] = {"dq": np.einsum("hij,jhd->ihd", size * abs(self.scale), abs(self.kh)),
                       "dk": grouped(np.einsum("hij,ihd->jhd", size * abs(self.scale), abs(self.q))),
                       "dv": grouped(np.einsum("hij,ihd->jhd", self.p * self.kept, abs(dout))), "ds": size}
        if self.p_sink is not None:
            out["size"]["dsinks"] = (self.p_sink * (abs(dlse) + np.einsum(
                "ihd,ihd->hi", abs(self.o), abs(dout)))).sum(-1)
        return out


# Roundings of a probability before its product, and of a result: docs/numerics.md.
P_ROUNDING = {"f32": 0.0, "f16": 0.0, "bf16": 2.0**-8, "f64": 0.0}
ROUNDING = {"f32": U, "f16": 2.0**-11, "bf16": 2.0**-8, "f64": 2.0**-53}
SMALLEST = {"f32": 2.0**-126, "f16": 2.0**-24, "bf16": 2.0**-126, "f64": 0.0}  # underflow, absolute


def relative(entry, dtype):
    """How far a probability may be off, relative to itself, by row (H, Sq): twice its score's error, for
    the sum it is divided by is off, too; exp2 and its polynomial 2⁻²¹; a sum of n terms."""
    if dtype == "f64":
        return np.full(entry.e_s.shape, (entry.n + entry.d + 64) * 2.0**-52 + 2 * entry.e_s * 2.0**-29)
    return 2 * np.expm1(np.minimum(entry.e_s, 1.0)) + 2.0**-21 + (entry.n + 8) * U


def output_bound(entry, dtype):
    """(Sq, H, Dv): the sum's size times what its weights are off by; then the result is rounded."""
    size = np.einsum("hij,jhd->ihd", entry.p * entry.kept, abs(entry.vh))
    weights = relative(entry, dtype).T[..., None] + 2 * P_ROUNDING[dtype] + 2.0**-20 * (dtype != "f64")
    return size * weights + ROUNDING[dtype] * abs(entry.o) * 1.01 + SMALLEST[dtype]


def lse_bound(entry):
    finite = np.where(np.isfinite(entry.lse), entry.lse, 0.0)
    return entry.e_s + 2.0**-20 + (entry.n + 8) * U + 4 * U * abs(finite)


def gradient_bound(entry, gradients, name, dtype):
    """Every gradient is a sum over its size; each term is off by p (or, in the slope of a softcap, by the
    score), by dP and delta (sums over D), by o as it is stored, by p and ds as they are rounded."""
    worst = float(relative(entry, dtype).max(initial=0.0))
    each = 2 * worst + (entry.d + entry.q.shape[0] * entry.group + 32) * U + 4 * P_ROUNDING[dtype] \
        + (2 * ROUNDING[dtype] if dtype in ("f16", "bf16") else 0)
    if dtype == "f64":
        each = 4 * worst + 2.0**-23  # lse comes in f32
    total = gradients["size"][name] * each
    stored = "f32" if name == "dsinks" else dtype
    return total + ROUNDING[stored] * abs(gradients[name]) * 1.01 + SMALLEST[stored] * (1 + entry.n)
