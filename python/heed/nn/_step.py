# nn/_step.py: the forward of MultiHeadAttention: whole sequences, ragged ones, steps with a cache. Not
# here: the module and what its arguments mean (attention.py).
import torch
from torch import Tensor

from .._core import ArgumentTypeError, Error
from .._torch_values import in_autocast
from . import _masks
from ._engine import attention, decode
from ._weights import attention_and_weights
from .cache import KVCache


def check_features(name, x, size, weight=None):
    if not isinstance(x, Tensor):
        raise ArgumentTypeError(f"{name} is a {type(x).__name__}: it must be a PyTorch tensor")
    if x.is_nested:
        raise Error(f"{name} is a nested tensor: give a padded one with key_lengths, or a packed one with "
                    "cu_seqlens_q and cu_seqlens_k")
    if x.dim() not in (2, 3) or x.shape[-1] != size:
        raise Error(f"{name} has the shape {tuple(x.shape)}: it must be (B, S, {size}), or (S, {size})")
    if isinstance(weight, Tensor) and x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise Error(f"{name} is {x.dtype} and the weights are {weight.dtype}: they must be of one dtype, or the "
                    "call under torch.autocast")
    if isinstance(weight, Tensor) and x.device != weight.device:
        raise Error(f"{name} lives on the device '{x.device}' and the weights on '{weight.device}': they must be on "
                    "one device")


def _refuse(given, why):
    for name, value in given.items():
        if value is not None and value is not False:
            raise Error(f"{name} {why}")


def forward(m, query, key, value, key_padding_mask, key_lengths, attn_mask, positions, cu_q, cu_k, max_q,
            max_k, projected, cache, need_weights, average):
    check_features("query", query, m.embed_dim, m.q_proj.weight)
    ragged, single = cu_q is not None, cu_q is None and query.dim() == 2
    if value is not None and key is None:
        raise Error("value is given without key: give both, or key alone")
    if projected is not None:
        _refuse({"key": key, "value": value}, "is given with projected, which stands for key and value")
        k, v = projected
    else:
        own = key is None or key is query
        k, v = m.project(query if key is None else key, value)
    q = m.q_proj(query).unflatten(-1, (m.num_heads, m.head_dim))
    if ragged:
        if query.dim() != 2:
            raise Error(f"query has the shape {tuple(query.shape)} with cu_seqlens_q: it must be (T, "
                        f"{m.embed_dim}), the tokens of all sequences in a row")
        _refuse({"key_padding_mask": key_padding_mask, "key_lengths": key_lengths, "cache": cache},
                "is given with cu_seqlens_q: a ragged batch says lengths by cu_seqlens_k")
        _refuse({"need_weights": need_weights}, "is asked for with cu_seqlens_q: weights of a ragged batch "
                "have no one shape; call once for each sequence")
    elif single:
        q = q.unsqueeze(0)
        if k.dim() == 3:
            k, v = k.unsqueeze(0), v.unsqueeze(0)
        if key_padding_mask is not None and key_padding_mask.dim() == 1:
            key_padding_mask = key_padding_mask.unsqueeze(0)
    elif not m.batch_first:
        q = q.transpose(0, 1)
    if not ragged:
        if k.dim() != 4 or v.dim() != 4 or k.shape[:2] != v.shape[:2] or k.shape[0] != q.shape[0]:
            raise Error(f"keys have the shape {tuple(k.shape)}, values {tuple(v.shape)} and queries "
                        f"{tuple(q.shape)} as (B, S, heads, head_dim): entries of all, and lengths of keys "
                        "and values, must agree")
    if projected is not None or not own:
        _refuse({"cache": cache}, "is given with keys of another sequence: it is for self-attention; "
                "project(key, value) keeps those of a memory")
        _refuse({"positions": positions}, "is given with keys of another sequence: it counts both")
    elif value is not None and value is not query:
        _refuse({"cache": cache}, "is given with values of another sequence: it is for self-attention")
    if cu_k is not None and not ragged:
        raise Error("cu_seqlens_k is given without cu_seqlens_q: give both")
    if ragged and cu_k is None and (projected is not None or not own):
        raise Error("cu_seqlens_k is missing: the ends of the sequences of keys are to be said")
    dropout_p = m.dropout if m.training else 0.0
    if cache is not None:
        _refuse({"need_weights": need_weights}, "is asked for with a cache, which returns no weights")
        out = _cached(m, q, k, v, cache, key_padding_mask, key_lengths, attn_mask, positions, dropout_p)
        weights = None
    else:
        q, k = _turn(m, q, k, positions, cu_q, cu_k if cu_k is not None else cu_q)
        options = m.options()
        options["dropout_p"] = dropout_p
        if ragged:
            options.update(cu_seqlens_q=cu_q, cu_seqlens_k=cu_q if cu_k is None else cu_k, max_seqlen_q=max_q,
                           max_seqlen_k=max_q if cu_k is None else max_k)
            if attn_mask is not None:
                options.update(_ragged_mask(attn_mask, q.dtype))
        else:
            batch, sq, heads, _ = q.shape
            found = _masks.options(batch, heads, sq, k.shape[1], q.dtype, attn_mask, key_padding_mask,
                                   key_lengths)
            if "key_lengths" in found and m.align == "bottom_right":
                # Padding at the end moves nobody: queries stand where they would stand without it.
                options.update(align="offset", query_offset=k.shape[1] - sq)
            options.update(found)
        if need_weights:
            out, weights = attention_and_weights(q, k, v, **options)
            weights = weights.mean(1) if average else weights
        else:
            out, weights = attention(q, k, v, **options), None
    out = out.flatten(-2)
    if single:
        out, weights = out.squeeze(0), None if weights is None else weights.squeeze(0)
    elif not ragged and not m.batch_first:
        out = out.transpose(0, 1)
    out = m.out_proj(out)
    return (out, weights) if need_weights else out


