# _call.py: scaled_dot_product_attention. Not here: layouts (_layout.py), the reasons of a refusal
# (_reasons.py), which backends may serve (_backends.py).
import torch
from torch import Tensor

from .. import _api, _core
from .._core import Error
from .._torch import is_compiling, joined
from .._torch_values import in_autocast
from .._words import SDPA, spoken
from . import _backends, _layout, _reasons

attention = spoken(SDPA)(_api.attention)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    backend: "str | _backends.Backend | None" = None,
    threads: int | None = None,
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` on CPU and CUDA tensors, in linear memory.

    Parameters
    ----------
    query : (..., H, L, E): float32, bfloat16 or float16; float64 where the backend "reference" is asked for.
        Any number of leading axes, none included; any strides.
    key : (..., H, S, E). Leading axes broadcast, as in ``torch.matmul``.
    value : (..., H, S, Ev)
    attn_mask : broadcastable to (..., H, L, S). bool: True where a query attends. Floating: added to the
        scores, float32 or the dtype of query; differentiable. Or a
        ``torch.nn.attention.bias.CausalBias`` (``causal_upper_left``, ``causal_lower_right``).
    dropout_p : probability of dropping, from 0 to 1; seeds come from PyTorch's default generator. It is
        applied whether or not a module is in training.
    is_causal : query i sees the keys up to i (top left); not together with attn_mask.
    scale : factor of q·k, finite; 1/√E by default.
    enable_gqa : key and value have fewer heads than query, which is a multiple: H // Hkv share one.
    backend : "cpu", "cpu:avx2", "reference", ...: this one or a refusal. By default what the context
        ``heed.sdpa.backends`` allows.
    threads : at most so many; the result does not depend on it.

    Returns
    -------
    (..., H, L, Ev) in the dtype of query, contiguous if query is; otherwise of four axes it lies in memory
    as (B, L, H, Ev), which is how a projection that was split into heads lies. A row that sees nothing is 0.

    Raises
    ------
    heed.Error (a ValueError and a RuntimeError) that lists every reason; heed.ArgumentTypeError (also a
    TypeError) where an argument is no tensor.

    Notes
    -----
    Differentiable once in query, key, value and a floating attn_mask. Source of the signature and the
    semantics: PyTorch 2.13.
    """
    done = at_once(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, backend, threads)
    if done is not NotImplemented:
        return done
    given = (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    names = (_backends.current_backends() if backend is None else (_backends.backend_name(backend),))
    if not _layout.fits_as_it_is(query, key, value, attn_mask, is_causal, enable_gqa):
        found = _reasons.of_the_call(*given)
        if found:
            raise _reasons.refusal(found)
        return _broadcast(given, names, threads)
    out = _compute(_layout.dense(query).transpose(1, 2), _layout.dense(key).transpose(1, 2),
                   _layout.dense(value).transpose(1, 2), attn_mask, is_causal, "top_left", given, names, threads)
    return _like(query, out.transpose(1, 2))


def at_once(query, key, value, mask, dropout_p, is_causal, scale, enable_gqa, backend, threads):
    """A call of the usual form, straight into the extension. NotImplemented where something else has a say,
    or may be wrong: the longer way knows what, and says it."""
    if is_compiling() or dropout_p != 0 or not isinstance(query, Tensor) or mask is not None and is_causal:
        return NotImplemented
    name = _backends.only(backend)
    if name is NotImplemented:
        return NotImplemented
    try:
        if not enable_gqa and query.size(1) != key.size(1):
            return NotImplemented
        bias = None
        if mask is not None and mask.dtype != torch.bool:
            bias, mask = mask, None
        done = _core.attention(
            query, key, value, scale, is_causal, "top_left", None, None, 0, 0, 0.0, None, bias, mask, None, None,
            None, None, None, None, None, None, 0.0, None, 0, name, threads, False, False, False, 1, True)
    except (RuntimeError, AttributeError, IndexError):
        return NotImplemented
    return joined(done, query, key, value, bias, None, heads_first=True) if type(done) is list else done


def _like(query, out):
    # PyTorch's output lies in memory as query does, and callers take views that count on it.
    return out.contiguous() if query.is_contiguous() else out


def _broadcast(given, names, threads):
    """Other than four plain axes."""
    query, key, value, mask, _, is_causal, _, enable_gqa = given
    align, mask, is_causal = _layout.alignment(mask, is_causal)
    lead, batch, heads, kv_heads = _layout.sizes(query, key, value, enable_gqa)
    if heads == 0:
        return query @ key.transpose(-1, -2) @ value  # nothing, in the right shape and with its gradients
    q = _layout.as_batch(query, batch, heads)
    k, v = (_layout.as_batch(t, batch, kv_heads) for t in (key, value))
    if mask is not None:
        mask = _layout.as_mask(mask, batch)
    out = _compute(q, k, v, mask, is_causal, align, given, names, threads)
    return _like(query, out.transpose(1, 2).reshape(*lead, query.shape[-2], value.shape[-1]))


def _compute(q, k, v, mask, is_causal, align, given, names, threads):
    dropout_p, scale = given[4], given[6]
    if dropout_p == 1:
        # Everything is dropped, and what would be divided is 0: the contract's dropout ends before 1.
        v, dropout_p = v * 0, 0.0
    bias = None
    if mask is not None and mask.dtype != torch.bool:
        bias, mask = mask, None
        if in_autocast(bias.device.type) and bias.dtype != torch.float64:
            bias = bias.to(torch.get_autocast_dtype(bias.device.type))
    if len(names) > 1 and is_compiling():
        names = _for_tracing(names, q)
    last = None
    for name in names:
        try:
            return attention(q, k, v, scale=scale, causal=is_causal, align=align, bias=bias, mask=mask,
                             dropout_p=dropout_p, backend=None if name == "auto" else name, threads=threads)
        except Error as error:
            last = error
    if is_compiling():
        raise last or Error("no backend is enabled: heed.sdpa.backends was given an empty list")
    found = _reasons.everything(given, names, threads)
    raise _reasons.refusal(found) if found else last


def _for_tracing(names, q):
    # What is traced cannot be tried: the differences between backends that dtypes and devices show.
    fitting = [name for name in names if (q.dtype != torch.float64 or name == "reference")
               and _reasons.of_device(name, q) is None]
    return tuple(fitting[:1]) or names[:1]
