# nn_plain.py: multi-head attention with its projections in float64, one matrix of scores at a time, for
# the tests of heed.nn. Not here: anything of heed.
import math

import torch


def turned(x, at, dim, base, interleaved, scale=1.0):
    """Rotary embedding of x (B, S, H, D) at positions (S,) or (B, S), as complex numbers."""
    half = dim // 2
    pairs = x[..., :dim].unflatten(-1, (half, 2)) if interleaved else \
        x[..., :dim].unflatten(-1, (2, half)).transpose(-1, -2)
    turns = base ** (-2 * torch.arange(half, dtype=torch.float64) / dim)
    angle = (at.double() / scale)[..., None] * turns
    z = torch.complex(pairs[..., 0], pairs[..., 1]) * torch.polar(torch.ones_like(angle), angle).unsqueeze(-2)
    z = torch.stack((z.real, z.imag), -1)
    z = z.flatten(-2) if interleaved else z.transpose(-1, -2).flatten(-2)
    return torch.cat((z, x[..., dim:]), -1)


def hidden_by(sq, sk, causal=False, window=(-1, -1), prefix=0, chunk=0, shift=None):
    i = torch.arange(sq)[:, None] + (sk - sq if shift is None else shift)
    j = torch.arange(sk)[None, :]
    left, right = window
    right = 0 if causal else right
    hidden = torch.zeros(sq, sk, dtype=torch.bool)
    if left >= 0:
        hidden |= j < i - left
    if right >= 0:
        hidden |= j > i + right
    if chunk:
        hidden |= i.div(chunk, rounding_mode="floor") != j.div(chunk, rounding_mode="floor")
    return hidden & (j >= prefix)


def attend(q, k, v, hidden, bias=None, scale=None, softcap=0.0, slopes=None, sinks=None):
    """q (B, Sq, H, D), k, v; hidden broadcasts to (B, H, Sq, Sk). Returns the output and the weights."""
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    s = torch.einsum("bihd,bjhd->bhij", q, k) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if softcap:
        s = softcap * torch.tanh(s / softcap)
    sq, sk = s.shape[-2:]
    if slopes is not None:
        far = (torch.arange(sq)[:, None] + sk - sq - torch.arange(sk)[None, :]).abs()
        s = s - slopes.double()[:, None, None] * far
    if bias is not None:
        s = s + bias.double()
    s = s.masked_fill(hidden, -math.inf)
    if sinks is not None:
        s = torch.cat((s, sinks.double()[None, :, None, None].expand(*s.shape[:3], 1)), -1)
    p = torch.softmax(s, -1).nan_to_num(0.0)[..., :sk]
    return torch.einsum("bhij,bjhd->bihd", p, v), p


def linear(x, layer):
    y = x.double() @ layer.weight.double().T
    return y if layer.bias is None else y + layer.bias.double()


def project(m, query, key=None, value=None):
    """q, k, v of a heed.nn.MultiHeadAttention, batch first."""
    key = query if key is None else key
    value = key if value is None else value
    return (linear(query, m.q_proj).unflatten(-1, (m.num_heads, -1)),
            linear(key, m.k_proj).unflatten(-1, (m.num_kv_heads, -1)),
            linear(value, m.v_proj).unflatten(-1, (m.num_kv_heads, -1)))


def output(m, o):
    return linear(o.flatten(-2), m.out_proj)
