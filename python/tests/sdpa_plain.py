# sdpa_plain.py: scaled dot product attention as plain float64 arithmetic, for the tests of heed.sdpa. Nothing
# of heed, nothing of PyTorch's fused functions.
import math

import torch

# Of an element, against 1 + the largest of its tensor.
LIMITS = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3, torch.float64: 1e-12}


def plain(q, k, v, mask=None, causal=None, scale=None, keep=None):
    """softmax(scale · q kᵀ + mask) v in float64, differentiable. causal: "upper" or "lower". A row that sees
    nothing is 0. keep: a factor of every probability."""
    assert q.dtype == k.dtype == v.dtype == torch.float64
    if k.dim() >= 3 and q.dim() >= 3 and k.shape[-3] > 1 and q.shape[-3] > k.shape[-3]:
        times = q.shape[-3] // k.shape[-3]
        k, v = (t.repeat_interleave(times, -3) for t in (k, v))
    s = torch.einsum("...id,...jd->...ij", q, k) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        s = s.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else s + mask.double()
    if causal is not None:
        rows, columns = s.shape[-2:]
        i, j = torch.arange(rows)[:, None], torch.arange(columns)[None]
        s = s.masked_fill(j > i + (columns - rows if causal == "lower" else 0), -math.inf)
    if s.shape[-1] == 0:
        top = torch.zeros(*s.shape[:-1], 1, dtype=s.dtype)
    else:
        top = s.detach().amax(-1, keepdim=True)
        top = torch.where(top == -math.inf, torch.zeros_like(top), top)
    e = torch.exp(s - top)
    total = e.sum(-1, keepdim=True)
    p = e / torch.where(total == 0, torch.ones_like(total), total)
    return torch.einsum("...ij,...jd->...id", p if keep is None else p * keep, v)
