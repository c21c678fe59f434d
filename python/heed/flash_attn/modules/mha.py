# mha.py: multi-head attention as a module, in the names of flash_attn.modules.mha; parameters have the
# same names and shapes, so a state_dict fits. Not here: the inner attentions (_inner.py), tensor parallel
# layers.
"""MHA: self and cross attention with grouped heads, rotary embedding, ALiBi, window and a cache."""
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..._core import Error
from .._call import Window
from ..flash_attn_interface import flash_attn_with_kvcache
from ..layers.rotary import RotaryEmbedding
from ..utils.generation import InferenceParams
from ._inner import (
    CrossAttention,
    FlashCrossAttention,
    FlashSelfAttention,
    SelfAttention,
    get_alibi_slopes,
)

__all__ = ["MHA", "CrossAttention", "FlashCrossAttention", "FlashSelfAttention", "SelfAttention",
           "get_alibi_slopes"]


def __getattr__(name):
    if name == "ParallelMHA":
        raise ImportError("ParallelMHA splits its projections over a process group: heed.flash_attn has no "
                          "tensor parallel layers, MHA computes on one process")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _update_kv_cache(kv, inference_params, layer_idx):
    """Writes kv (B, S, 2, Hk, D) into the layer's cache behind seqlen_offset, and returns what is in use."""
    caches = inference_params.key_value_memory_dict
    if layer_idx not in caches:
        caches[layer_idx] = kv.new_empty((inference_params.max_batch_size, inference_params.max_seqlen,
                                          *kv.shape[2:]))
    cache = caches[layer_idx]
    first, row = inference_params.batch_size_offset, inference_params.seqlen_offset
    last, end = first + kv.shape[0], row + kv.shape[1]
    if last > cache.shape[0] or end > cache.shape[1]:
        raise Error(f"the cache of layer {layer_idx} has {cache.shape[0]} entries of {cache.shape[1]} rows: "
                    f"this step needs entry {last - 1} and row {end - 1}")
    cache[first:last, row:end] = kv
    return cache[first:last, :end]


class _Convolution(nn.Conv1d):
    """A causal convolution of every column over three positions, (B, S, C)."""

    def __init__(self, channels, **where: Any) -> None:
        super().__init__(channels, channels, kernel_size=3, padding=2, groups=channels, **where)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.transpose(1, 2))[..., :-2].transpose(1, 2)


