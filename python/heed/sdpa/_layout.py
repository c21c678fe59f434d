# _layout.py: PyTorch's layout (..., H, S, D) seen as the contract's (B, S, H, D): views, broadcast, masks,
# causal biases. Not here: what is refused (_reasons.py); what comes here fits.
import sys

import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)


def causal_bias(mask):
    """(align, rows, columns) of a torch.nn.attention.bias.CausalBias; None for every other mask."""
    module = sys.modules.get("torch.nn.attention.bias")
    if module is None or not isinstance(mask, module.CausalBias):
        return None
    lower = mask.variant == module.CausalVariant.LOWER_RIGHT
    return "bottom_right" if lower else "top_left", mask.seq_len_q, mask.seq_len_kv


def fits_as_it_is(query, key, value, mask, is_causal, enable_gqa):
    """Whether a call is of the usual form: four axes, equal batches, heads that fit. Nothing else is
    looked at: the engine checks the rest, in its words."""
    if not (type(query) is type(key) is type(value) is Tensor
            and query.layout == key.layout == value.layout == torch.strided):
        for t in (query, key, value):
            if not isinstance(t, Tensor) or t.is_nested or t.layout != torch.strided:
                return False
    try:
        batch, heads, _, _ = query.shape
        k_batch, k_heads, _, _ = key.shape
        v_batch, v_heads, _, _ = value.shape
    except (ValueError, RuntimeError):  # another number of axes; a nested tensor, which has no shape
        return False
    if mask is not None and (is_causal or type(mask) not in PLAIN or mask.dim() > 4
                             or not (mask.dtype == torch.bool or mask.is_floating_point())):
        return False
    if not (query.is_cpu or query.is_cuda):
        return False
    if not (query.device == key.device == value.device and (mask is None or mask.device == query.device)):
        return False
    if not (batch == k_batch == v_batch and k_heads == v_heads and k_heads > 0):
        return False
    return heads == k_heads or (enable_gqa and heads % k_heads == 0)


def dense(t):
    """The contract wants the last stride 1."""
    return t if t.stride(-1) == 1 else t.contiguous()


def leads(query, key, value, enable_gqa):
    """The common leading axes of the three, the heads last, and the heads of key and value, which keep
    their own number where they are grouped or one for all."""
    q, k, v = query.shape[:-2], key.shape[:-2], value.shape[:-2]
    kv = k[-1] if k else 1
    # Grouped heads, and one kv head for all, are the engine's own business: not repeated here.
    grouped = enable_gqa or (bool(k) and kv == 1 and bool(v) and v[-1] == 1)
    if grouped:
        batch = torch.broadcast_shapes(q[:-1], k[:-1], v[:-1])
        return (*batch, q[-1] if q else 1), kv
    whole = torch.broadcast_shapes(q, k, v)
    return tuple(whole), whole[-1] if whole else 1


def sizes(query, key, value, enable_gqa):
    """(leading axes, those of the batch, heads of query, heads of key and value) of a call."""
    lead, kv_heads = leads(query, key, value, enable_gqa)
    return lead, lead[:-1] or (1,), lead[-1] if lead else 1, kv_heads


def alignment(mask, is_causal):
    """(align, mask, is_causal) where a causal bias, which stands in the mask's place, is a geometry."""
    causal = None if mask is None else causal_bias(mask)
    return ("top_left", mask, is_causal) if causal is None else (causal[0], None, True)


def as_batch(t, batch, heads):
    """(B, S, H, D) of a tensor (..., S, D): a view where the leading axes allow one."""
    t = dense(t)
    while t.dim() < len(batch) + 3:
        t = t.unsqueeze(0)
    t = t.expand(*batch, heads, *t.shape[-2:])
    return _folded(t, len(batch)).transpose(1, 2)


def _folded(t, batch_axes):
    if batch_axes == 1:
        return t
    rows = 1
    for n in t.shape[:batch_axes]:
        rows = rows * n
    return t.reshape(rows, *t.shape[batch_axes:])


def as_mask(mask, batch):
    """A mask for (B, H, Sq, Sk), of up to four axes."""
    if mask.dim() <= 3 or (mask.dim() == 4 and len(batch) == 1):
        return mask
    own = mask.shape[:-3]
    if all(n == 1 for n in own):
        return mask.reshape(mask.shape[-3:])
    mask = mask.expand(*batch, *mask.shape[-3:])
    return _folded(mask, len(batch))
