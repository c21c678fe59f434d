# _torch.py: attention and decode on PyTorch tensors: straight into the extension where nothing else
# needs to know, else through the operators of _torch_ops.py. Imported only where PyTorch is.
import torch
from torch import Tensor

from . import _core
from ._core import ArgumentTypeError, Error

_core.use_torch(torch)

from . import _torch_ops, _torch_transforms  # noqa: E402, F401  (they register)

is_compiling = torch.compiler.is_compiling


def draw_rng():
    """(seed, offset) of dropout as an int64 tensor (2,), from PyTorch's default generator: what
    torch.manual_seed repeats, and what an operator keeps for its backward."""
    return torch.randint(0, 2**62, (2,), dtype=torch.int64, device="cpu")


def rng_of(seed, offset):
    """The same from given numbers, each from 0 to 2**64 - 1."""
    numbers = []
    for name, number in (("seed", seed), ("offset", offset)):
        if not 0 <= number < 2**64:
            raise Error(f"{name} is {number}: it must be from 0 to 18446744073709551615 (2^64 - 1)")
        numbers.append(number - 2**64 if number >= 2**63 else number)
    return torch.tensor(numbers, dtype=torch.int64, device="cpu")


def _check_tensors(given):
    """Sentences for what the dispatcher would refuse in words of its own."""
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(f"{name} is a {type(value).__name__}: it must be a PyTorch tensor, "
                                    "as the first argument is")
        if value.device.type not in ("cpu", "meta"):
            raise Error(f"{name} lives on the device '{value.device}': this build of heed computes on "
                        "the CPU, so it must be a CPU tensor")


def _no_gradient(given, why):
    if not torch.is_grad_enabled():
        return
    for name, value in given.items():
        if isinstance(value, Tensor) and value.requires_grad:
            raise Error(f"{name} requires grad, {why}")


def _no_tangent(*tensors):
    for t in tensors:
        if isinstance(t, Tensor) and torch.autograd.forward_ad.unpack_dual(t).tangent is not None:
            raise Error("heed.attention has no forward-mode derivative (jvp): use reverse mode, "
                        "torch.func.vjp or backward()")


def _autocast(*tensors):
    """As PyTorch does for its own attention: f32 goes down to the dtype of autocast."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    dtype = torch.get_autocast_dtype("cpu")
    return tuple(t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64
                 else t for t in tensors)


def attention(q, k, v, scale, causal, align, query_offset, window, prefix, chunk, softcap, alibi_slopes,
              bias, mask, block_map, block_size, sinks, key_lengths, cu_seqlens_q, cu_seqlens_k,
              max_seqlen_q, max_seqlen_k, dropout_p, seed, offset, return_lse, return_probs, backend,
              threads):
    """heed.attention where the extension alone will not do; its arguments in its order."""
    _check_tensors({"q": q, "k": k, "v": v, "bias": bias, "mask": mask, "block_map": block_map,
                    "alibi_slopes": alibi_slopes, "sinks": sinks, "key_lengths": key_lengths,
                    "cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k})
    _no_gradient({"alibi_slopes": alibi_slopes}, "and has none: gradients go to q, k, v, bias and sinks")
    q, k, v = _autocast(q, k, v)
    rng = None
    if dropout_p:
        # A tensor (seed, offset), as draw_rng makes it, is taken as it is: modules that hand the state
        # on need not read it.
        rng = (draw_rng() if seed is None else seed if isinstance(seed, Tensor)
               else rng_of(int(seed), int(offset)))
    if not is_compiling():
        _core.check(q, k, v, scale, causal, align, query_offset, window, prefix, chunk, softcap,
                    alibi_slopes, bias, mask, block_map, block_size, sinks, key_lengths, cu_seqlens_q,
                    cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, 0, 0, backend, threads,
                    return_probs)
    per_entry = isinstance(query_offset, Tensor) and query_offset.dim() > 0
    left, right = (-1, -1) if window is None else window
    rows, cols = (0, 0) if block_size is None else block_size
    forward = torch.ops.heed.attention_forward
    if not is_compiling():
        _no_tangent(q, k, v, bias, sinks)
        forward = (_torch_ops.Transformed if _core.stand_ins() else _torch_ops.Eager).apply
    out, lse, probs = forward(
        q, k, v, bias, mask, block_map, alibi_slopes, sinks, key_lengths,
        query_offset if per_entry else None, cu_seqlens_q, cu_seqlens_k, rng, scale, causal, align,
        None if per_entry or query_offset is None else int(query_offset), int(left), int(right), prefix,
        chunk, softcap, rows, cols, _int(max_seqlen_q), _int(max_seqlen_k), dropout_p, backend, threads,
        return_probs)
    if return_lse and return_probs:
        return out, lse, probs
    if return_lse:
        return out, lse
    if return_probs:
        return out, probs
    return out


def attention_backward(dout, q, k, v, o, lse, dlse, scale, causal, align, query_offset, window, prefix, chunk,
                       softcap, alibi_slopes, bias, mask, block_map, block_size, sinks, key_lengths,
                       cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, seed, offset,
                       backend, threads, want_dbias, want_dsinks, f32_grads):
    """As the extension's, in a graph of torch.compile."""
    if f32_grads:
        raise Error("f32_grads is True under torch.compile: gradients come in the tensors' dtype there")
    rng = None
    if dropout_p:
        rng = seed if isinstance(seed, Tensor) else rng_of(seed, offset)
    per_entry = isinstance(query_offset, Tensor) and query_offset.dim() > 0
    left, right = (-1, -1) if window is None else window
    rows, cols = (0, 0) if block_size is None else block_size
    return torch.ops.heed.attention_backward(
        dout, dlse, q, k, v, o, lse, bias, mask, block_map, alibi_slopes, sinks, key_lengths,
        query_offset if per_entry else None, cu_seqlens_q, cu_seqlens_k, rng, scale, causal, align,
        None if per_entry or query_offset is None else int(query_offset), int(left), int(right), prefix,
        chunk, softcap, rows, cols, _int(max_seqlen_q), _int(max_seqlen_k), dropout_p, backend, threads,
        want_dbias, want_dsinks)


