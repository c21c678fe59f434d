# rotary.py: rotary embedding (Su et al. 2021) and its scaled form (xPos: Sun et al. 2022), in the names of
# flash_attn.layers.rotary. Compositions of PyTorch's operators, differentiable in x. Not here: rotation
# inside a call on a cache, which heed.decode does.
"""Rotary embedding: apply_rotary_emb and RotaryEmbedding."""
from typing import Any

import torch
from torch import Tensor

from ..._core import ArgumentTypeError, Error
from ..._torch import is_compiling

__all__ = ["RotaryEmbedding", "apply_rotary_emb", "apply_rotary_emb_func", "apply_rotary_emb_kv_",
           "apply_rotary_emb_qkv_", "apply_rotary_emb_torch", "rotate_half"]


def rotate_half(x: Tensor, interleaved: bool = False) -> Tensor:
    """(−b, a) of the pairs (a, b): entries 2i and 2i + 1, or i and i + D/2."""
    if interleaved:
        return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


def _rotated(x, cos, sin, interleaved):
    """x with its pairs rotated; cos, sin broadcast to half of x. In float32, rounded to the dtype of x."""
    first, second = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
    first, second, cos, sin = first.float(), second.float(), cos.float(), sin.float()
    pair = (first * cos - second * sin, first * sin + second * cos)
    return (torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)).to(x.dtype)