def _ragged_mask(attn_mask, dtype):
    hides = _masks._kind(attn_mask, "attn_mask")
    if hides:
        return {"mask": attn_mask.logical_not()}
    same = attn_mask.dtype == dtype and not in_autocast(attn_mask.device.type)
    return {"bias": attn_mask if same else attn_mask.float()}


def _turn(m, q, k, positions, cu_q, cu_k):
    if m.rotary is None:
        if positions is not None:
            raise Error("positions is given to a module without rotary embedding: nothing depends on it")
        return q, k
    if positions is not None:
        if not isinstance(positions, Tensor) or positions.is_floating_point():
            raise ArgumentTypeError("positions must be a tensor of integers, (S,) or (B, S)")
        rows = q.shape[:-2]
        if tuple(positions.shape) not in (tuple(rows), tuple(rows[-1:])):
            raise Error(f"positions has the shape {tuple(positions.shape)}: it must be {tuple(rows[-1:])} or "
                        f"{tuple(rows)}")
        return m.rotary.turn_at(q, positions.long()), m.rotary.turn_at(k, positions.long())
    if cu_q is not None:
        if m.align == "bottom_right" and cu_k is not cu_q:
            shift = (cu_k.diff() - cu_q.diff()).long()
        else:
            shift = torch.zeros(cu_q.shape[0] - 1, dtype=torch.long, device=cu_q.device)
        return (m.rotary.turn_at(q, _within(cu_q, q.shape[0], shift)),
                m.rotary.turn_at(k, _within(cu_k, k.shape[0], torch.zeros_like(shift))))
    shift = k.shape[1] - q.shape[1] if m.align == "bottom_right" else 0
    if shift < 0:
        raise Error(f"{q.shape[1]} queries over {k.shape[1]} keys with rotary embedding: the last query "
                    'stands at the last key, so there must be as many keys (or align="top_left")')
    return m.rotary.turn(q, shift), m.rotary.turn(k, 0)


