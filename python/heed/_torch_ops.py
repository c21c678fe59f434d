# _torch_ops.py: heed's operators for PyTorch's dispatcher: schemas, kernels for CPU and CUDA, shapes for tensors
# without data, gradients. Not here: vmap, operation counts (_torch_transforms.py).
import torch

from . import _core
from ._core import Error

# The score's options, in the order of every schema.
_TENSORS = """Tensor? bias, Tensor? mask, Tensor? block_map, Tensor? alibi_slopes, Tensor? sinks,
    Tensor? key_lengths, Tensor? query_offsets, Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? rng"""
_NUMBERS = """float? scale, bool causal, str align, SymInt? query_offset, SymInt window_left,
    SymInt window_right, SymInt prefix, SymInt chunk, float softcap, SymInt block_rows,
    SymInt block_cols, SymInt? max_seqlen_q, SymInt? max_seqlen_k, float dropout_p, str? backend,
    int? threads"""
_CACHE = """Tensor? k_new, Tensor? v_new, Tensor? rotary_cos, Tensor? rotary_sin, Tensor? cache_seqlens,
    Tensor? cache_batch_idx, Tensor? cache_leftpad, Tensor? block_table, Tensor? bias, Tensor? mask,
    Tensor? block_map, Tensor? alibi_slopes, Tensor? sinks, Tensor? query_offsets, SymInt? cache_seqlen,
    bool rotary_interleaved, float? scale, bool causal, str align, SymInt? query_offset,
    SymInt window_left, SymInt window_right, SymInt prefix, SymInt chunk, float softcap,
    SymInt block_rows, SymInt block_cols, str? backend, int? threads"""

TENSOR_OPTIONS = 10  # of _TENSORS
_DEVICES = ("cpu", "cuda")  # one kernel for both: the extension sees where the tensors lie

for _schema in (
    f"attention_forward(Tensor q, Tensor k, Tensor v, {_TENSORS}, {_NUMBERS}, bool return_probs)"
    " -> (Tensor out, Tensor lse, Tensor probs)",
    f"attention_backward(Tensor dout, Tensor? dlse, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,"
    f" {_TENSORS}, {_NUMBERS}, bool want_dbias, bool want_dsinks)"
    " -> (Tensor dq, Tensor dk, Tensor dv, Tensor dbias, Tensor dsinks)",
    f"decode(Tensor q, Tensor k_cache, Tensor v_cache, {_CACHE}) -> (Tensor out, Tensor lse)",
    f"decode_append(Tensor q, Tensor(a!) k_cache, Tensor(b!) v_cache, {_CACHE})"
    " -> (Tensor out, Tensor lse)",
):
    _name, _rest = _schema.split("(", 1)
    torch.library.define(f"heed::{_name}", "(" + " ".join(_rest.split()), tags=(
        torch.Tag.needs_fixed_stride_order,))

_WORD = 2**64


def options(tensors, numbers):
    """What the extension takes, from what an operator was given."""
    (bias, mask, block_map, alibi_slopes, sinks, key_lengths, query_offsets, cu_seqlens_q, cu_seqlens_k,
     rng) = tensors
    (scale, causal, align, query_offset, left, right, prefix, chunk, softcap, rows, cols, max_q, max_k,
     dropout_p, backend, threads) = numbers
    seed, offset = (None, 0) if rng is None else (n % _WORD for n in rng.tolist())
    return (scale, causal, align, query_offset if query_offsets is None else query_offsets, (left, right),
            prefix, chunk, softcap, alibi_slopes, bias, mask, block_map,
            None if block_map is None else (rows, cols), sinks, key_lengths, cu_seqlens_q, cu_seqlens_k,
            max_q, max_k, dropout_p, seed, offset, backend, threads)


def _forward(q, k, v, *rest):
    return_probs = rest[-1]
    if q.is_cuda and rest[TENSOR_OPTIONS - 1] is not None and torch.cuda.is_current_stream_capturing():
        raise Error("dropout is drawn within an operator (torch.compile, a dispatch mode) while a CUDA graph is "
                    "captured: every replay would drop the same; capture heed.attention itself with a seed to "
                    "say that this is meant")
    results = _core.attention(q, k, v, *options(rest[:TENSOR_OPTIONS], rest[TENSOR_OPTIONS:-1]), True, return_probs,
                              False, 0, False)
    return results if return_probs else (*results, q.new_empty((0,)))


torch.library.impl("heed::attention_forward", _DEVICES, _forward)


@torch.library.register_fake("heed::attention_forward")
def _forward_fake(q, k, v, *rest):
    options, return_probs = rest[:-1], rest[-1]
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    if options[7] is None:  # cu_seqlens_q
        batch, sq, heads, _ = q.shape
        lse = q.new_empty((batch, heads, sq), dtype=torch.float32)
        shape = (batch, heads, sq, k.shape[1])
    else:
        lse = q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)
        max_q, max_k = options[TENSOR_OPTIONS + 11], options[TENSOR_OPTIONS + 12]
        if return_probs and (max_q is None or max_k is None):
            raise Error("return_probs with ragged batches and without max_seqlen_q and max_seqlen_k: give "
                        "both, for the shape of the probabilities must be known before cu_seqlens is read")
        shape = (options[7].shape[0] - 1, q.shape[1], max_q, max_k)
    return out, lse, q.new_empty(shape if return_probs else (0,))


