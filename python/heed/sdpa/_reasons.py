# _reasons.py: why a call is refused, every reason as a sentence. Not here: asking for them without a call
# (_inquiry.py); the engine's own reasons, which heed.explain gives.
import contextlib

import torch
from torch import Tensor

from .. import _api, _core
from .._core import ArgumentTypeError, Error
from .._torch_values import in_autocast
from .._words import SDPA, spoken
from . import _layout

explain = spoken(SDPA)(_api.explain)

_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16",
          torch.float64: "float64"}


def _of_tensors(named):
    """Reasons in the tensors one by one; after one of these nothing else can be asked."""
    found = []
    for name, t in named.items():
        if not isinstance(t, Tensor):
            found.append(f"{name} is a {type(t).__name__}: it must be a PyTorch tensor (heed.attention takes "
                         "NumPy and JAX arrays)")
        elif t.is_nested:
            found.append(f"{name} is a nested tensor: heed.sdpa takes rectangular ones; sequences of several "
                         "lengths go, packed, into heed.attention with cu_seqlens_q and cu_seqlens_k")
        elif t.layout != torch.strided:
            found.append(f"{name} has the layout {t.layout}: it must be torch.strided")
        elif t.device.type not in ("cpu", "cuda", "meta"):
            found.append(f"{name} lives on the device '{t.device}': heed computes on the CPU and on CUDA devices, so "
                         "it must be a CPU or a CUDA tensor")
    devices = {name: str(t.device) for name, t in named.items() if isinstance(t, Tensor)}
    if not found and len(set(devices.values())) > 1:
        found.append(", ".join(f"{name} lives on '{device}'" for name, device in devices.items())
                     + ": they must be on one device")
    return found


def _of_dtypes(query, key, value, mask):
    found = []
    dtypes = [_autocast(t) for t in (query, key, value)]
    if len(set(dtypes)) > 1:
        found.append(f"query is {dtypes[0]}, key is {dtypes[1]}, value is {dtypes[2]}: they must have one dtype"
                     .replace("torch.", ""))
    found += [f"{name} is {str(dtype).removeprefix('torch.')}: it must be float32, bfloat16 or float16, or "
              "float64 with the backend 'reference'"
              for name, dtype in zip(("query", "key", "value"), dtypes) if dtype not in _NAMES]
    if mask is not None and mask.dtype not in (torch.bool, torch.float32) and _autocast(mask) != dtypes[0]:
        found.append(f"attn_mask is {str(mask.dtype).removeprefix('torch.')}: it must be bool, float32 or the dtype "
                     f"of query, {str(dtypes[0]).removeprefix('torch.')}")
    return found


def _autocast(t):
    if in_autocast(t.device.type) and t.dtype in _NAMES and t.dtype != torch.float64:
        return torch.get_autocast_dtype(t.device.type)
    return t.dtype


def _of_shapes(query, key, value, enable_gqa):
    q, k, v = tuple(query.shape), tuple(key.shape), tuple(value.shape)
    found = [f"{name} has the shape {shape}: it must have at least {least} axes{why}"
             for least, why in (((3, " with enable_gqa, the heads third from the right"),) if enable_gqa
                                else ((2, ""),))
             for name, shape in (("query", q), ("key", k), ("value", v)) if len(shape) < least]
    if found:
        return found
    if q[-1] != k[-1]:
        found.append(f"query has {q[-1]} columns and key {k[-1]}: they must have as many (E)")
    if k[-2] != v[-2]:
        found.append(f"key has {k[-2]} rows and value {v[-2]}: they must have as many (S)")
    if enable_gqa:
        if k[-3] != v[-3]:
            found.append(f"key has {k[-3]} heads and value {v[-3]}: with enable_gqa they must have as many")
        elif k[-3] == 0 or q[-3] % k[-3]:
            found.append(f"query has {q[-3]} heads and key {k[-3]}: with enable_gqa the number of query's must "
                         "be a multiple of key's")
        elif q[-3] == 0:
            found.append("query has 0 heads: with enable_gqa it must have at least one")
    cut = -3 if enable_gqa else -2
    try:
        torch.broadcast_shapes(q[:cut], k[:cut], v[:cut])
    except RuntimeError:
        hint = "" if enable_gqa or len({len(q), len(k), len(v)}) > 1 or q[:-3] != k[:-3] else (
            " (enable_gqa=True lets heads of query share one of key)")
        found.append(f"query leads with {q[:cut]}, key with {k[:cut]}, value with {v[:cut]}: these axes must be "
                     f"equal or 1{hint}")
    return found


def _of_mask(query, key, value, mask, is_causal, enable_gqa):
    found = []
    if is_causal:
        found.append("attn_mask is given and is_causal is True: give one of them (a causal mask can be joined to "
                     "attn_mask)")
    rows, columns = query.shape[-2], key.shape[-2]
    bias = _layout.causal_bias(mask)
    if bias is not None:
        if bias[1:] != (rows, columns):
            found.append(f"attn_mask is a causal bias of {bias[1]} queries by {bias[2]} keys: query and key have "
                         f"{rows} and {columns}")
        return found
    wanted = (*_layout.leads(query, key, value, enable_gqa)[0], rows, columns)
    own = tuple(mask.shape)
    if len(own) > len(wanted) or any(n not in (1, m) for n, m in zip(own[::-1], wanted[::-1])):
        found.append(f"attn_mask has the shape {own}: it must be broadcastable to {wanted}")
    return found


