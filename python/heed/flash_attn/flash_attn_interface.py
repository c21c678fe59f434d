# flash_attn_interface.py: flash-attn 2.8's seven functions, with its signatures, computed by heed. Not
# here: how arguments are translated (_call.py, _ragged.py), the names with an underscore (_private.py).
"""flash-attn's interface module: the public functions, and the private ones that others import."""
from typing import Any

from torch import Tensor

from .._core import ArgumentTypeError
from .._words import KV_PACKED, QKV_PACKED, RAGGED_KV_PACKED, RAGGED_QKV_PACKED, spoken
from ._call import Window, attend, bounds, cap, constant, decode, new_rows, shown_lse, splits, tensor, unpack
from ._private import (  # noqa: F401  (they are imported from here)
    _flash_attn_backward,
    _flash_attn_forward,
    _flash_attn_varlen_backward,
    _flash_attn_varlen_forward,
    _get_block_size_n,
    _wrapped_flash_attn_backward,
    _wrapped_flash_attn_forward,
    _wrapped_flash_attn_varlen_backward,
    _wrapped_flash_attn_varlen_forward,
    maybe_contiguous,
    round_multiple,
)
from ._ragged import attend_ragged, check_capacity

USE_TRITON_ROCM = False
_MOST_SPLITS = 128

__all__ = [
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
]


def flash_attn_func(q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0,
                    softmax_scale: float | None = None, causal: bool = False,
                    window_size: Window = (-1, -1), softcap: float = 0.0,
                    alibi_slopes: Tensor | None = None, deterministic: bool = False,
                    return_attn_probs: bool = False) -> Any:
    """softmax(softmax_scale · q kᵀ) v as flash-attn 2.8's function of this name, on the CPU.

    Parameters
    ----------
    q : (B, Sq, H, D); float32, bfloat16 or float16, D up to 1024. Differentiable, as k and v are.
    k, v : (B, Sk, Hk, D); H is a multiple of Hk. v may have another D.
    dropout_p : in [0, 1); drawn from PyTorch's default generator, torch.manual_seed repeats it.
    softmax_scale : 1/√D by default.
    causal : query i sees keys up to i + Sk − Sq.
    window_size : (left, right), keys from i + Sk − Sq − left to i + Sk − Sq + right; a negative number
        is no bound. Tensors of two integers will do.
    softcap : positive: s becomes softcap · tanh(s / softcap).
    alibi_slopes : float32 (H,) or (B, H): − slope · |i + Sk − Sq − j|. No gradient.
    deterministic : always is.
    return_attn_probs : also softmax_lse and S_dmask.

    Returns
    -------
    out (B, Sq, H, D of v), or (out, softmax_lse, S_dmask): softmax_lse float32 (B, H, Sq), +∞ where a
    query sees nothing, differentiable; S_dmask with dropout ± exp(s − row maximum), negative where
    dropped, (B, H, Sq, Sk) rounded up to multiples of 128, in the dtype of q; without dropout (0,).

    Raises
    ------
    heed.Error (a RuntimeError and a ValueError) with a sentence.
    """
    return attend(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes,
                  return_attn_probs)


@spoken(KV_PACKED)
def flash_attn_kvpacked_func(q: Tensor, kv: Tensor, dropout_p: float = 0.0,
                             softmax_scale: float | None = None, causal: bool = False,
                             window_size: Window = (-1, -1), softcap: float = 0.0,
                             alibi_slopes: Tensor | None = None, deterministic: bool = False,
                             return_attn_probs: bool = False) -> Any:
    """flash_attn_func with kv (B, Sk, 2, Hk, D) in one tensor; nothing is copied in the forward."""
    k, v = unpack("kv", kv, 2, 5)
    return attend(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes,
                  return_attn_probs)


@spoken(QKV_PACKED)
def flash_attn_qkvpacked_func(qkv: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None,
                              causal: bool = False, window_size: Window = (-1, -1), softcap: float = 0.0,
                              alibi_slopes: Tensor | None = None, deterministic: bool = False,
                              return_attn_probs: bool = False) -> Any:
    """flash_attn_func with qkv (B, S, 3, H, D) in one tensor; nothing is copied in the forward."""
    q, k, v = unpack("qkv", qkv, 3, 5)
    return attend(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes,
                  return_attn_probs)


def flash_attn_varlen_func(q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor,
                           max_seqlen_q: int | Tensor, max_seqlen_k: int | Tensor, dropout_p: float = 0.0,
                           softmax_scale: float | None = None, causal: bool = False,
                           window_size: Window = (-1, -1), softcap: float = 0.0,
                           alibi_slopes: Tensor | None = None, deterministic: bool = False,
                           return_attn_probs: bool = False, block_table: Tensor | None = None) -> Any:
    """flash_attn_func for a ragged batch, sequences packed one after the other.

    Parameters
    ----------
    q : (Tq, H, D)
    k, v : (Tk, Hk, D), or with block_table (pages, rows of a page, Hk, D), pages of any size
    cu_seqlens_q, cu_seqlens_k : int32 (B + 1,), ascending from 0. Rows behind the last end belong to
        nobody: output and gradient 0.
    max_seqlen_q, max_seqlen_k : the longest lengths, or more; an integer or a tensor of one.
    block_table : int32 (B, blocks): the pages of each entry; lengths are those of cu_seqlens_k. Pages are
        read where they lie if every entry has as many queries and no gradient, dropout or probabilities
        are wanted; else they are copied into one row first.
    The rest : as in flash_attn_func.

    Returns
    -------
    out (Tq, H, D of v), or (out, softmax_lse float32 (H, Tq), S_dmask (B, H, max_seqlen_q, max_seqlen_k),
    both rounded up to multiples of 128).

    Raises
    ------
    heed.Error with a sentence; int64 cu_seqlens are one.
    """
    return attend_ragged(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p,
                         softmax_scale, causal, window_size, softcap, alibi_slopes, return_attn_probs,
                         block_table)


