# _kernels_cuda.py: the kernels that override_torch puts into PyTorch's dispatcher for CUDA: what its flash and
# its memory-efficient backend and torch.nn.attention.varlen call, forward and backward. Each gets the kernel it
# replaces, None where this PyTorch has none, and a function that gives the override in force. Not here:
# registering (_override.py).
import math

import torch

from .. import _core
from .._core import Error
from ._layout import dense

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_FLASH = "aten::_scaled_dot_product_flash_attention"
_VARLEN = "aten::_flash_attention"
_EFFICIENT = "aten::_scaled_dot_product_efficient_attention"
_ROUND = 32  # the efficient kernels' lse has rows up to a multiple of it


def _serve(handle, reason, compute, kept, *arguments, **options):
    """The result of `compute`, or of PyTorch's own kernel. Nothing here calls an operator that was replaced:
    PyTorch's kernel is called as a kernel."""
    if handle is not None:
        if reason is None:
            try:
                result = compute(handle)
                handle.served += 1
                return result
            except Error as refused:
                reason = str(refused)
        handle._keep(reason)
    if kept is None:
        raise Error(f"this PyTorch, {torch.__version__}, has no CUDA kernel to leave the call to: {reason}")
    return kept.call_boxed(*arguments, **options)


def _not_served(query, dropout_p):
    if query.dtype not in _DTYPES:
        return f"query is {str(query.dtype).removeprefix('torch.')}: heed's kernels take float32, bfloat16 and float16"
    if dropout_p != 0:
        return (f"dropout_p is {dropout_p:g}: which weights PyTorch's kernel drops depends on how it cuts its work, "
                "and its backward would have to drop the same (heed.sdpa.scaled_dot_product_attention has dropout)")
    return None


def _options(handle, scale, is_causal, align, **others):
    return dict(scale=scale, causal=is_causal, align=align, query_offset=None, window=(-1, -1), prefix=0, chunk=0,
                softcap=0.0, alibi_slopes=None, bias=None, mask=None, block_map=None, block_size=None, sinks=None,
                key_lengths=None, cu_seqlens_q=None, cu_seqlens_k=None, max_seqlen_q=None, max_seqlen_k=None,
                dropout_p=0.0, seed=None, offset=0, backend=handle.backend, threads=handle.threads) | others


def _like(tensor, t):
    """t in memory as `tensor` is, for compiled code counts on it."""
    like = torch.empty_like(tensor) if t.shape == tensor.shape else t
    return t if t.stride() == like.stride() else like.copy_(t)


def _rows_without_keys(query, key, is_causal):
    return key.shape[2] == 0 or is_causal and query.shape[2] > key.shape[2]


def flash_forward(kept, newest):
    """(out, lse, cum_seq_q, cum_seq_k, max_q, max_k, rng_state, unused, debug_attn_mask). Causal is bottom
    right; where a row sees nothing, lse is +∞, as flash-attn has it."""

    def kernel(keyset, query, key, value, dropout_p=0.0, is_causal=False, return_debug_mask=False, *, scale=None):
        def compute(handle):
            out, lse = _core.attention(
                *(dense(t) for t in (query, key, value)), **_options(handle, scale, is_causal, "bottom_right"),
                return_lse=True, return_probs=False, f32_out=False, guard=0, heads_first=True)
            if _rows_without_keys(query, key, is_causal):
                lse = lse.masked_fill(lse == -math.inf, math.inf)
            state = torch.zeros((2,), dtype=torch.uint64), torch.zeros((), dtype=torch.uint64)  # of no dropout
            return (_like(query, out), lse, None, None, query.shape[2], key.shape[2], *state, query.new_empty((0,)))

        reason = "return_debug_mask is True" if return_debug_mask else _not_served(query, dropout_p)
        return _serve(newest(), reason, compute, kept, keyset, query, key, value, dropout_p, is_causal,
                      return_debug_mask, scale=scale)

    return kernel


def flash_backward(kept, newest):
    """Results of PyTorch's forward will do, as PyTorch's backward takes heed's: without dropout lse is all that
    it needs of them."""

    def kernel(keyset, grad_out, query, key, value, out, logsumexp, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p,
               is_causal, philox_seed, philox_offset, *, scale=None):
        def compute(handle):
            lse = logsumexp.contiguous()
            if _rows_without_keys(query, key, is_causal):
                lse = lse.masked_fill(lse == math.inf, -math.inf)
            dq, dk, dv, _, _ = _core.attention_backward(
                *(dense(t) for t in (grad_out, query, key, value, out)), lse, None,
                **_options(handle, scale, is_causal, "bottom_right"), want_dbias=False, want_dsinks=False,
                f32_grads=False, guarded=False, heads_first=True)
            return _like(query, dq), _like(key, dk), _like(value, dv)

        return _serve(newest(), _not_served(query, dropout_p), compute, kept, keyset, grad_out, query, key, value, out,
                      logsumexp, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, philox_seed,
                      philox_offset, scale=scale)

    return kernel


def _geometry(cum_seq_q, cum_seq_k, max_q, max_k, left, right):
    """Window and sequences of the operators below, in heed's words."""
    options = dict(window=tuple(-1 if side is None or side < 0 else side for side in (left, right)))
    if cum_seq_q is not None:
        options |= dict(cu_seqlens_q=cum_seq_q, cu_seqlens_k=cum_seq_k, max_seqlen_q=max_q, max_seqlen_k=max_k)
    return options


