# _flash.py: flash-attn's functions as transformers' flash path calls them: by name, with attention sinks,
# lengths as tensors. transformers reads the signatures to see what a kernel can do, so no parameter hides
# in **kwargs. Not here: the functions themselves (heed.flash_attn).
from typing import Any

import torch
from torch import Tensor

import heed
from heed import flash_attn as _flash

from ._engine import flash_attention, flash_decode


def _length(value: int | Tensor, most: int) -> int:
    """On a device a length is not read: no sequence is longer than `most`."""
    if not isinstance(value, Tensor):
        return value
    return most if value.is_cuda else int(value)


def _sides(window_size) -> tuple[int, int]:
    return tuple(-1 if side is None or side < 0 else int(side) for side in window_size)


def _refuse(reason: dict[str, Any]) -> None:
    for name, value in reason.items():
        if value is not None and value is not False:
            raise heed.Error(f"s_aux is given together with {name}: attention sinks stand beside scale, causal, "
                             "window_size, softcap, alibi_slopes and dropout_p; leave one of the two out")


def _with_sinks(q, k, v, s_aux, dropout_p, softmax_scale, causal,
                window_size, softcap, alibi_slopes, **ragged):
    return flash_attention(q, k, v, scale=softmax_scale, causal=causal, window=_sides(window_size),
                          softcap=softcap or 0.0, alibi_slopes=alibi_slopes, dropout_p=dropout_p,
                          sinks=s_aux.float().reshape(-1), **ragged)


def flash_attn_func(
    q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0,
    alibi_slopes=None, deterministic=False, return_attn_probs=False, s_aux=None,
):
    """heed.flash_attn.flash_attn_func, and ``s_aux``: a sink for each head, (H,), any float dtype."""
    if s_aux is None:
        return _flash.flash_attn_func(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes,
                                      deterministic, return_attn_probs)
    _refuse({"return_attn_probs": return_attn_probs})
    return _with_sinks(q, k, v, s_aux, dropout_p, softmax_scale,
                       causal, window_size, softcap, alibi_slopes)


def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None,
    causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False,
    return_attn_probs=False, block_table=None, s_aux=None,
):
    """heed.flash_attn.flash_attn_varlen_func, and ``s_aux`` as above. cu_seqlens of any integer dtype."""
    cu_seqlens_q, cu_seqlens_k = cu_seqlens_q.to(torch.int32), cu_seqlens_k.to(torch.int32)
    most_k = k.shape[0] if block_table is None else k.shape[1] * block_table.shape[1]
    max_seqlen_q, max_seqlen_k = _length(max_seqlen_q, q.shape[0]), _length(max_seqlen_k, most_k)
    if s_aux is None:
        return _flash.flash_attn_varlen_func(
            q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, softmax_scale, causal,
            window_size, softcap, alibi_slopes, deterministic, return_attn_probs, block_table)
    _refuse({"return_attn_probs": return_attn_probs, "block_table": block_table})
    return _with_sinks(q, k, v, s_aux, dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes,
                       cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, max_seqlen_q=max_seqlen_q,
                       max_seqlen_k=max_seqlen_k)


def flash_attn_with_kvcache(
    q, k_cache, v_cache, k=None, v=None, rotary_cos=None, rotary_sin=None, cache_seqlens=None,
    cache_batch_idx=None, cache_leftpad=None, block_table=None, softmax_scale=None, causal=False,
    window_size=(-1, -1), softcap=0.0, rotary_interleaved=True, alibi_slopes=None, num_splits=0,
    return_softmax_lse=False, s_aux=None,
):
    """heed.flash_attn.flash_attn_with_kvcache, and ``s_aux`` as above."""
    if isinstance(cache_seqlens, Tensor):
        cache_seqlens = cache_seqlens.to(torch.int32)
    if s_aux is None:
        return _flash.flash_attn_with_kvcache(
            q, k_cache, v_cache, k, v, rotary_cos, rotary_sin, cache_seqlens, cache_batch_idx, cache_leftpad,
            block_table, softmax_scale, causal, window_size, softcap, rotary_interleaved, alibi_slopes, num_splits,
            return_softmax_lse)
    return flash_decode(
        q, k_cache, v_cache, k_new=k, v_new=v, rotary_cos=rotary_cos, rotary_sin=rotary_sin,
        rotary_interleaved=rotary_interleaved, cache_seqlens=cache_seqlens, cache_batch_idx=cache_batch_idx,
        cache_leftpad=cache_leftpad, block_table=block_table, scale=softmax_scale, causal=causal,
        window=_sides(window_size), softcap=softcap or 0.0, alibi_slopes=alibi_slopes,
        sinks=s_aux.float().reshape(-1), return_lse=return_softmax_lse)