class MHA(nn.Module):
    """Multi-head attention: projections, rotary embedding, attention by heed, projection.

    num_heads_kv : fewer heads for keys and values. cross_attn : keys and values from another input.
    dropout, softmax_scale, causal, window_size : as in flash_attn_func. layer_idx : names the cache.
    dwconv : convolves the projections over three positions. rotary_emb_dim : entries that rotate, 0 for
    none. use_alibi. return_residual : (out, x). checkpointing : attention is computed again in the
    backward. use_flash_attn, fused_bias_fc : both roads compute the same here.

    Parameters are called Wqkv (rows: q heads, k heads, v heads) or Wq and Wkv, and out_proj.
    """

    def __init__(self, embed_dim: int, num_heads: int, num_heads_kv: int | None = None,
                 cross_attn: bool = False, qkv_proj_bias: bool = True, out_proj_bias: bool = True,
                 dropout: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
                 layer_idx: int | None = None, dwconv: bool = False, rotary_emb_dim: int = 0,
                 rotary_emb_base: float = 10000.0, rotary_emb_scale_base: float | None = None,
                 rotary_emb_interleaved: bool = False, use_alibi: bool = False,
                 window_size: Window = (-1, -1), fused_bias_fc: bool = False,
                 use_flash_attn: bool = False, return_residual: bool = False, checkpointing: bool = False,
                 device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        where = {"device": device, "dtype": dtype}
        super().__init__()
        num_heads_kv = num_heads if num_heads_kv is None else num_heads_kv
        if num_heads <= 0 or embed_dim % num_heads:
            raise Error(f"embed_dim is {embed_dim} and num_heads {num_heads}: it must be a multiple of it")
        if num_heads_kv <= 0 or num_heads % num_heads_kv:
            raise Error(f"num_heads is {num_heads} and num_heads_kv {num_heads_kv}: it must be a multiple of "
                        "it")
        if cross_attn and rotary_emb_dim:
            raise Error(f"rotary_emb_dim is {rotary_emb_dim} with cross_attn: rotation is for self "
                        "attention, it must be 0")
        self.embed_dim, self.num_heads, self.num_heads_kv = embed_dim, num_heads, num_heads_kv
        self.head_dim = embed_dim // num_heads
        self.cross_attn, self.causal, self.layer_idx = cross_attn, causal, layer_idx
        self.dwconv, self.rotary_emb_dim = dwconv, rotary_emb_dim
        self.use_flash_attn, self.return_residual = use_flash_attn, return_residual
        self.checkpointing = checkpointing
        slopes = torch.tensor(get_alibi_slopes(num_heads), device=device) if use_alibi else None
        if rotary_emb_dim:
            self.rotary_emb = RotaryEmbedding(rotary_emb_dim, rotary_emb_base, rotary_emb_interleaved,
                                              rotary_emb_scale_base, device)
        kv_rows = 2 * num_heads_kv * self.head_dim
        if cross_attn:
            self.Wq = nn.Linear(embed_dim, embed_dim, bias=qkv_proj_bias, **where)
            self.Wkv = nn.Linear(embed_dim, kv_rows, bias=qkv_proj_bias, **where)
        else:
            self.Wqkv = nn.Linear(embed_dim, embed_dim + kv_rows, bias=qkv_proj_bias, **where)
        if dwconv and num_heads_kv == num_heads and not cross_attn:
            self.dwconv_qkv = _Convolution(embed_dim + kv_rows, **where)
        elif dwconv:
            self.dwconv_q = _Convolution(embed_dim, **where)
            self.dwconv_kv = _Convolution(kv_rows, **where)
        options = dict(causal=causal, softmax_scale=softmax_scale, attention_dropout=dropout,
                       window_size=window_size, alibi_slopes=slopes)
        self.inner_cross_attn = FlashCrossAttention(**options)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=out_proj_bias, **where)

    def allocate_inference_cache(self, batch_size: int, max_seqlen: int,
                                 dtype: torch.dtype | None = None) -> Tensor:
        """A cache (batch_size, max_seqlen, 2, Hk, D) for key_value_memory_dict[layer_idx]."""
        weight = self.out_proj.weight
        return torch.empty(batch_size, max_seqlen, 2, self.num_heads_kv, self.head_dim,
                           dtype=weight.dtype if dtype is None else dtype, device=weight.device)

    def _project(self, x, x_kv, mixer_subset):
        """q (…, H, D) and kv (…, 2, Hk, D)."""
        if self.cross_attn:
            q, kv = self.Wq(x if mixer_subset is None else x[:, mixer_subset]), self.Wkv(
                x if x_kv is None else x_kv)
        else:
            qkv = self.Wqkv(x)
            if hasattr(self, "dwconv_qkv"):
                qkv = self.dwconv_qkv(qkv)
            q, kv = qkv[..., :self.embed_dim], qkv[..., self.embed_dim:]
        if hasattr(self, "dwconv_q"):
            q, kv = self.dwconv_q(q), self.dwconv_kv(kv)
        return (q.unflatten(-1, (self.num_heads, self.head_dim)),
                kv.unflatten(-1, (2, self.num_heads_kv, self.head_dim)))

    def _cached(self, q, kv, inference_params):
        """Attention of a step; the rows of earlier steps come from the cache."""
        lengths = inference_params.lengths_per_sample
        if inference_params.seqlen_offset == 0:  # the prompt
            kv = _update_kv_cache(kv, inference_params, self.layer_idx)
            return self.inner_cross_attn(q, kv)
        caches = inference_params.key_value_memory_dict
        if self.layer_idx not in caches:
            raise Error(f"seqlen_offset is {inference_params.seqlen_offset} and layer {self.layer_idx} has "
                        "no cache: the first step must have seqlen_offset 0")
        first = inference_params.batch_size_offset
        used = inference_params.seqlen_offset if lengths is None else lengths[first:first + len(q)]
        cache = caches[self.layer_idx][first:first + q.shape[0]]
        inner = self.inner_cross_attn
        return flash_attn_with_kvcache(
            q, cache[:, :, 0], cache[:, :, 1], kv[:, :, 0], kv[:, :, 1],
            cache_seqlens=used, softmax_scale=inner.softmax_scale, causal=inner.causal,
            window_size=inner.window_size,
            alibi_slopes=None if inner.alibi_slopes is None else inner.alibi_slopes.float())

    def _check(self, cu_seqlens, max_seqlen, key_padding_mask, inference_params):
        if (cu_seqlens is None) != (max_seqlen is None):
            raise Error("cu_seqlens and max_seqlen: one is given without the other, both are needed")
        if cu_seqlens is not None and (key_padding_mask is not None or self.dwconv):
            raise Error("cu_seqlens is given with key_padding_mask or dwconv: packed rows have no padding, "
                        "and a convolution would run from one sequence into the next")
        if inference_params is not None and (cu_seqlens is not None or key_padding_mask is not None
                                             or self.dwconv or self.cross_attn):
            raise Error("inference_params is given with cu_seqlens, key_padding_mask, dwconv or cross_attn: "
                        "a cache holds the rows of plain self attention")
        if inference_params is not None and self.layer_idx is None:
            raise Error("inference_params is given and layer_idx is None: the cache of a layer is found by "
                        "it")

    def forward(self, x: Tensor, x_kv: Tensor | None = None, key_padding_mask: Tensor | None = None,
                cu_seqlens: Tensor | None = None, max_seqlen: int | Tensor | None = None,
                mixer_subset: Any = None, inference_params: InferenceParams | None = None,
                **kwargs: Any) -> Any:
        """x (B, S, embed_dim), or packed (T, embed_dim) with cu_seqlens int32 (B + 1,) and max_seqlen.

        x_kv : (B, Sk, embed_dim), with cross_attn; packed rows then need cu_seqlens_k and max_seqlen_k.
        key_padding_mask : bool (B, Sk), True = a token. mixer_subset : with cross_attn, the rows of x that
        ask (an index of axis 1). inference_params : utils.generation.InferenceParams. Returns like x, with
        return_residual also x.
        """
        unknown = set(kwargs) - {"cu_seqlens_k", "max_seqlen_k", "seqlen"}
        if unknown:
            raise Error(f"MHA has no option {sorted(unknown)[0]}")
        if mixer_subset is not None and not self.cross_attn:
            raise Error("mixer_subset is given without cross_attn: self attention asks with every row")
        if x_kv is not None and not self.cross_attn:
            raise Error("x_kv is given without cross_attn: self attention has one input")
        self._check(cu_seqlens, max_seqlen, key_padding_mask, inference_params)
        q, kv = self._project(x, x_kv, mixer_subset)
        ragged = {"cu_seqlens": cu_seqlens, "max_seqlen": max_seqlen}
        if self.rotary_emb_dim:
            q, kv = self._rotate(q, kv, cu_seqlens, max_seqlen, inference_params)
        if inference_params is not None:
            context = self._cached(q, kv, inference_params)
        else:
            if cu_seqlens is not None:
                ragged["cu_seqlens_k"] = kwargs.get("cu_seqlens_k", cu_seqlens)
                ragged["max_seqlen_k"] = kwargs.get("max_seqlen_k", max_seqlen)
            if key_padding_mask is not None:
                ragged["key_padding_mask"] = key_padding_mask
            if self.checkpointing:
                context = checkpoint(self.inner_cross_attn, q, kv, use_reentrant=False, **ragged)
            else:
                context = self.inner_cross_attn(q, kv, **ragged)
        out = self.out_proj(context.flatten(-2))
        return (out, x) if self.return_residual else out

    def _rotate(self, q, kv, cu_seqlens, max_seqlen, inference_params):
        if cu_seqlens is not None:
            return self.rotary_emb.ragged(q, kv, cu_seqlens, max_seqlen)
        if inference_params is None:
            return self.rotary_emb(q, kv)
        offset = inference_params.seqlen_offset
        if offset and inference_params.lengths_per_sample is not None:
            first = inference_params.batch_size_offset
            offset = inference_params.lengths_per_sample[first:first + len(q)]
        return self.rotary_emb(q, kv, offset, inference_params.max_seqlen)
