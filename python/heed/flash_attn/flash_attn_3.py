# flash_attn_3.py: flash-attn 3's functions by its signatures, and s_aux (sinks) as its forks have it. Not
# here: how arguments are translated (_flash_attn_3.py), its private names.
"""flash-attn 3's interface module on heed. Here the first argument after v is softmax_scale."""
from typing import Any

import torch
from torch import Tensor

from .. import _api
from .._core import Error
from .._words import spoken
from ._call import Window, length, new_rows, tensor
from ._flash_attn_3 import attention, check_tuning, decode, options, prepare, ragged
from .layers.rotary import apply_rotary_emb

merge = spoken({"outs": "out_partial", "lses": "lse_partial"})(_api.merge)

__all__ = ["flash_attn_combine", "flash_attn_func", "flash_attn_qkvpacked_func", "flash_attn_varlen_func",
           "flash_attn_with_kvcache", "get_scheduler_metadata"]


def flash_attn_func(q: Tensor, k: Tensor, v: Tensor, softmax_scale: float | None = None,
                    causal: bool = False, qv: Tensor | None = None, q_descale: Tensor | None = None,
                    k_descale: Tensor | None = None, v_descale: Tensor | None = None,
                    window_size: Window = (-1, -1), attention_chunk: int = 0, softcap: float = 0.0,
                    num_splits: int = 1, pack_gqa: bool | None = None, deterministic: bool = False,
                    sm_margin: int = 0, return_attn_probs: bool = False,
                    s_aux: Tensor | None = None) -> Any:
    """Attention with flash-attn 3's arguments.

    Parameters
    ----------
    q, k, v : (B, Sq, H, D), (B, Sk, Hk, D), (B, Sk, Hk, Dv); float32, bfloat16, float16; also
        float8_e4m3fn, forward only, output bfloat16.
    qv : (B, Sq, H, Dv): s = scale · (q·k + qv·v); copies q and k. The default scale is 1/√(D + Dv) then.
    q_descale, k_descale, v_descale : float32 (B, Hk), of float8 tensors.
    attention_chunk : > 0: only keys of the query's own chunk of so many positions.
    num_splits, pack_gqa, sm_margin, deterministic : the result does not depend on them.
    s_aux : (H,), any float dtype: exp(s_aux) joins the sum of a row. Differentiable.
    The rest : as in heed.flash_attn.flash_attn_func.

    Returns
    -------
    out, or with return_attn_probs (out, softmax_lse float32 (B, H, Sq)), −∞ where a query sees nothing.

    Raises
    ------
    heed.Error with a sentence.
    """
    check_tuning(num_splits)
    q, k, v, scale, dtype = prepare(q, k, v, qv, (q_descale, k_descale, v_descale), softmax_scale)
    out, lse = attention(q, k, v, return_lse=True,
                         **options(scale, causal, window_size, attention_chunk, softcap, s_aux))
    out = out if q.dtype == dtype else out.to(dtype)
    return (out, lse) if return_attn_probs else out


def flash_attn_qkvpacked_func(qkv: Tensor, softmax_scale: float | None = None, causal: bool = False,
                              q_descale: Tensor | None = None, k_descale: Tensor | None = None,
                              v_descale: Tensor | None = None, window_size: Window = (-1, -1),
                              attention_chunk: int = 0, softcap: float = 0.0, deterministic: bool = False,
                              num_heads_q: int | None = None, sm_margin: int = 0,
                              return_attn_probs: bool = False, s_aux: Tensor | None = None) -> Any:
    """flash_attn_func with qkv (B, S, 3, H, D), or (B, S, num_heads_q + 2 Hk, D)."""
    qkv = tensor("qkv", qkv)
    if num_heads_q is None and qkv.dim() == 5 and qkv.shape[2] == 3:
        q, k, v = qkv.unbind(2)
    elif num_heads_q is not None and qkv.dim() == 4 and 0 < num_heads_q < qkv.shape[2] \
            and (qkv.shape[2] - num_heads_q) % 2 == 0:
        kv_heads = (qkv.shape[2] - num_heads_q) // 2
        q, k, v = qkv.split((num_heads_q, kv_heads, kv_heads), 2)
    else:
        raise Error(f"qkv has the shape {tuple(qkv.shape)} and num_heads_q is {num_heads_q}: it must be "
                    "(B, S, 3, H, D) without num_heads_q, or (B, S, num_heads_q + 2 Hk, D)")
    return flash_attn_func(q, k, v, softmax_scale, causal, None, q_descale, k_descale, v_descale, window_size,
                           attention_chunk, softcap, 1, None, deterministic, sm_margin, return_attn_probs,
                           s_aux)


