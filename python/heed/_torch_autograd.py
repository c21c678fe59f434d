# _torch_autograd.py: the results of one call of the extension as part of autograd's graph, where nothing but
# autograd is at work. Not here: the operators (_torch_ops.py), which serve all other cases.
import torch

from . import _core
from . import _torch_values as values
from ._torch_ops import backward_operator, dense_rows


def joined(pending, q, k, v, bias, sinks, return_lse=False, heads_first=False):
    """What a call gives back, from the list that _core.attention has left for autograd."""
    return _apply(q, k, v, bias, sinks, pending, return_lse, heads_first)


class HeedAttention(torch.autograd.Function):
    """Of an operator's registered formula a call costs 0.25 ms, of this one 6 µs: the results are there
    already, and the arguments without gradient come in one piece."""

    @staticmethod
    def forward(ctx, q, k, v, bias, sinks, pending, return_lse, heads_first):
        out, lse, probs, (numbers, arrays, places) = pending
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, out, lse, *arrays)
        ctx.numbers, ctx.places, ctx.heads_first, ctx.with_lse = numbers, places, heads_first, return_lse
        if probs is None:
            return (out, lse) if return_lse else out
        ctx.mark_non_differentiable(probs)
        return (out, lse, probs) if return_lse else (out, probs)

    @staticmethod
    def backward(ctx, dout, *others):
        dlse = others[0] if ctx.with_lse else None
        if dout is None and dlse is None:
            return (None,) * 8
        # Once: a checkpoint computes them when they are asked for.
        q, k, v, out, lse, *arrays = ctx.saved_tensors
        if dout is None:
            dout = torch.zeros_like(out)
        options = ctx.numbers
        if arrays:
            options = list(options)
            for place, array in zip(ctx.places, arrays):
                options[place] = array
        wanted = ctx.needs_input_grad[3], ctx.needs_input_grad[4]
        done = NotImplemented
        if not (torch.is_grad_enabled() or _mapped(dout) or dlse is not None and _mapped(dlse)):
            done = _core.attention_backward(
                dense_rows(dout), q, k, v, out, lse, None if dlse is None else dlse.contiguous(), *options, *wanted,
                False, True, ctx.heads_first)
        if done is NotImplemented:
            done = _by_operator(ctx.heads_first, (dout, q, k, v, out), lse, dlse, options, wanted)
        dq, dk, dv, dbias, dsinks = done
        if not wanted[0]:
            dbias = None
        elif dbias.dim() != options[_BIAS].dim():
            dbias = dbias.view(options[_BIAS].shape)
        return dq, dk, dv, dbias, dsinks if wanted[1] else None, None, None, None


# Function.apply looks for function transforms and tensors that were left over from one; neither comes here.
_apply = super(torch.autograd.Function, HeedAttention).apply
# Whether autograd's is_grads_batched has mapped a tensor, which is no function transform.
_mapped = torch._C._functorch.is_legacy_batchedtensor
_BIAS = 9  # of the options


def _by_operator(heads_first, rows, lse, dlse, options, wanted):
    """The gradients where somebody watches: a mode, a mapped dout, a graph of gradients."""
    (scale, causal, align, query_offset, window, prefix, chunk, softcap, alibi_slopes, bias, mask, block_map,
     block_size, sinks, key_lengths, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, seed, offset,
     backend, threads) = options
    if heads_first:
        rows = [t.transpose(1, 2) for t in rows]
    dout, q, k, v, out = rows
    score, offsets = values.of_score(scale, causal, align, query_offset, window, prefix, chunk, softcap, block_map,
                                     block_size, read=True)
    rng = values.rng(seed, offset) if dropout_p else None
    grads = backward_operator()(
        dout, dlse, q, k, v, out, lse, bias, mask, block_map, alibi_slopes, sinks, key_lengths, offsets, cu_seqlens_q,
        cu_seqlens_k, rng, *score, max_seqlen_q, max_seqlen_k, values.real("dropout_p", dropout_p), backend, threads,
        *wanted)
    if heads_first:
        grads = (*(t.transpose(1, 2) for t in grads[:3]), *grads[3:])
    return grads