@spoken(RAGGED_KV_PACKED)
def flash_attn_varlen_kvpacked_func(q: Tensor, kv: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor,
                                    max_seqlen_q: int | Tensor, max_seqlen_k: int | Tensor,
                                    dropout_p: float = 0.0, softmax_scale: float | None = None,
                                    causal: bool = False, window_size: Window = (-1, -1),
                                    softcap: float = 0.0, alibi_slopes: Tensor | None = None,
                                    deterministic: bool = False, return_attn_probs: bool = False) -> Any:
    """flash_attn_varlen_func with kv (Tk, 2, Hk, D) in one tensor."""
    k, v = unpack("kv", kv, 2, 4)
    return attend_ragged(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p,
                         softmax_scale, causal, window_size, softcap, alibi_slopes, return_attn_probs)


@spoken(RAGGED_QKV_PACKED)
def flash_attn_varlen_qkvpacked_func(qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int | Tensor,
                                     dropout_p: float = 0.0, softmax_scale: float | None = None,
                                     causal: bool = False, window_size: Window = (-1, -1),
                                     softcap: float = 0.0, alibi_slopes: Tensor | None = None,
                                     deterministic: bool = False, return_attn_probs: bool = False) -> Any:
    """flash_attn_varlen_func with qkv (T, 3, H, D) in one tensor."""
    q, k, v = unpack("qkv", qkv, 3, 4)
    return attend_ragged(q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, dropout_p, softmax_scale,
                         causal, window_size, softcap, alibi_slopes, return_attn_probs)


def flash_attn_with_kvcache(q: Tensor, k_cache: Tensor, v_cache: Tensor, k: Tensor | None = None,
                            v: Tensor | None = None, rotary_cos: Tensor | None = None,
                            rotary_sin: Tensor | None = None, cache_seqlens: int | Tensor | None = None,
                            cache_batch_idx: Tensor | None = None, cache_leftpad: Tensor | None = None,
                            block_table: Tensor | None = None, softmax_scale: float | None = None,
                            causal: bool = False, window_size: Window = (-1, -1), softcap: float = 0.0,
                            rotary_interleaved: bool = True, alibi_slopes: Tensor | None = None,
                            num_splits: int = 0, return_softmax_lse: bool = False) -> Any:
    """Attention of new queries against a cache, which new keys and values join first, in place.

    Parameters
    ----------
    q : (B, Sq, H, D)
    k_cache, v_cache : (slots, rows, Hk, D), or with block_table (pages, rows of a page, Hk, D)
    k, v : (B, new, Hk, D): written at row cache_seqlens[b]. cache_seqlens itself stays as it is.
    rotary_cos, rotary_sin : (positions, R / 2) in the dtype of q, contiguous: rotates q and the new k.
    cache_seqlens : int32 (B,) or an integer; by default the whole cache is in use.
    cache_batch_idx : int32 (B,), the slot of each entry; not with block_table.
    cache_leftpad : int32 (B,), the first row in use.
    block_table : int32 (B, blocks).
    rotary_interleaved : pairs (0, 1), (2, 3), …; else (0, R/2), (1, R/2 + 1), ….
    num_splits : 0 to 128; the result does not depend on it.
    The rest : as in flash_attn_func.

    Returns
    -------
    out (B, Sq, H, D of v), or (out, softmax_lse float32 (B, H, Sq)). Forward only, as in flash-attn: the
    results carry no gradient.

    Raises
    ------
    heed.Error with a sentence, before anything is written.
    """
    splits(num_splits, _MOST_SPLITS)
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        if not isinstance(cache, Tensor):
            raise ArgumentTypeError(f"{name} is a {type(cache).__name__}: it must be a PyTorch tensor")
    new = new_rows("k", k), new_rows("v", v)
    if block_table is not None and k_cache.dim() == 4:
        check_capacity(cache_seqlens, 0 if new[0] is None else new[0].shape[1], block_table, k_cache.shape[1])
    result = decode(
        constant(tensor("q", q)), constant(k_cache), constant(v_cache), k_new=new[0], v_new=new[1],
        rotary_cos=rotary_cos, rotary_sin=rotary_sin,
        rotary_interleaved=bool(rotary_interleaved), cache_seqlens=cache_seqlens,
        cache_batch_idx=cache_batch_idx, cache_leftpad=cache_leftpad, block_table=block_table,
        scale=softmax_scale, causal=bool(causal), window=bounds(window_size), softcap=cap(softcap),
        alibi_slopes=alibi_slopes, return_lse=bool(return_softmax_lse))
    return (result[0], shown_lse(result[1])) if return_softmax_lse else result
