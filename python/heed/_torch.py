# _torch.py: attention and decode on PyTorch tensors: straight into the extension where nothing else
# needs to know, else through the operators of _torch_ops.py. Imported only where PyTorch is.
import torch
from torch import Tensor

from . import _core
from ._core import ArgumentTypeError, Error

if not hasattr(torch.library, "register_vmap"):
    raise ImportError(f"heed takes tensors of PyTorch 2.5 and later, and this is PyTorch {torch.__version__}")
_core.use_torch(torch)

from . import _torch_ops, _torch_transforms  # noqa: E402, F401  (they register)
from . import _torch_values as values  # noqa: E402
from ._torch_autograd import joined  # noqa: E402
from ._torch_merge import merge_on_device  # noqa: E402
from ._torch_values import draw_rng, rng_of  # noqa: E402, F401

is_compiling = torch.compiler.is_compiling
_GUARD_ALL_BUT_AUTOCAST = 2  # of _core.attention


def _check_tensors(given):
    """Sentences for what the dispatcher would refuse in words of its own, or not at all: beside a tensor
    of the device meta it would compute nothing."""
    lead, first = next(iter(given.items()))
    device = first.device if isinstance(first, Tensor) else torch.device("cpu")
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(f"{name} is a {type(value).__name__}: it must be a PyTorch tensor, "
                                    "as the first argument is")
        if value.device.type not in ("cpu", "cuda", "meta"):
            raise Error(f"{name} lives on the device '{value.device}': heed computes on the CPU and on CUDA "
                        "devices, so it must be a CPU or a CUDA tensor")
        if value.device != device and not (device.type == "meta" and value.device.type == "cpu"):
            raise Error(f"{name} lives on the device '{value.device}' and {lead} on '{device}': all arrays of a "
                        "call must be on one device")
        if value.layout != torch.strided or value.is_nested:
            kind = "is a nested tensor" if value.is_nested else f"has the layout {value.layout}"
            raise Error(f"{name} {kind}: it must be a dense (strided) tensor")


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
    device = tensors[0].device.type
    if not values.in_autocast(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
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
    compiling = is_compiling()
    stand_ins = not compiling and _core.stand_ins()
    rng = None
    if dropout_p:
        rng = draw_rng(q) if seed is None else values.rng(seed, offset)
    if not compiling:
        _core.check(q, k, v, scale, causal, align, query_offset, window, prefix, chunk, softcap,
                    alibi_slopes, bias, mask, block_map, block_size, sinks, key_lengths, cu_seqlens_q,
                    cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, 0, 0, backend, threads,
                    return_probs)
        dropout_p, return_probs = values.real("dropout_p", dropout_p), values.flag("return_probs", return_probs)
        backend, threads = values.of_plan(backend, threads)
    score, offsets = values.of_score(scale, causal, align, query_offset, window, prefix, chunk, softcap,
                                     block_map, block_size, read=not compiling)
    tensors = (bias, mask, block_map, alibi_slopes, sinks, key_lengths, offsets, cu_seqlens_q, cu_seqlens_k, rng)
    numbers = (*score, values.whole_or_none("max_seqlen_q", max_seqlen_q),
               values.whole_or_none("max_seqlen_k", max_seqlen_k), dropout_p, backend, threads)
    forward = torch.ops.heed.attention_forward
    if not compiling:
        _no_tangent(q, k, v, bias, sinks)
        if not stand_ins:  # for tensors that are plain; autocast has been seen to, and numbers are numbers
            done = _core.attention(q, k, v, *_torch_ops.options(tensors, numbers), return_lse, return_probs,
                                   False, _GUARD_ALL_BUT_AUTOCAST, False)
            if done is not NotImplemented:
                return done if type(done) is not list else joined(done, q, k, v, bias, sinks, return_lse)
        if not torch.jit.is_tracing():  # a trace records operators, and no Function that needs a gradient
            forward = _torch_ops.Transformed.apply
    out, lse, probs = forward(q, k, v, *tensors, *numbers, return_probs)
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
    """As the extension's, where tensors are not what they seem: in a graph of torch.compile, under a
    function transform or a dispatch mode, for subclasses and for views with another sign."""
    if f32_grads:
        raise Error("f32_grads is True where PyTorch's dispatcher has to compute (torch.compile, function "
                    "transforms, dispatch modes, tensor subclasses): gradients come in the tensors' dtype there")
    if want_dbias and bias is None or want_dsinks and sinks is None:
        name = "bias" if want_dbias and bias is None else "sinks"
        raise Error(f"return_d{name} is True and {name} is None: there is nothing to differentiate")
    rng = None
    if dropout_p:
        if seed is None:
            raise Error("seed is None and dropout_p is not 0: give a seed")
        rng = values.rng(seed, offset)
    compiling = is_compiling()
    if not compiling:
        _check_tensors({"dout": dout, "q": q, "k": k, "v": v, "o": o, "lse": lse, "dlse": dlse, "bias": bias,
                        "mask": mask, "block_map": block_map, "alibi_slopes": alibi_slopes, "sinks": sinks,
                        "key_lengths": key_lengths, "cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k})
        dropout_p = values.real("dropout_p", dropout_p)
        backend, threads = values.of_plan(backend, threads)
        want_dbias = values.flag("return_dbias", want_dbias)
        want_dsinks = values.flag("return_dsinks", want_dsinks)
    score, offsets = values.of_score(scale, causal, align, query_offset, window, prefix, chunk, softcap,
                                     block_map, block_size, read=not compiling)
    with torch.set_grad_enabled(compiling and torch.is_grad_enabled()):  # no gradient is recorded
        return torch.ops.heed.attention_backward(
            dout, dlse, q, k, v, o, lse, bias, mask, block_map, alibi_slopes, sinks, key_lengths, offsets,
            cu_seqlens_q, cu_seqlens_k, rng, *score, values.whole_or_none("max_seqlen_q", max_seqlen_q),
            values.whole_or_none("max_seqlen_k", max_seqlen_k), dropout_p, backend, threads, want_dbias,
            want_dsinks)


def merge(outs, lses, dtype):
    for name, parts in (("outs", outs), ("lses", lses)):
        _no_gradient({f"{name}[{i}]": t for i, t in enumerate(parts)},
                     "and merge has no gradient: use torch.no_grad() or detach it")
    if outs[0].is_cuda:
        return merge_on_device(outs, lses, dtype)
    resolved = ([t.resolve_neg() if isinstance(t, Tensor) else t for t in parts] for parts in (outs, lses))
    return _core.merge(*resolved, dtype)


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
            if k_new is not None and k_new.numel():
                _torch_ops.written(k_cache, v_cache)
            return done
    tensors = {"q": q, "k_cache": k_cache, "v_cache": v_cache, "k_new": k_new, "v_new": v_new,
               "rotary_cos": rotary_cos, "rotary_sin": rotary_sin, "cache_batch_idx": cache_batch_idx,
               "cache_leftpad": cache_leftpad, "block_table": block_table, "alibi_slopes": alibi_slopes,
               "bias": bias, "mask": mask, "block_map": block_map, "sinks": sinks}
    _check_tensors(tensors)
    _no_gradient(tensors, "and a call on a cache has no gradient: use torch.no_grad() or detach it")
    if values.in_autocast(q.device.type):  # the caches are what they are: the rest takes their dtype
        q, k_new, v_new, rotary_cos, rotary_sin = (
            t if t is None else t.to(k_cache.dtype) for t in (q, k_new, v_new, rotary_cos, rotary_sin))
    lengths = cache_seqlens if isinstance(cache_seqlens, Tensor) and cache_seqlens.dim() > 0 else None
    length = None if lengths is not None else values.whole_or_none("cache_seqlens", cache_seqlens)
    if not is_compiling():
        rotary_interleaved = values.flag("rotary_interleaved", rotary_interleaved)
        backend, threads = values.of_plan(backend, threads)
    score, offsets = values.of_score(scale, causal, align, query_offset, window, prefix, chunk, softcap,
                                     block_map, block_size, read=not is_compiling())
    arguments = (k_new, v_new, rotary_cos, rotary_sin, lengths, cache_batch_idx, cache_leftpad,
                 block_table, bias, mask, block_map, alibi_slopes, sinks,
                 offsets, length, rotary_interleaved, *score, backend, threads)
    operator = torch.ops.heed.decode if k_new is None else torch.ops.heed.decode_append
    out, lse = operator(q, k_cache, v_cache, *arguments)
    return (out, lse) if return_lse else out