def flash_attn_varlen_func(q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor,
                           max_seqlen_q: int | Tensor, max_seqlen_k: int | Tensor,
                           seqused_q: Tensor | None = None, seqused_k: Tensor | None = None,
                           softmax_scale: float | None = None, causal: bool = False,
                           qv: Tensor | None = None, q_descale: Tensor | None = None,
                           k_descale: Tensor | None = None, v_descale: Tensor | None = None,
                           window_size: Window = (-1, -1), attention_chunk: int = 0, softcap: float = 0.0,
                           num_splits: int = 1, pack_gqa: bool | None = None, deterministic: bool = False,
                           sm_margin: int = 0, return_attn_probs: bool = False,
                           s_aux: Tensor | None = None) -> Any:
    """flash_attn_func for ragged batches, (T, H, D) with cu_seqlens int32 (B + 1,).

    seqused_q, seqused_k : int32 (B,): only so many first rows of each slot count. Queries behind give 0,
    and lse −∞. Returns out, or (out, softmax_lse (H, T)).
    """
    check_tuning(num_splits)
    q, k, v, scale, dtype = prepare(q, k, v, qv, (q_descale, k_descale, v_descale), softmax_scale,
                                    cu_seqlens_q, cu_seqlens_k)
    out, lse = ragged(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_q, seqused_k,
                      options(scale, causal, window_size, attention_chunk, softcap, s_aux))
    out = out if q.dtype == dtype else out.to(dtype)
    return (out, lse) if return_attn_probs else out


def _turned(q, k, cos, sin, interleaved, starts, together):
    """q and the new k rotated from rotary_seqlens on; together: all queries at the first one's position."""
    if together:
        q = apply_rotary_emb(q.flatten(1, 2).unsqueeze(1), cos, sin, interleaved, False,
                             starts).reshape(q.shape)
    else:
        q = apply_rotary_emb(q, cos, sin, interleaved, False, starts)
    return q, None if k is None else apply_rotary_emb(k, cos, sin, interleaved, False, starts)


def _entry(x, b, cu=None):
    """Entry b of a batch, or of a ragged one, with an axis of one entry; what is no batch stays."""
    if cu is not None and x is not None:
        return x[int(cu[b]):int(cu[b + 1])][None]
    return x[b:b + 1] if isinstance(x, torch.Tensor) and x.dim() else x


