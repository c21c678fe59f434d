# nn/_weights.py: attention weights that can be differentiated, from what heed.attention returns. Not
# here: the output, whose gradient never needs them.
import torch
from torch import Tensor

from ._engine import attention

from .._torch_values import in_autocast


class _Weights(torch.autograd.Function):
    """Probabilities after dropout. The backward runs only where a loss depends on them; it works on
    (B, H, Sq, Sk), which the caller asked to hold anyway."""

    @staticmethod
    def forward(ctx, probs, lse, q, k, bias, sinks, scale, softcap, dropout_p):
        ctx.save_for_backward(probs, lse, q, k, bias, sinks)
        ctx.numbers = scale, softcap, dropout_p
        if not dropout_p:
            return probs.clone()
        return probs.masked_fill(probs.signbit(), 0.0) / (1 - dropout_p)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dweights):
        probs, lse, q, k, bias, sinks = ctx.saved_tensors
        scale, softcap, dropout_p = ctx.numbers
        wide = torch.float64 if q.dtype == torch.float64 else torch.float32
        dp = dweights.to(wide)
        if dropout_p:
            dp = dp.masked_fill(probs.signbit(), 0.0) / (1 - dropout_p)
        p = probs.abs().to(wide)
        total = (p * dp).sum(-1, keepdim=True)
        ds = p * (dp - total)
        group = q.shape[2] // k.shape[2]
        wq, wk = q.to(wide).transpose(1, 2), k.to(wide).transpose(1, 2).repeat_interleave(group, 1)
        draw = ds
        if softcap > 0:
            raw = scale * wq @ wk.transpose(-1, -2)
            draw = ds * (1 - torch.tanh(raw / softcap) ** 2)
        draw = draw * scale
        dq = (draw @ wk).transpose(1, 2).to(q.dtype)
        dk = (draw.transpose(-1, -2) @ wq).unflatten(1, (k.shape[2], group)).sum(2)
        dbias = dsinks = None
        if bias is not None and ctx.needs_input_grad[4]:
            dbias = ds.sum_to_size(bias.shape).to(bias.dtype)
        if sinks is not None and ctx.needs_input_grad[5]:
            share = torch.exp(sinks.to(wide)[None, :, None] - lse.to(wide))
            dsinks = -(share * total.squeeze(-1)).sum((0, 2)).to(sinks.dtype)
        return None, None, dq, dk.transpose(1, 2).to(k.dtype), dbias, dsinks, None, None, None


def attention_and_weights(q: Tensor, k: Tensor, v: Tensor, **options) -> tuple[Tensor, Tensor]:
    """heed.attention, and its weights (B, H, Sq, Sk) after dropout in the dtype of q, differentiable in
    q, k, bias and sinks."""
    if in_autocast(q.device.type) and q.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    out, lse, probs = attention(q, k, v, return_lse=True, return_probs=True, **options)
    scale = options.get("scale")
    weights = _Weights.apply(
        probs.detach(), lse.detach(), q, k, options.get("bias"), options.get("sinks"),
        q.shape[-1] ** -0.5 if scale is None else scale, options.get("softcap", 0.0),
        options.get("dropout_p", 0.0))
    return out, weights