def apply_rotary_emb_torch(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """x (B, S, H, D) rotated from position 0 on; cos, sin (S, R / 2) or (B, S, R / 2)."""
    ro = 2 * cos.shape[-1]
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    return torch.cat((_rotated(x[..., :ro], cos, sin, interleaved), x[..., ro:]), -1)


def _check(x, cos, sin):
    for name, t in (("x", x), ("cos", cos), ("sin", sin)):
        if not isinstance(t, Tensor):
            raise ArgumentTypeError(f"{name} is a {type(t).__name__}: it must be a PyTorch tensor")
    if cos.dim() != 2 or cos.shape != sin.shape:
        raise Error(f"cos has the shape {tuple(cos.shape)} and sin {tuple(sin.shape)}: both must be "
                    "(positions, R / 2)")
    if 2 * cos.shape[-1] > x.shape[-1]:
        raise Error(f"cos rotates {2 * cos.shape[-1]} entries: x has {x.shape[-1]} in its last axis, and it "
                    "must be at most so many")


def _in_table(last, cos):
    if last > cos.shape[0]:
        raise Error(f"cos has {cos.shape[0]} positions: seqlen_offsets and the length of x need {last}")


def _tables(x, cos, sin, seqlen_offsets, cu_seqlens):
    """cos and sin for every row of x, as (…, 1, R / 2) before the head axis."""
    ragged = cu_seqlens is not None
    if x.dim() != (3 if ragged else 4):
        raise Error(f"x has the shape {tuple(x.shape)}: it must be "
                    + ("(T, H, D) with cu_seqlens" if ragged else "(B, S, H, D) without cu_seqlens"))
    offsets = isinstance(seqlen_offsets, Tensor) and seqlen_offsets.dim() > 0
    batch = cu_seqlens.numel() - 1 if ragged else x.shape[0]
    if offsets and seqlen_offsets.shape != (batch,):
        raise Error(f"seqlen_offsets has the shape {tuple(seqlen_offsets.shape)}: it must be ({batch},)")
    if isinstance(seqlen_offsets, Tensor) and not offsets and seqlen_offsets.is_cuda:  # it stays there
        seqlen_offsets, offsets = seqlen_offsets.expand(batch), True
    if not offsets:
        seqlen_offsets = int(seqlen_offsets)
    if not ragged and not offsets:
        s = x.shape[1]
        if seqlen_offsets < 0:
            raise Error(f"seqlen_offsets is {seqlen_offsets}: it must be 0 or more")
        _in_table(seqlen_offsets + s, cos)
        rows = slice(seqlen_offsets, seqlen_offsets + s)
        return cos[rows].unsqueeze(-2), sin[rows].unsqueeze(-2)
    if ragged:
        at = torch.arange(x.shape[0], device=x.device)
        entry = torch.bucketize(at, cu_seqlens[1:], right=True).clamp(max=max(batch - 1, 0))
        rows = at - cu_seqlens[entry] + (seqlen_offsets[entry] if offsets else seqlen_offsets)
    else:
        rows = torch.arange(x.shape[1], device=x.device) + seqlen_offsets[:, None]
    if rows.is_cuda:  # not read, and not beyond the tables
        rows = rows.clamp(0, max(cos.shape[0] - 1, 0))
    elif not is_compiling() and rows.numel():
        if int(rows.min()) < 0:
            raise Error(f"seqlen_offsets lead to position {int(rows.min())}: it must be 0 or more")
        _in_table(int(rows.max()) + 1, cos)
    return cos[rows].unsqueeze(-2), sin[rows].unsqueeze(-2)


def apply_rotary_emb(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False,
                     inplace: bool = False, seqlen_offsets: int | Tensor = 0,
                     cu_seqlens: Tensor | None = None, max_seqlen: int | Tensor | None = None) -> Tensor:
    """Rotates the first R entries of x; the others pass through.

    Parameters
    ----------
    x : (B, S, H, D), or (T, H, D) with cu_seqlens. Differentiable.
    cos, sin : (positions, R / 2)
    interleaved : pairs (0, 1), (2, 3), …; else (0, R/2), (1, R/2 + 1), ….
    inplace : write into x and return it.
    seqlen_offsets : the position of row 0: an integer, or integers (B,).
    cu_seqlens : int32 (B + 1,). max_seqlen is not needed.

    Returns
    -------
    like x. Computed in float32, rounded once.
    """
    _check(x, cos, sin)
    ro = 2 * cos.shape[-1]
    turned = _rotated(x[..., :ro], *_tables(x, cos, sin, seqlen_offsets, cu_seqlens), interleaved)
    if inplace:
        x[..., :ro].copy_(turned)
        return x
    return torch.cat((turned, x[..., ro:]), -1) if ro < x.shape[-1] else turned


apply_rotary_emb_func = apply_rotary_emb


def _qk(qkv, num_heads_q):
    """Views of the q and the k in qkv."""
    if num_heads_q is None:
        if qkv.dim() != 5 or qkv.shape[2] != 3:
            raise Error(f"qkv has the shape {tuple(qkv.shape)}: it must be (B, S, 3, H, D), or (B, S, "
                        "H + 2 Hk, D) with num_heads_q")
        return qkv[:, :, 0], qkv[:, :, 1]
    if qkv.dim() != 4 or num_heads_q > qkv.shape[2] or (qkv.shape[2] - num_heads_q) % 2:
        raise Error(f"qkv has the shape {tuple(qkv.shape)} and num_heads_q is {num_heads_q}: it must be "
                    "(B, S, num_heads_q + 2 Hk, D)")
    kv_heads = (qkv.shape[2] - num_heads_q) // 2
    return qkv[:, :, :num_heads_q], qkv[:, :, num_heads_q:num_heads_q + kv_heads]


def apply_rotary_emb_qkv_(qkv: Tensor, cos: Tensor, sin: Tensor, cos_k: Tensor | None = None,
                          sin_k: Tensor | None = None, interleaved: bool = False,
                          seqlen_offsets: int | Tensor = 0, num_heads_q: int | None = None) -> Tensor:
    """Rotates q and k inside qkv, (B, S, 3, H, D) or with num_heads_q (B, S, H + 2 Hk, D), in place, and
    returns it. cos_k, sin_k: other tables for k."""
    q, k = _qk(qkv, num_heads_q)
    apply_rotary_emb(q, cos, sin, interleaved, True, seqlen_offsets)
    apply_rotary_emb(k, cos if cos_k is None else cos_k, sin if sin_k is None else sin_k, interleaved, True,
                     seqlen_offsets)
    return qkv


def apply_rotary_emb_kv_(kv: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False,
                         seqlen_offsets: int | Tensor = 0) -> Tensor:
    """Rotates k inside kv (B, S, 2, Hk, D) in place, and returns it."""
    if kv.dim() != 5 or kv.shape[2] != 2:
        raise Error(f"kv has the shape {tuple(kv.shape)}: it must be (B, S, 2, heads, D)")
    apply_rotary_emb(kv[:, :, 0], cos, sin, interleaved, True, seqlen_offsets)
    return kv


class RotaryEmbedding(torch.nn.Module):
    """Rotates packed qkv, or q and packed kv, in place; tables grow as they are needed.

    dim : entries that rotate, even. base : of the frequencies. interleaved : as in apply_rotary_emb.
    scale_base : with a number q is also multiplied, and k divided, by the decay of xPos.
    """

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = False,
                 scale_base: float | None = None, device: torch.device | str | None = None) -> None:
        super().__init__()
        if dim <= 0 or dim % 2:
            raise Error(f"dim is {dim}: it must be a positive even number")
        self.dim, self.base, self.interleaved, self.scale_base = dim, float(base), interleaved, scale_base
        self.register_buffer("inv_freq", self._compute_inv_freq(device), persistent=False)
        scale = None
        if scale_base is not None:
            scale = (torch.arange(0, dim, 2, device=device, dtype=torch.float32) + 0.4 * dim) / (1.4 * dim)
        self.register_buffer("scale", scale, persistent=False)
        self._seq_len_cached = 0
        self._cos_cached = self._sin_cached = self._cos_k_cached = self._sin_k_cached = None

    def _compute_inv_freq(self, device=None):
        steps = torch.arange(0, self.dim, 2, device=device, dtype=torch.float32)
        return self.base ** (-steps / self.dim)

    def _update_cos_sin_cache(self, seqlen, device=None, dtype=None):
        have = self._cos_cached
        if (have is not None and seqlen <= self._seq_len_cached and have.device == device
                and have.dtype == dtype and (is_compiling() or not (self.training and have.is_inference()))):
            return
        self._seq_len_cached = seqlen
        # The frequencies again in f32: the buffer may have been cast with the model.
        angles = torch.outer(torch.arange(seqlen, device=device, dtype=torch.float32),
                             self._compute_inv_freq(device))
        cos, sin = angles.cos(), angles.sin()
        if self.scale is None:
            self._cos_cached, self._sin_cached = cos.to(dtype), sin.to(dtype)
            return
        middle = torch.arange(seqlen, device=device, dtype=torch.float32) - seqlen // 2
        decay = self.scale.to(device, torch.float32) ** (middle / self.scale_base)[:, None]
        self._cos_cached, self._sin_cached = (cos * decay).to(dtype), (sin * decay).to(dtype)
        self._cos_k_cached, self._sin_k_cached = (cos / decay).to(dtype), (sin / decay).to(dtype)

    def forward(self, qkv: Tensor, kv: Tensor | None = None, seqlen_offset: int | Tensor = 0,
                max_seqlen: int | Tensor | None = None, num_heads_q: int | None = None) -> Any:
        """qkv (B, S, 3, H, D), or (B, S, H + 2 Hk, D) with num_heads_q; or q (B, S, H, D) with kv (B, S, 2,
        Hk, D). seqlen_offset: an integer or integers (B,), then max_seqlen, the rows that the tables must
        hold, saves looking. Returns qkv, or (q, kv)."""
        if isinstance(seqlen_offset, Tensor) and seqlen_offset.is_cuda and max_seqlen is None:
            raise Error(f"seqlen_offset lives on the device '{seqlen_offset.device}' and max_seqlen is None: give "
                        "max_seqlen, the rows that the tables must hold, for nothing waits to read the offsets")
        need = qkv.shape[1] + (int(seqlen_offset.max()) if isinstance(seqlen_offset, Tensor)
                               and max_seqlen is None else 0 if isinstance(seqlen_offset, Tensor)
                               else seqlen_offset)
        self._update_cos_sin_cache(max(need, max_seqlen or 0), qkv.device, qkv.dtype)
        cos, sin = self._cos_cached, self._sin_cached
        cos_k, sin_k = (cos, sin) if self.scale is None else (self._cos_k_cached, self._sin_k_cached)
        if kv is None:
            return apply_rotary_emb_qkv_(qkv, cos, sin, cos_k, sin_k, self.interleaved, seqlen_offset,
                                         num_heads_q)
        q = apply_rotary_emb(qkv, cos, sin, self.interleaved, True, seqlen_offset)
        return q, apply_rotary_emb_kv_(kv, cos_k, sin_k, self.interleaved, seqlen_offset)

    def ragged(self, q: Tensor, kv: Tensor, cu_seqlens: Tensor,
               max_seqlen: int | Tensor) -> tuple[Tensor, Tensor]:
        """Of packed rows: q (T, H, D), kv (T, 2, Hk, D), cu_seqlens int32 (B + 1,). In place."""
        on_device = isinstance(max_seqlen, Tensor) and max_seqlen.is_cuda
        self._update_cos_sin_cache(q.shape[0] if on_device else int(max_seqlen), q.device, q.dtype)
        cos, sin = self._cos_cached, self._sin_cached
        cos_k, sin_k = (cos, sin) if self.scale is None else (self._cos_k_cached, self._sin_k_cached)
        apply_rotary_emb(q, cos, sin, self.interleaved, True, 0, cu_seqlens)
        apply_rotary_emb(kv[:, 0], cos_k, sin_k, self.interleaved, True, 0, cu_seqlens)
        return q, kv