def flash_attn_with_kvcache(q: Tensor, k_cache: Tensor, v_cache: Tensor, k: Tensor | None = None,
                            v: Tensor | None = None, qv: Tensor | None = None,
                            rotary_cos: Tensor | None = None, rotary_sin: Tensor | None = None,
                            cache_seqlens: int | Tensor | None = None,
                            cache_batch_idx: Tensor | None = None, cache_leftpad: Tensor | None = None,
                            page_table: Tensor | None = None, cu_seqlens_q: Tensor | None = None,
                            cu_seqlens_k_new: Tensor | None = None,
                            max_seqlen_q: int | Tensor | None = None,
                            rotary_seqlens: Tensor | None = None, q_descale: Tensor | None = None,
                            k_descale: Tensor | None = None, v_descale: Tensor | None = None,
                            softmax_scale: float | None = None, causal: bool = False,
                            window_size: Window = (-1, -1), attention_chunk: int = 0,
                            softcap: float = 0.0, rotary_interleaved: bool = True,
                            scheduler_metadata: Tensor | None = None, num_splits: int = 0,
                            pack_gqa: bool | None = None, sm_margin: int = 0,
                            return_softmax_lse: bool = False, s_aux: Tensor | None = None) -> Any:
    """heed.flash_attn.flash_attn_with_kvcache with flash-attn 3's arguments.

    q : (B, Sq, H, D), or (T, H, D) with cu_seqlens_q; k, v : (B, new, Hk, D), or (T, Hk, D) with
    cu_seqlens_k_new: entries are then computed one after the other, and an error in one of them comes
    after the rows of those before it were written.
    page_table : what flash-attn 2 calls block_table. rotary_seqlens : int32 (B,), positions at which
    rotation begins, cache_seqlens by default. qv and 8-bit caches are refused.
    Returns out, or (out, softmax_lse, and two empty tensors: nothing is split). Forward only.
    """
    check_tuning(num_splits, scheduler_metadata)
    refused = dict(qv=qv, q_descale=q_descale, k_descale=k_descale, v_descale=v_descale)
    for name, given in refused.items():
        if given is not None:
            raise Error(f"{name} is given: a call on a cache takes neither a second query nor 8-bit tensors; "
                        "flash_attn_func and flash_attn_varlen_func do")
    q, k, v = (None if x is None else tensor(n, x).detach() for n, x in (("q", q), ("k", k), ("v", v)))
    k_cache, v_cache = k_cache.detach(), v_cache.detach()
    s_aux = None if s_aux is None else s_aux.detach()
    given = options(softmax_scale, causal, window_size, attention_chunk, softcap, s_aux)
    together = not given["causal"] and given["window"] == (-1, -1)
    if rotary_seqlens is not None and (rotary_cos is None or rotary_sin is None):
        raise Error("rotary_seqlens is given without rotary_cos and rotary_sin")

    def one(q, k, v, lengths, slots, leftpad, pages, starts):
        cos, sin = rotary_cos, rotary_sin
        if starts is not None:
            q, k = _turned(q, k, cos, sin, bool(rotary_interleaved), starts, together)
            cos = sin = None
        return decode(q, k_cache, v_cache, k_new=new_rows("k", k), v_new=new_rows("v", v), rotary_cos=cos,
                      rotary_sin=sin, rotary_interleaved=bool(rotary_interleaved), cache_seqlens=lengths,
                      cache_batch_idx=slots, cache_leftpad=leftpad, block_table=pages, return_lse=True,
                      **given)

    batched = (cache_seqlens, cache_batch_idx, cache_leftpad, page_table, rotary_seqlens)
    if cu_seqlens_q is None and cu_seqlens_k_new is None:
        out, lse = one(q, k, v, *batched)
    elif q.is_cuda:
        raise Error(f"cu_seqlens_q or cu_seqlens_k_new is given and q lives on the device '{q.device}', where a call "
                    "does not wait to read it: give q as (B, S, H, D), or take flash_attn_varlen_func")
    else:
        entries = (cu_seqlens_k_new if cu_seqlens_q is None else cu_seqlens_q).numel() - 1
        if cache_batch_idx is None and page_table is None:
            batched = (cache_seqlens, torch.arange(entries, dtype=torch.int32), *batched[2:])
        done = [one(_entry(q, b, cu_seqlens_q), _entry(k, b, cu_seqlens_k_new),
                    _entry(v, b, cu_seqlens_k_new), *(_entry(x, b) for x in batched))
                for b in range(entries)]
        if cu_seqlens_q is None:
            out, lse = (torch.cat(x) for x in zip(*done))
        else:
            length("max_seqlen_q", max_seqlen_q, q.shape[0])
            out = torch.cat([o[0] for o, _ in done]) if done else torch.empty_like(q)
            lse = (torch.cat([x[0] for _, x in done], 1) if done
                   else torch.empty((q.shape[1], 0), dtype=torch.float32))
    empty = lse.new_empty((0,))
    return (out, lse, empty, empty) if return_softmax_lse else out


def flash_attn_combine(out_partial: Tensor, lse_partial: Tensor, out: Tensor | None = None,
                       out_dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """One result from parts over disjoint keys: out_partial float32 (parts, B, S, H, D), lse_partial float32
    (parts, B, S, H). Returns (out (B, S, H, D) in out_dtype, lse (B, S, H)); out : written if given."""
    if out_partial.dim() != 5 or lse_partial.shape != out_partial.shape[:-1]:
        raise Error(f"out_partial has the shape {tuple(out_partial.shape)} and lse_partial "
                    f"{tuple(lse_partial.shape)}: they must be (parts, B, S, H, D) and (parts, B, S, H)")
    result, lse = merge([tensor("out_partial", x) for x in out_partial],
                        [x.transpose(1, 2).contiguous() for x in lse_partial])
    if out is not None:
        result = out.copy_(result)
    elif out_dtype is not None:
        result = result.to(out_dtype)
    return result, lse.transpose(1, 2)


def get_scheduler_metadata(batch_size: int, max_seqlen_q: int, max_seqlen_k: int, num_heads_q: int,
                           num_heads_kv: int, headdim: int, cache_seqlens: Tensor,
                           qkv_dtype: torch.dtype = torch.bfloat16, headdim_v: int | None = None,
                           cu_seqlens_q: Tensor | None = None, cu_seqlens_k_new: Tensor | None = None,
                           cache_leftpad: Tensor | None = None, page_size: int | None = None,
                           max_seqlen_k_new: int = 0, causal: bool = False,
                           window_size: Window = (-1, -1), attention_chunk: int = 0,
                           has_softcap: bool = False, num_splits: int = 0, pack_gqa: bool | None = None,
                           sm_margin: int = 0) -> Tensor:
    """For scheduler_metadata: an empty int32 tensor, as a call makes its own plan."""
    return torch.empty((0,), dtype=torch.int32, device=cache_seqlens.device)