def dense_rows(t):
    # Gradients arrive as autograd made them: expanded, for one. The contract wants the last stride 1.
    return t if t.stride(-1) == 1 else t.contiguous()


def _backward(dout, dlse, q, k, v, out, lse, *rest):
    *_, want_dbias, want_dsinks = rest
    dq, dk, dv, dbias, dsinks = _core.attention_backward(
        dense_rows(dout), q, k, v, out, lse, None if dlse is None else dlse.contiguous(),
        *options(rest[:TENSOR_OPTIONS], rest[TENSOR_OPTIONS:-2]), want_dbias, want_dsinks, False, False, False)
    dbias = dbias.view(rest[0].shape) if want_dbias else q.new_empty((0,))
    return dq, dk, dv, dbias, dsinks if want_dsinks else q.new_empty((0,), dtype=torch.float32)


torch.library.impl("heed::attention_backward", _DEVICES, _backward)


@torch.library.register_fake("heed::attention_backward")
def _backward_fake(dout, dlse, q, k, v, out, lse, *rest):
    options, want_dbias, want_dsinks = rest[:-2], rest[-2], rest[-1]
    bias, sinks = options[0], options[4]
    return (q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape),
            bias.new_empty(bias.shape) if want_dbias else q.new_empty((0,)),
            sinks.new_empty(sinks.shape) if want_dsinks else q.new_empty((0,), dtype=torch.float32))


def _keep(ctx, inputs, output):
    q, k, v, *rest = inputs
    out, lse, probs = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(probs)
    ctx.save_for_backward(q, k, v, out, lse, *rest[:TENSOR_OPTIONS])
    ctx.numbers = rest[TENSOR_OPTIONS:-1]
    ctx.inputs = len(inputs)


def _gradient(ctx, dout, dlse, dprobs):
    """As autograd calls it, with the gradients of the three results."""
    return _gradients(ctx, ctx.saved_tensors, dout, dlse, torch.ops.heed.attention_backward)


def _gradients(ctx, saved, dout, dlse, operator):
    q, k, v, out, lse, *tensors = saved
    if dout is None and dlse is None:
        return (None,) * ctx.inputs
    if dout is None:
        dout = torch.zeros_like(out)
    bias, sinks = tensors[0], tensors[4]
    want_dbias = bias is not None and ctx.needs_input_grad[3]
    want_dsinks = sinks is not None and ctx.needs_input_grad[7]
    dq, dk, dv, dbias, dsinks = operator(
        dout, dlse, q, k, v, out, lse, *tensors, *ctx.numbers, want_dbias, want_dsinks)
    grads = [None] * ctx.inputs
    grads[:3] = dq, dk, dv
    grads[3] = dbias if want_dbias else None
    grads[7] = dsinks if want_dsinks else None
    return tuple(grads)


def _no_second(ctx, *grads):
    raise Error("heed.attention has no second derivative: its gradient was asked for with "
                "create_graph=True and then differentiated; backend and options do not matter, use "
                "a composition of PyTorch's own operators there")


def written(*tensors):
    """Tells autograd that these were written in place, so that it knows what it saved to be gone."""
    for t in tensors:
        torch.autograd.graph.increment_version(t)


class _AttentionBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        return torch.ops.heed.attention_backward(*inputs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    backward = staticmethod(_no_second)


def backward_operator():
    """The operator, for a gradient that may itself be differentiated (create_graph=True, a transform) as a
    Function that refuses."""
    return _AttentionBackward.apply if torch.is_grad_enabled() else torch.ops.heed.attention_backward


class Transformed(torch.autograd.Function):
    """The operator's forward and gradient for torch.func's transforms, which do not take a formula that
    is registered with an operator."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        return torch.ops.heed.attention_forward(*inputs)

    setup_context = staticmethod(_keep)

    @staticmethod
    def backward(ctx, dout, dlse, dprobs):
        return _gradients(ctx, ctx.saved_tensors, dout, dlse, backward_operator())


torch.library.register_autograd("heed::attention_forward", _gradient, setup_context=_keep)
torch.library.register_autograd("heed::attention_backward", _no_second)


def _decode(q, k_cache, v_cache, k_new, v_new, cos, sin, cache_seqlens, batch_idx, leftpad, block_table,
            bias, mask, block_map, alibi_slopes, sinks, query_offsets, cache_seqlen, interleaved, scale,
            causal, align, query_offset, left, right, prefix, chunk, softcap, rows, cols, backend, threads):
    results = _core.decode(
        q, k_cache, v_cache, k_new, v_new, cos, sin, interleaved,
        cache_seqlen if cache_seqlens is None else cache_seqlens, batch_idx, leftpad, block_table, scale,
        causal, align, query_offset if query_offsets is None else query_offsets, (left, right), prefix,
        chunk, softcap, alibi_slopes, bias, mask, block_map, None if block_map is None else (rows, cols),
        sinks, None, None, None, None, None, 0.0, None, 0, backend, threads, True, False)
    if k_new is not None and k_new.numel():
        written(k_cache, v_cache)
    return results


def _decode_fake(q, k_cache, v_cache, *rest):
    batch, sq, heads, _ = q.shape
    return (q.new_empty((batch, sq, heads, v_cache.shape[-1])),
            q.new_empty((batch, heads, sq), dtype=torch.float32))


for _name in ("heed::decode", "heed::decode_append"):
    torch.library.impl(_name, _DEVICES, _decode)
    torch.library.register_fake(_name, _decode_fake)
