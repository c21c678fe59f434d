# _torch_transforms.py: what PyTorch's tools ask of heed's operators beyond computing: vmap over the
# batch, operation counts. Not here: the operators (_torch_ops.py).
import torch
from torch.utils.flop_counter import register_flop_formula

from ._core import Error
from ._torch_ops import TENSOR_OPTIONS


def _in_front(t, dim, size):
    """The mapped axis first; a tensor without one is repeated, which copies nothing."""
    return t.movedim(dim, 0) if dim is not None else t.expand(size, *t.shape)


def _fold(t, dim, size):
    """(N, B, …) as (N · B, …)."""
    return None if t is None else _in_front(t, dim, size).flatten(0, 1)


def _fold_spread(t, dim, size, batch):
    """An option of up to four axes whose batch is B or 1."""
    if t is None:
        return None
    if dim is None and t.dim() < 4 or dim is None and t.shape[0] == 1:
        return t
    t = _in_front(t, dim, size)
    t = t.reshape(size, *(1,) * (5 - t.dim()), *t.shape[1:])
    return t.expand(size, batch, *t.shape[2:]).flatten(0, 1)


def _fold_options(tensors, dims, size, batch):
    bias, mask, block_map, alibi, sinks, key_lengths, offsets = tensors[:7]
    out = [_fold_spread(t, d, size, batch) for t, d in zip((bias, mask, block_map), dims)]
    if alibi is not None and (dims[3] is not None or alibi.dim() == 2):
        alibi = _in_front(alibi, dims[3], size)
        if alibi.dim() == 2:
            alibi = alibi[:, None].expand(size, batch, alibi.shape[-1])
        alibi = alibi.flatten(0, 1)
    return [*out, alibi, sinks, _fold(key_lengths, dims[5], size), _fold(offsets, dims[6], size), None, None,
            None]


def _one_by_one(info, dims, arguments, operator):
    """A call for each index: ragged batches have no axis to fold into, a call has one set of sinks, and
    dropout draws by the seed and the index of the entry. So each index has its own mask where its seed is
    its own (randomness="different"), and the same where the seed is the same."""
    results = [operator(*(a.select(d, i) if d is not None else a for a, d in zip(arguments, dims)))
               for i in range(info.batch_size)]
    return tuple(map(torch.stack, zip(*results))), (0,) * len(results[0])


def _vmap_forward(info, dims, *arguments):
    operator = torch.ops.heed.attention_forward
    tensors, at = arguments[3:3 + TENSOR_OPTIONS], dims[3:3 + TENSOR_OPTIONS]
    if tensors[7] is not None or tensors[9] is not None or at[4] is not None:
        return _one_by_one(info, dims, arguments, operator)
    n = info.batch_size
    q, k, v = (_fold(t, d, n) for t, d in zip(arguments[:3], dims[:3]))
    results = operator(q, k, v, *_fold_options(tensors, at, n, q.shape[0] // n), *arguments[3 + TENSOR_OPTIONS:])
    return_probs = arguments[-1]
    out, lse, probs = (t.unflatten(0, (n, -1)) if t.dim() > 1 else t for t in results)
    return (out, lse, probs), (0, 0, 0 if return_probs else None)


def _vmap_backward(info, dims, *arguments):
    operator = torch.ops.heed.attention_backward
    tensors, at = arguments[7:7 + TENSOR_OPTIONS], dims[7:7 + TENSOR_OPTIONS]
    want_dbias, want_dsinks = arguments[-2:]
    if tensors[7] is not None or tensors[9] is not None or at[4] is not None or want_dsinks or want_dbias:
        # Gradients that are summed over the batch, but not over what is mapped.
        return _one_by_one(info, dims, arguments, operator)
    n = info.batch_size
    rows = [_fold(t, d, n) for t, d in zip(arguments[:7], dims[:7])]
    results = operator(*rows, *_fold_options(tensors, at, n, rows[2].shape[0] // n),
                       *arguments[7 + TENSOR_OPTIONS:])
    return (*(t.unflatten(0, (n, -1)) for t in results[:3]), *results[3:]), (0, 0, 0, None, None)


torch.library.register_vmap("heed::attention_forward", _vmap_forward)
torch.library.register_vmap("heed::attention_backward", _vmap_backward)


def _pairs(q, k, cu_seqlens_q, cu_seqlens_k):
    """Pairs of a query and a key, all heads; what masks hide counts, as PyTorch counts its own."""
    if cu_seqlens_q is None:
        return q[0] * q[2] * q[1] * k[1]
    lengths = (cu.diff().to(torch.int64) for cu in (cu_seqlens_q, cu_seqlens_k))
    a, b = lengths
    return q[1] * int((a * b).sum())


@register_flop_formula(torch.ops.heed.attention_forward, get_raw=True)
def _forward_flops(q, k, v, *rest, out_val=None, **_):
    """2 · (D + Dv) for each pair: q·k and p·v."""
    return 2 * (q.shape[-1] + v.shape[-1]) * _pairs(q.shape, k.shape, rest[7], rest[8])


@register_flop_formula(torch.ops.heed.attention_backward, get_raw=True)
def _backward_flops(dout, dlse, q, k, v, out, lse, *rest, out_val=None, **_):
    """Five products: q·k again, dout·v, then dq, dk (each D) and dv (Dv)."""
    return 2 * (3 * q.shape[-1] + 2 * v.shape[-1]) * _pairs(q.shape, k.shape, rest[7], rest[8])