def _within(cu, total, shift):
    """The position of each token in its sequence, int64 (T,)."""
    lengths = cu.diff().long()
    starts = torch.repeat_interleave(cu[:-1].long() - shift, lengths, output_size=total)
    return torch.arange(total, device=cu.device) - starts


def _cached(m, q, k, v, cache, key_padding_mask, key_lengths, attn_mask, positions, dropout_p):
    if not isinstance(cache, KVCache):
        raise ArgumentTypeError(f"cache is a {type(cache).__name__}: it must be a heed.nn.KVCache")
    _refuse({"positions": positions}, "is given with a cache, which counts them itself")
    if dropout_p:
        raise Error(f"dropout is {dropout_p} in training with a cache, where there is none: call eval()")
    batch, new = q.shape[:2]
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        raise Error("a cache in a call that records gradients, of which it has none: use torch.no_grad()")
    lengths = None if key_lengths is None else _masks.check_lengths(key_lengths, batch, new)
    if key_padding_mask is not None:
        lengths = _padding(cache, key_padding_mask, lengths, batch, new)
    if lengths is not None and not m.causal:
        raise Error("padding among new tokens with a cache in a module that is not causal: tokens would see "
                    "what is padding; make it with causal=True")
    if m.align != "bottom_right":
        raise Error(f'align is "{m.align}" with a cache: new tokens stand behind those it holds, which is '
                    '"bottom_right"')
    cache.reserve(k, v)
    if not new:
        return v.new_zeros((batch, 0, m.num_heads, m.v_head_dim))
    options = m.options()
    if m.rotary is not None:
        ordered = m.causal or (m.window is not None and max(m.window) >= 0)
        # The engine turns queries by their own positions only where they are ordered.
        if ordered and cache._lengths is None and not torch.compiler.is_compiling():
            cos, sin = m.rotary.tables(cache.length + new, k.dtype, k.device)
            options.update(rotary_cos=cos, rotary_sin=sin, rotary_interleaved=m.rotary.interleaved)
        else:
            at = torch.arange(new, device=q.device) + (cache.length if cache._lengths is None
                                      else cache._lengths[:, None].long())
            q, k = m.rotary.turn_at(q, at), m.rotary.turn_at(k, at)
    if attn_mask is not None:
        if cache._lengths is not None or cache.leftpad is not None:
            raise Error("attn_mask with a cache whose entries have different lengths or padding: its columns "
                        "would not be the same keys in every entry")
        options.update(_masks.options(batch, m.num_heads, new, cache.length + new, q.dtype, attn_mask, None))
    rows = cache.k.shape[1] if attn_mask is None else cache.length + new
    seqlens = cache.length if cache._lengths is None else cache._lengths
    out = decode(q, cache.k[:, :rows], cache.v[:, :rows], k_new=k, v_new=v, cache_seqlens=seqlens,
                      cache_leftpad=cache.leftpad, **options)
    cache.advance(new, lengths)
    return out


def _padding(cache, mask, lengths, batch, new):
    """lengths of the new tokens, from a padding mask; padding on the left goes into the cache."""
    if lengths is not None:
        raise Error("key_lengths and key_padding_mask are both given: they say the same, give one")
    if mask.dtype != torch.bool or tuple(mask.shape) != (batch, new):
        raise Error(f"key_padding_mask is {mask.dtype} {tuple(mask.shape)} with a cache: it must be bool "
                    f"({batch}, {new}), about the new tokens alone")
    if mask.is_cuda:
        raise Error(f"key_padding_mask with a cache lives on the device '{mask.device}', where a step does not wait to "
                    "read it: say how many of the new tokens exist by key_lengths")
    if not bool(mask.any()):
        return None
    lengths = _masks.lengths_of(mask)
    if lengths is not None:
        return lengths
    kept = _masks.lengths_of(mask.flip(-1))
    if kept is None or cache.length:
        raise Error("key_padding_mask with a cache must hide the ends of entries, or, in the first call, their "
                    "starts: other gaps a cache cannot hold")
    cache.leftpad = new - kept
    return None
