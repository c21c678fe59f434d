# _kernels.py: the kernels that override_torch puts into PyTorch's dispatcher for the CPU. Each gets the kernel
# it replaces and a function that gives the override in force. Not here: those for CUDA (_kernels_cuda.py),
# registering them (_override.py).
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .. import _core
from .._core import Error
from .._words import SDPA, spoken
from . import _backends, _kernels_cuda
from ._call import at_once, scaled_dot_product_attention
from ._layout import dense

_forward, _backward = spoken(SDPA)(_core.attention), spoken(SDPA)(_core.attention_backward)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _not_served(handle, tensors):
    """Why the call stays PyTorch's, as far as a glance shows; None otherwise."""
    if not torch.backends.cuda.flash_sdp_enabled():
        return ("torch.nn.attention.sdpa_kernel (or torch.backends.cuda.enable_flash_sdp) has switched the flash "
                "backend off, which heed stands for")
    dtype = tensors[0].dtype
    if dtype not in _DTYPES and (dtype != torch.float64 or "reference" not in (
            _backends.current_backends() if handle.backend is None else (handle.backend,))):
        return (f"query is {str(dtype).removeprefix('torch.')}: heed's engine computes float32, bfloat16 and "
                "float16, its reference float64 where it is asked for")
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "torch.func is at work: only PyTorch's flash kernel, further down, is heed's there"
    level = torch.autograd.forward_ad._current_level >= 0
    for t in tensors:
        if type(t) is not Tensor and is_traceable_wrapper_subclass(t):
            return f"a {type(t).__name__} wraps other tensors: PyTorch takes it apart itself"
        if t.is_nested:
            return "nested tensors are not heed's"
        if level and torch.autograd.forward_ad.unpack_dual(t).tangent is not None:
            return "heed has no forward-mode derivative"
    return None


def attention(kept, newest):
    """For aten::scaled_dot_product_attention: before PyTorch chooses between its flash and math kernels."""

    def kernel(keyset, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
               enable_gqa=False):
        handle = newest()
        if handle is not None:
            if torch.backends.cuda.flash_sdp_enabled():
                out = at_once(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, handle.backend,
                              handle.threads)
                if out is not NotImplemented:
                    handle.served += 1
                    return out
            tensors = (query, key, value) if attn_mask is None else (query, key, value, attn_mask)
            reason = _not_served(handle, tensors)
            if reason is None:
                try:
                    out = scaled_dot_product_attention(
                        query, key, value, attn_mask, dropout_p, is_causal, scale=scale,
                        enable_gqa=enable_gqa, backend=handle.backend, threads=handle.threads)
                    handle.served += 1
                    return out
                except Error as refused:
                    reason = str(refused)
            handle._keep(reason)
        return kept.call_boxed(keyset, query, key, value, attn_mask, dropout_p, is_causal, scale=scale,
                               enable_gqa=enable_gqa)

    return kernel


def _options(query, is_causal, attn_mask, scale, handle):
    bias = attn_mask if attn_mask is not None and attn_mask.dtype != torch.bool else None
    return dict(scale=scale, causal=is_causal, align="top_left", query_offset=None, window=(-1, -1), prefix=0,
                chunk=0, softcap=0.0, alibi_slopes=None, bias=bias, mask=None if bias is not None else attn_mask,
                block_map=None, block_size=None, sinks=None, key_lengths=None, cu_seqlens_q=None,
                cu_seqlens_k=None, max_seqlen_q=None, max_seqlen_k=None, dropout_p=0.0, seed=None, offset=0,
                backend=handle.backend, threads=handle.threads)


def _flash_not_served(query, dropout_p):
    if query.dtype not in _DTYPES:
        return f"query is {str(query.dtype).removeprefix('torch.')}: this kernel of heed's computes in float32"
    if dropout_p != 0:
        return f"dropout_p is {dropout_p:g}: PyTorch's flash kernel for CPU takes 0 only"
    return None


def flash_forward(kept, newest):
    """For aten::_scaled_dot_product_flash_attention_for_cpu: what compiled graphs hold and others call."""

    def kernel(keyset, query, key, value, dropout_p=0.0, is_causal=False, *, attn_mask=None, scale=None):
        handle = newest()
        if handle is not None:
            reason = _flash_not_served(query, dropout_p)
            if reason is None:
                try:
                    out, lse = _forward(
                        *(dense(t).transpose(1, 2) for t in (query, key, value)),
                        **_options(query, is_causal, attn_mask, scale, handle), return_lse=True,
                        return_probs=False, f32_out=False, guard=0, heads_first=False)
                    handle.served += 1
                    # As PyTorch's kernel leaves them, for compiled code counts on it: the output in
                    # memory as query is, lse by query, and 0 for a row that sees nothing.
                    out = out.transpose(1, 2)
                    like = torch.empty_like(query)
                    if out.stride() != like.stride():
                        out = like.copy_(out)
                    lse = lse.transpose(1, 2).contiguous()
                    return out, lse.masked_fill_(lse == -torch.inf, 0.0).transpose(1, 2)
                except Error as refused:
                    reason = str(refused)
            handle._keep(reason)
        return kept.call_boxed(keyset, query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)

    return kernel


def flash_backward(kept, newest):
    """For its backward; results of PyTorch's forward will do, as PyTorch's backward takes heed's."""

    def kernel(keyset, grad_out, query, key, value, out, logsumexp, dropout_p, is_causal, *, attn_mask=None,
               scale=None):
        handle = newest()
        if handle is not None:
            reason = _flash_not_served(query, dropout_p)
            if reason is None:
                try:
                    dq, dk, dv, _, _ = _backward(
                        *(dense(t).transpose(1, 2) for t in (grad_out, query, key, value, out)),
                        logsumexp.contiguous(), None, **_options(query, is_causal, attn_mask, scale, handle),
                        want_dbias=False, want_dsinks=False, f32_grads=False, guarded=False, heads_first=False)
                    handle.served += 1
                    return dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)
                except Error as refused:
                    reason = str(refused)
            handle._keep(reason)
        return kept.call_boxed(keyset, grad_out, query, key, value, out, logsumexp, dropout_p, is_causal,
                               attn_mask=attn_mask, scale=scale)

    return kernel


_TOP = "aten::scaled_dot_product_attention"
_FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"
# The autograd key first, and taken out last: while CPU alone had a kernel, a call in another thread would lose
# its gradient.
REPLACED = ((_TOP, "AutogradCPU", attention), (_TOP, "CPU", attention), (_FLASH, "CPU", flash_forward),
            (_FLASH + "_backward", "CPU", flash_backward), *_kernels_cuda.REPLACED)