def _int(value):
    # Callers hold lengths as tensors of one element, too.
    return int(value) if isinstance(value, Tensor) else value


def decode(q, k_cache, v_cache, k_new, v_new, rotary_cos, rotary_sin, rotary_interleaved, cache_seqlens,
           cache_batch_idx, cache_leftpad, block_table, scale, causal, align, query_offset, window, prefix,
           chunk, softcap, alibi_slopes, bias, mask, block_map, block_size, sinks, backend, threads,
           return_lse):
    """heed.decode, its arguments in its order."""
    if not is_compiling():
        done = _core.decode(
            q, k_cache, v_cache, k_new, v_new, rotary_cos, rotary_sin, rotary_interleaved, cache_seqlens,
            cache_batch_idx, cache_leftpad, block_table, scale, causal, align, query_offset, window,
            prefix, chunk, softcap, alibi_slopes, bias, mask, block_map, block_size, sinks, None, None,
            None, None, None, 0.0, None, 0, backend, threads, return_lse, True)
        if done is not NotImplemented:
            return done
    tensors = {"q": q, "k_cache": k_cache, "v_cache": v_cache, "k_new": k_new, "v_new": v_new,
               "rotary_cos": rotary_cos, "rotary_sin": rotary_sin, "cache_batch_idx": cache_batch_idx,
               "cache_leftpad": cache_leftpad, "block_table": block_table, "alibi_slopes": alibi_slopes,
               "bias": bias, "mask": mask, "block_map": block_map, "sinks": sinks}
    _check_tensors(tensors)
    _no_gradient(tensors, "and a call on a cache has no gradient: use torch.no_grad() or detach it")
    if torch.is_autocast_enabled("cpu"):  # the caches are what they are: the rest takes their dtype
        q, k_new, v_new, rotary_cos, rotary_sin = (
            t if t is None else t.to(k_cache.dtype) for t in (q, k_new, v_new, rotary_cos, rotary_sin))
    lengths = cache_seqlens if isinstance(cache_seqlens, Tensor) and cache_seqlens.dim() > 0 else None
    length = None if lengths is not None or cache_seqlens is None else int(cache_seqlens)
    per_entry = isinstance(query_offset, Tensor) and query_offset.dim() > 0
    left, right = (-1, -1) if window is None else window
    rows, cols = (0, 0) if block_size is None else block_size
    arguments = (k_new, v_new, rotary_cos, rotary_sin, lengths, cache_batch_idx, cache_leftpad,
                 block_table, bias, mask, block_map, alibi_slopes, sinks,
                 query_offset if per_entry else None, length, rotary_interleaved, scale, causal, align,
                 None if per_entry or query_offset is None else int(query_offset), int(left), int(right),
                 prefix, chunk, softcap, rows, cols, backend, threads)
    operator = torch.ops.heed.decode if k_new is None else torch.ops.heed.decode_append
    out, lse = operator(q, k_cache, v_cache, *arguments)
    return (out, lse) if return_lse else out
