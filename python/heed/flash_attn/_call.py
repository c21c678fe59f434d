# _call.py: flash-attn's arguments as heed.attention takes them, and its results as flash-attn gives them.
# Not here: the functions by their names (flash_attn_interface.py, _private.py), ragged rows (_ragged.py).
import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _api, _core, _torch
from .._core import ArgumentTypeError, Error
from .._words import FLASH_ATTN, spoken

Window = Sequence[int | None] | Tensor  # (left, right)

attention, decode = spoken(FLASH_ATTN)(_api.attention), spoken(FLASH_ATTN)(_api.decode)

_ROUND = 128  # flash-attn rounds the axes of S_dmask up to it


def tensor(name, value):
    """A tensor whose last stride is 1: flash-attn copies what lies otherwise."""
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"{name} is a {type(value).__name__}: it must be a PyTorch tensor")
    return value if value.dim() == 0 or value.stride(-1) == 1 else value.contiguous()


def constant(value):
    """Without its gradient, for calls that have none."""
    return value.detach() if value.requires_grad else value


def new_rows(name, value):
    """New keys or values (B, new, Hk, D); none are no argument at all."""
    if value is None:
        return None
    value = constant(tensor(name, value))
    return None if value.dim() == 4 and value.shape[1] == 0 else value


def unpack(name, value, count, axes):
    """The parts of a packed (…, count, H, D)."""
    value = tensor(name, value)
    if value.dim() != axes or value.shape[-3] != count:
        lead = "B, S" if axes == 5 else "T"
        raise Error(f"{name} has the shape {tuple(value.shape)}: it must be ({lead}, {count}, heads, D)")
    return value.unbind(-3)


def bounds(window_size):
    """(left, right) for heed: any negative number and None are no bound. Also from a tensor of two."""
    if window_size is None:
        return -1, -1
    if isinstance(window_size, Tensor) and window_size.is_cuda:
        raise Error(f"window_size lives on the device '{window_size.device}': it must be two integers or a CPU "
                    "tensor, for a call does not wait to read it")
    try:
        left, right = window_size
        left = -1 if left is None else left if type(left) is int else operator.index(left)
        right = -1 if right is None else right if type(right) is int else operator.index(right)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"window_size is {window_size!r}: it must be two integers (left, right), "
                                "-1 for no bound") from None
    return max(left, -1), max(right, -1)


def cap(softcap):
    """No cap is 0 for heed; for flash-attn whatever is not positive."""
    try:
        return 0.0 if softcap <= 0 else softcap
    except TypeError:
        raise ArgumentTypeError(f"softcap is {softcap!r}: it must be a number") from None


def splits(num_splits, most):
    """Nothing is split here, and a number that makes no sense is an error still."""
    if not isinstance(num_splits, int):
        raise ArgumentTypeError(f"num_splits is {num_splits!r}: it must be an integer")
    if not 0 <= num_splits <= most:
        raise Error(f"num_splits is {num_splits}: it must be from 0 (chosen) to {most}")


def length(name, value, most):
    """A longest length: callers hold it as a tensor of one element, too. On a device nothing waits to read
    that; `most`, which no length exceeds, does as well."""
    if isinstance(value, Tensor):
        if value.is_cuda:
            return most
        # A traced call reads no data: the extension then finds the length in cu_seqlens.
        return None if _torch.is_compiling() else int(value)
    if value is not None and type(value) is not int:
        try:
            return operator.index(value)
        except TypeError:
            raise ArgumentTypeError(f"{name} is {value!r}: it must be an integer") from None
    return value


def shown_lse(lse):
    """A row that sees nothing: −∞ in heed, +∞ in flash-attn 2."""
    return lse.masked_fill(lse == -math.inf, math.inf)


def hidden_lse(lse):
    """The way back, for a backward that is given flash-attn's lse."""
    return lse.masked_fill(lse == math.inf, -math.inf)


def round_up(n):
    return -(-n // _ROUND) * _ROUND


def signed_probs(q, k, v, rng, options, sizes=None):
    """S_dmask: ± exp(s − the row's maximum), negative where dropout dropped, in the dtype of q, zeros in
    what the rounding of both axes adds. From f32, for exp(s − lse) of long rows vanishes in 16 bits.
    sizes: of a ragged batch without the sequences that _ragged.covered appends, (B, Sq, Sk)."""
    with torch.no_grad():
        _, p = attention(q.detach().float(), k.detach().float(), v.detach()[..., :1].float(), seed=rng,
                         return_probs=True, **options)
        if sizes is not None:
            p = p[:sizes[0], :, :sizes[1], :sizes[2]]
        sq, sk = p.shape[-2:]
        if sk:
            top = p.abs().amax(-1, keepdim=True)
            p = torch.where(top > 0, p / top, 0.0)
        return torch.nn.functional.pad(p.to(q.dtype), (0, round_up(sk) - sk, 0, round_up(sq) - sq))


def at_once(q, k, v, softmax_scale, causal, window_size, softcap, alibi_slopes, cu_seqlens_q=None,
            cu_seqlens_k=None, max_seqlen_q=None, max_seqlen_k=None):
    """A call of the usual form, straight into the extension. NotImplemented where something else has a say,
    or may be wrong: the longer way knows what."""
    if _torch.is_compiling() or not isinstance(q, Tensor):
        return NotImplemented
    try:
        done = _core.attention(
            q, k, v, softmax_scale, True if causal else False, "bottom_right", None, bounds(window_size), 0, 0,
            cap(softcap), alibi_slopes, None, None, None, None, None, None, cu_seqlens_q, cu_seqlens_k, max_seqlen_q,
            max_seqlen_k, 0.0, None, 0, None, None, False, False, False, 1, False)
    except Error:
        return NotImplemented
    return _torch.joined(done, q, k, v, None, None) if type(done) is list else done


def attend(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes,
           return_attn_probs, *, rng=None, want_probs=True, sizes=None, **ragged):
    """out or (out, lse, S_dmask). rng: the state of dropout, drawn by default; want_probs: S_dmask with
    dropout; sizes: of signed_probs; ragged: heed's names for cu_seqlens, longest lengths, key_lengths."""
    if not (return_attn_probs or dropout_p != 0 or ragged):
        done = at_once(q, k, v, softmax_scale, causal, window_size, softcap, alibi_slopes)
        if done is not NotImplemented:
            return done
    q, k, v = tensor("q", q), tensor("k", k), tensor("v", v)
    options = dict(scale=softmax_scale, causal=bool(causal), window=bounds(window_size),
                   softcap=cap(softcap), alibi_slopes=alibi_slopes, dropout_p=dropout_p, **ragged)
    if not return_attn_probs:
        return attention(q, k, v, **options)
    if dropout_p and rng is None:
        rng = _torch.draw_rng(q)
    out, lse = attention(q, k, v, return_lse=True, seed=rng, **options)
    if dropout_p and want_probs:
        return out, shown_lse(lse), signed_probs(q, k, v, rng, options, sizes)
    return out, shown_lse(lse), q.new_empty((0,))