_NUMBER = (int, float, torch.SymFloat, torch.SymInt)


def _of_numbers(dropout_p, is_causal, scale):
    found = []
    if is_causal is None or isinstance(is_causal, (str, bytes)):
        found.append(f"is_causal is a {type(is_causal).__name__}: it must be True or False")
    if isinstance(dropout_p, bool) or not isinstance(dropout_p, _NUMBER):
        found.append(f"dropout_p is a {type(dropout_p).__name__}: it must be a number from 0 to 1")
    elif not 0 <= dropout_p <= 1:
        found.append(f"dropout_p is {dropout_p:g}: it must be from 0 to 1")
    if scale is None:
        return found
    if isinstance(scale, bool) or not isinstance(scale, _NUMBER):
        found.append(f"scale is a {type(scale).__name__}: it must be a number, or None")
    elif not abs(scale) <= 3.4028235e38:
        found.append(f"scale is {scale:g}: it must be a finite number that float32 can hold")
    return found


def of_the_call(query, key, value, mask, dropout_p, is_causal, scale, enable_gqa):
    """Every reason that lies in the call itself, whichever backend is asked."""
    named = {"query": query, "key": key, "value": value}
    given = named if mask is None else {**named, "attn_mask": mask}
    bias = isinstance(mask, Tensor) and _layout.causal_bias(mask)
    found = _of_tensors(named if bias else given)
    if found:
        return found + _of_numbers(dropout_p, is_causal, scale)
    plain = None if bias else mask
    found = _of_dtypes(query, key, value, plain)
    shapes = _of_shapes(query, key, value, enable_gqa)
    found += shapes
    if mask is not None and not shapes:
        found += _of_mask(query, key, value, mask, is_causal, enable_gqa)
    return found + _of_numbers(dropout_p, is_causal, scale)


def of_device(name, query):
    """Why the backend does not compute where query lives; None where it does. Meta tensors live nowhere."""
    on_device = name.partition(":")[0] == "cuda"
    if query.is_cuda and not _core.has_cuda_kernels() and (on_device or name == "auto"):
        return (f"query lives on the device '{query.device}' and this build of heed has no CUDA kernels: install a wheel "
                "of `make wheel-cuda`, or make it a CPU tensor")
    if name == "auto" or query.is_meta or on_device == query.is_cuda:
        return None
    return (f"query lives on '{query.device}': the {name} backend computes on "
            + ("CUDA devices" if on_device else "the CPU") + " alone")


def _current(query):
    """The device of query made current, for a plan is made for that one."""
    real = query.is_cuda and type(query) in (Tensor, torch.nn.Parameter)
    return torch.cuda.device(query.device) if real else contextlib.nullcontext()


def of_backend(name, query, key, value, mask, dropout_p, is_causal, scale, enable_gqa, threads=None):
    """The reasons of one backend for a call that is in order; empty where it would serve."""
    align, mask, is_causal = _layout.alignment(mask, is_causal)
    bias = None
    _, batch, heads, kv_heads = _layout.sizes(query, key, value, enable_gqa)
    if heads == 0:
        return []
    elsewhere = of_device(name, query)
    if elsewhere is not None and (query.is_cuda or _core.has_cuda_kernels()):  # else the backend says what it lacks
        return [elsewhere]
    if name == "auto":
        name = "cuda" if query.is_cuda else None
    # Without data and without gradient: a plan looks at neither.
    q, k, v = (_layout.as_batch(torch.empty_like(t, device="meta", dtype=_autocast(t)), batch, n)
               for t, n in ((query, heads), (key, kv_heads), (value, kv_heads)))
    if mask is not None:
        mask = _layout.as_mask(torch.empty_like(mask, device="meta"), batch)
        if mask.dtype != torch.bool:
            bias, mask = mask, None
    found = []
    for backward in (False, True):
        try:
            with _current(query):
                explain(q, k, v, scale=scale, causal=is_causal, align=align, bias=bias, mask=mask,
                        dropout_p=0.0 if dropout_p == 1 else dropout_p, backward=backward, backend=name,
                        threads=threads)
        except Error as error:
            found.append(str(error))
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))):
            break
    return list(dict.fromkeys(found))


def everything(given, names, threads=None):
    """Every reason of every backend in ``names``, or of the call."""
    found = of_the_call(*given)
    if not found:
        for name in names:
            found += [reason for reason in of_backend(name, *given, threads=threads) if reason not in found]
    if not found and not names:
        found.append("no backend is enabled: heed.sdpa.backends was given an empty list")
    return found


def refusal(found):
    """The error that says them."""
    kind = ArgumentTypeError if found and " it must be a PyTorch tensor" in found[0] else Error
    if len(found) == 1:
        return kind(found[0])
    return kind(f"{len(found)} reasons: " + "; ".join(f"({i}) {r}" for i, r in enumerate(found, 1)))
