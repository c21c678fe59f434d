# _flash_attn_3.py: flash-attn 3's arguments as heed.attention takes them: 8-bit tensors with their scales,
# a second query against the values, rows used in part. Not here: the functions by their names.
import math

import torch
from torch import Tensor

from .. import _api
from .._core import Error
from .._words import FLASH_ATTN_3, spoken
from ._call import bounds, cap, length, splits, tensor
from ._ragged import _entries, _in_range, _indices, covered, rows_of

attention, decode = spoken(FLASH_ATTN_3)(_api.attention), spoken(FLASH_ATTN_3)(_api.decode)
_EIGHT = torch.float8_e4m3fn


def check_tuning(num_splits, scheduler_metadata=None):
    """What may be given and changes no result: here it must only make sense."""
    splits(num_splits, 256)
    if scheduler_metadata is not None and not isinstance(scheduler_metadata, Tensor):
        raise Error(f"scheduler_metadata is a {type(scheduler_metadata).__name__}: it must be what "
                    "get_scheduler_metadata returned, or None")


def _descaled(name, x, scale, heads_kv, cu):
    """x in f32, times the scale (B, Hk) of its entry and kv head."""
    x = x.float()
    if scale is None:
        return x
    batch = x.shape[0] if cu is None else cu.numel() - 1
    if scale.dtype != torch.float32 or scale.shape != (batch, heads_kv):
        raise Error(f"{name} is {scale.dtype} {tuple(scale.shape)}: it must be float32 "
                    f"{(batch, heads_kv)}, one for each entry and kv head")
    scale = scale.repeat_interleave(x.shape[-2] // heads_kv, 1)
    if cu is None:
        return x * scale[:, None, :, None]
    return x * scale.repeat_interleave(cu.diff().long(), 0, output_size=x.shape[0])[..., None]


def prepare(q, k, v, qv, scales, softmax_scale, cu_seqlens_q=None, cu_seqlens_k=None):
    """(q, k, v, scale, the dtype of the output)."""
    q, k, v = tensor("q", q), tensor("k", k), tensor("v", v)
    dtype = q.dtype
    given = [n for n, s in zip(("q_descale", "k_descale", "v_descale"), scales) if s is not None]
    if dtype == _EIGHT:
        if k.dtype != _EIGHT or v.dtype != _EIGHT or qv is not None:
            raise Error(f"q is float8_e4m3fn, k {k.dtype}, v {v.dtype}: all three must be, without qv")
        if softmax_scale is None:
            softmax_scale = 1 / math.sqrt(q.shape[-1])
        heads = k.shape[-2]
        q = _descaled("q_descale", q, scales[0], heads, cu_seqlens_q)
        k = _descaled("k_descale", k, scales[1], heads, cu_seqlens_k)
        v = _descaled("v_descale", v, scales[2], heads, cu_seqlens_k)
        return q, k, v, softmax_scale, torch.bfloat16
    if given:
        raise Error(f"{given[0]} is given and q is {dtype}: scales belong to float8_e4m3fn")
    if qv is not None:
        qv = tensor("qv", qv)
        if qv.shape != (*q.shape[:-1], v.shape[-1]):
            raise Error(f"qv has the shape {tuple(qv.shape)}: it must be "
                        f"{(*q.shape[:-1], v.shape[-1])}, that of q with the last axis of v")
        # q·k + qv·v is one product of longer rows.
        q, k = torch.cat((q, qv), -1), torch.cat((k, v), -1)
        if softmax_scale is None:
            softmax_scale = 1 / math.sqrt(q.shape[-1])
    return q, k, v, softmax_scale, dtype


def sinks_of(s_aux):
    return None if s_aux is None else tensor("s_aux", s_aux).float()


def options(softmax_scale, causal, window_size, attention_chunk, softcap, s_aux):
    return dict(scale=softmax_scale, causal=bool(causal), window=bounds(window_size), chunk=attention_chunk,
                softcap=cap(softcap), sinks=sinks_of(s_aux))


def ragged(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_q, seqused_k, given):
    """(out, lse) of flash_attn_varlen_func; rows behind seqused_q[b] give 0 and −∞."""
    max_seqlen_q = length("max_seqlen_q", max_seqlen_q, q.shape[0])
    max_seqlen_k = length("max_seqlen_k", max_seqlen_k, k.shape[0])
    lengths, rows, total = None, None, q.shape[0]
    if seqused_k is not None:
        lengths = _indices("seqused_k", seqused_k, (_entries("cu_seqlens_k", cu_seqlens_k),))
    if seqused_q is not None:
        if q.is_cuda:
            raise Error(f"seqused_q is given and q lives on the device '{q.device}', where a call does not wait to "
                        "read it: pack the rows in use and leave it out (cu_seqlens_q), or make them CPU tensors")
        used = _indices("seqused_q", seqused_q, (_entries("cu_seqlens_q", cu_seqlens_q),))
        _in_range("seqused_q", used, 0, cu_seqlens_q.diff(), "the rows of its slot")
        rows, cu_seqlens_q = rows_of(cu_seqlens_q[:-1].long(), used.long())
        q = q.index_select(0, rows)
    at, _ = covered(q, k, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, None)
    if lengths is not None and at["cu_seqlens_k"].numel() > lengths.numel() + 1:
        lengths = torch.cat((lengths, at["cu_seqlens_k"].diff()[-2:]))
    out, lse = attention(q, k, v, key_lengths=lengths, return_lse=True, **at, **given)
    if rows is None:
        return out, lse
    return (out.new_zeros((total, *out.shape[1:])).index_copy(0, rows, out),
            lse.new_full((lse.shape[0], total), -math.inf).index_copy(1, rows, lse))