def varlen_forward(kept, newest):
    """(out, lse, rng_state, unused, debug_attn_mask) of rows (B, S, H, D), or (T, H, D) with cum_seq_q and
    cum_seq_k: what torch.nn.attention.varlen calls. Causal and windows are bottom right."""

    def kernel(keyset, query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, return_debug_mask,
               *, scale=None, window_size_left=None, window_size_right=None, seqused_k=None, alibi_slopes=None, **more):
        def compute(handle):
            geometry = _geometry(cum_seq_q, cum_seq_k, max_q, max_k, window_size_left, window_size_right)
            out, lse = _core.attention(
                *(dense(t) for t in (query, key, value)),
                **_options(handle, scale, is_causal, "bottom_right", alibi_slopes=alibi_slopes, key_lengths=seqused_k,
                           **geometry),
                return_lse=True, return_probs=False, f32_out=False, guard=0, heads_first=False)
            state = torch.zeros((2,), dtype=torch.uint64), torch.zeros((), dtype=torch.uint64)  # of no dropout
            return (_like(query, out), lse.masked_fill(lse == -math.inf, math.inf), *state, query.new_empty((0,)))

        given = [name for name, value in more.items() if value is not None]
        reason = ("return_debug_mask is True" if return_debug_mask else f"{given[0]} is given" if given
                  else _not_served(query, dropout_p))
        return _serve(newest(), reason, compute, kept, keyset, query, key, value, cum_seq_q, cum_seq_k, max_q, max_k,
                      dropout_p, is_causal, return_debug_mask, scale=scale, window_size_left=window_size_left,
                      window_size_right=window_size_right, seqused_k=seqused_k, alibi_slopes=alibi_slopes, **more)

    return kernel


def varlen_backward(kept, newest):
    """Its gradients; the operator is not told of seqused_k and alibi_slopes, as PyTorch's is not."""

    def kernel(keyset, grad_out, query, key, value, out, logsumexp, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p,
               is_causal, rng_state, unused, *, scale=None, window_size_left=None, window_size_right=None):
        def compute(handle):
            geometry = _geometry(cum_seq_q, cum_seq_k, max_q, max_k, window_size_left, window_size_right)
            lse = logsumexp.masked_fill(logsumexp == math.inf, -math.inf)
            dq, dk, dv, _, _ = _core.attention_backward(
                *(dense(t) for t in (grad_out, query, key, value, out)), lse, None,
                **_options(handle, scale, is_causal, "bottom_right", **geometry), want_dbias=False, want_dsinks=False,
                f32_grads=False, guarded=False, heads_first=False)
            return _like(query, dq), _like(key, dk), _like(value, dv)

        return _serve(newest(), _not_served(query, dropout_p), compute, kept, keyset, grad_out, query, key, value, out,
                      logsumexp, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, rng_state, unused,
                      scale=scale, window_size_left=window_size_left, window_size_right=window_size_right)

    return kernel


def efficient_forward(kept, newest):
    """(out, lse, philox_seed, philox_offset): out lies as (B, S, H, D), lse has rows up to a multiple of 32, or
    none where it is not asked for. Causal is top left; attn_bias is added."""

    def kernel(keyset, query, key, value, attn_bias, compute_log_sumexp, dropout_p=0.0, is_causal=False, *,
               scale=None):
        def compute(handle):
            out, lse = _core.attention(
                *(dense(t).transpose(1, 2) for t in (query, key, value)),
                **_options(handle, scale, is_causal, "top_left", bias=attn_bias), return_lse=True, return_probs=False,
                f32_out=False, guard=0, heads_first=False)
            lse = (torch.nn.functional.pad(lse, (0, -lse.shape[-1] % _ROUND), value=math.inf) if compute_log_sumexp
                   else lse.new_empty((*lse.shape[:2], 0)))
            state = torch.zeros((), dtype=torch.int64)  # of no dropout
            return out.transpose(1, 2), lse, state, state.clone()

        return _serve(newest(), _not_served(query, dropout_p), compute, kept, keyset, query, key, value, attn_bias,
                      compute_log_sumexp, dropout_p, is_causal, scale=scale)

    return kernel


def efficient_backward(kept, newest):
    """The gradients of query, key, value and attn_bias, the last where grad_input_mask asks for it."""

    def kernel(keyset, grad_out_, query, key, value, attn_bias, out, logsumexp, philox_seed, philox_offset, dropout_p,
               grad_input_mask, is_causal=False, *, scale=None):
        def compute(handle):
            want_dbias = attn_bias is not None and grad_input_mask[3]
            dq, dk, dv, dbias, _ = _core.attention_backward(
                *(dense(t).transpose(1, 2) for t in (grad_out_, query, key, value, out)),
                logsumexp[..., :query.shape[2]].contiguous(), None,
                **_options(handle, scale, is_causal, "top_left", bias=attn_bias), want_dbias=want_dbias,
                want_dsinks=False, f32_grads=False, guarded=False, heads_first=False)
            if want_dbias:
                columns = attn_bias.shape[-1]
                rows = attn_bias.new_empty((*attn_bias.shape[:-1], -(-columns // 16) * 16))[..., :columns]
                dbias = rows.copy_(dbias.view(attn_bias.shape))
            return dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2), dbias

        return _serve(newest(), _not_served(query, dropout_p), compute, kept, keyset, grad_out_, query, key, value,
                      attn_bias, out, logsumexp, philox_seed, philox_offset, dropout_p, grad_input_mask, is_causal,
                      scale=scale)

    return kernel


# Nothing where this build could serve none of it: every call would take the way through Python in vain.
REPLACED = ((_FLASH, "CUDA", flash_forward), (_FLASH + "_backward", "CUDA", flash_backward),
            (_VARLEN + "_forward", "CUDA", varlen_forward), (_VARLEN + "_backward", "CUDA", varlen_backward),
            (_EFFICIENT, "CUDA", efficient_forward),
            (_EFFICIENT + "_backward", "CUDA", efficient_backward)) if _core.has_cuda_kernels() else ()
