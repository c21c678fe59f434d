# _ragged.py: ragged batches as flash-attn's callers have them: rows that belong to no sequence, slots
# used in part, left padding, pages. Not here: the functions (flash_attn_interface.py, _private.py).
import torch
from torch import Tensor

from .. import _torch
from .._core import ArgumentTypeError, Error
from ._call import at_once, attend, bounds, cap, decode, length, shown_lse, tensor


def _indices(name, value, shape):
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"{name} is a {type(value).__name__}: it must be an int32 tensor")
    if value.dtype != torch.int32:
        raise Error(f"{name} has the dtype {value.dtype}: it must be torch.int32")
    if len(shape) != value.dim() or any(n not in (None, m) for n, m in zip(shape, value.shape)):
        words = ", ".join("any" if n is None else str(n) for n in shape)
        raise Error(f"{name} has the shape {tuple(value.shape)}: it must be ({words})")
    return value


def _entries(name, cu):
    return _indices(name, cu, (None,)).numel() - 1


def _in_range(name, values, low, high, what):
    """Each value between the bounds of its own entry. Reads data: not while a call is traced, nor on a
    device, where the kernels bring into range what is not."""
    if _torch.is_compiling() or values.is_meta or values.is_cuda:
        return
    wrong = ((values < low) | (values > high)).nonzero()
    if len(wrong):
        b = tuple(int(n) for n in wrong[0])
        limit = [int(torch.as_tensor(x).expand_as(values)[b]) for x in (low, high)]
        raise Error(f"{name}{list(b)} is {int(values[b])}: it must be from {limit[0]} to {limit[1]}, {what}")


def rows_of(starts, lengths):
    """(rows, cu): the rows starts[b] … starts[b] + lengths[b] − 1 of all entries, and their ends."""
    cu = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    total = int(cu[-1])
    rows = torch.repeat_interleave(starts - cu[:-1], lengths, output_size=total) + torch.arange(total)
    return rows, cu.to(torch.int32)


def _check_pages(k, v, block_table, batch):
    _indices("block_table", block_table, (batch, None))
    if k.dim() != 4 or v.dim() != 4 or k.shape[:3] != v.shape[:3]:
        raise Error(f"k has the shape {tuple(k.shape)} and v {tuple(v.shape)}: with block_table both must "
                    "be (pages, rows of a page, heads, D)")


def check_capacity(cache_seqlens, new, block_table, page):
    """That the pages an entry has hold the rows in use and the new ones."""
    if _torch.is_compiling() or not isinstance(block_table, Tensor) or block_table.dim() != 2:
        return
    room = page * block_table.shape[1]
    used = cache_seqlens
    if isinstance(used, Tensor):
        used = 0 if used.is_meta or used.is_cuda or not used.numel() else int(used.max())
    if isinstance(used, int) and used + new > room:
        raise Error(f"cache_seqlens goes up to {used}, with {new} new rows: the {block_table.shape[1]} pages of "
                    f"an entry in block_table hold {room} rows")


def _used_keys_on_device(k, v, cu_seqlens_k, block_table, leftpad_k, seqused_k):
    """used_keys without a look at the lengths: slots as they lie, or all pages of an entry in a row, and
    in each the first key and the number of keys."""
    b = _entries("cu_seqlens_k", cu_seqlens_k)
    used = cu_seqlens_k.diff() if seqused_k is None else _indices("seqused_k", seqused_k, (b,))
    cu = cu_seqlens_k
    if block_table is not None:
        _check_pages(k, v, block_table, b)
        room = k.shape[1] * block_table.shape[1]
        pages = block_table.clamp(0, k.shape[0] - 1).flatten()
        k, v = (t.index_select(0, pages).flatten(0, 1) for t in (k, v))
        cu = torch.arange(b + 1, dtype=torch.int32, device=cu.device) * room
    if leftpad_k is not None:
        left = _indices("leftpad_k", leftpad_k, (b,))
        cu, used = cu + torch.nn.functional.pad(left, (0, 1)), used - left
    return k, v, cu, used


def used_keys(k, v, cu_seqlens_k, block_table, leftpad_k, seqused_k):
    """(k, v, cu, lengths or None): keys leftpad_k[b] … used − 1 of every entry in one ragged batch, copied
    together."""
    if k.is_cuda:
        return _used_keys_on_device(k, v, cu_seqlens_k, block_table, leftpad_k, seqused_k)
    b = _entries("cu_seqlens_k", cu_seqlens_k)
    starts, slots = cu_seqlens_k[:-1].long(), cu_seqlens_k.diff().long()
    if block_table is None:
        used, bound, what = slots, slots, "the rows of its slot"
    else:
        _check_pages(k, v, block_table, b)
        page = k.shape[1]
        used, bound, what = slots, page * block_table.shape[1], "the rows of its pages in block_table"
    if seqused_k is not None:
        used = _indices("seqused_k", seqused_k, (b,)).long()
    _in_range("cu_seqlens_k.diff()" if seqused_k is None else "seqused_k", used, 0, bound, what)
    left = torch.zeros_like(used)
    if leftpad_k is not None:
        left = _indices("leftpad_k", leftpad_k, (b,)).long()
        _in_range("leftpad_k", left, 0, used, "the keys in use")
    if block_table is None:
        rows, cu = rows_of(starts + left, used - left)
    else:
        at, cu = rows_of(left, used - left)
        entry = torch.repeat_interleave(torch.arange(b), used - left)
        pages = block_table[entry, at // page]
        _in_range("the page named by block_table", pages, 0, k.shape[0] - 1, "the pages of k")
        rows = pages.long() * page + at % page
        k, v = k.flatten(0, 1), v.flatten(0, 1)
    return k.index_select(0, rows), v.index_select(0, rows), cu, None


def covered(q, k, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, alibi_slopes):
    """heed wants every row in a sequence. flash-attn does not: rows behind the last end become two more
    sequences, of queries without keys (their output is 0) and of keys without queries (gradient 0). On a
    device results begin as zeros, and nobody looks."""
    given = dict(cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, max_seqlen_q=max_seqlen_q,
                 max_seqlen_k=max_seqlen_k, alibi_slopes=alibi_slopes)
    ends = []
    for cu in (cu_seqlens_q, cu_seqlens_k):
        if (_torch.is_compiling() or not isinstance(cu, Tensor) or cu.dtype != torch.int32 or cu.dim() != 1
                or not cu.numel() or cu.is_meta or cu.is_cuda):
            return given, None  # as it is; what is wrong with it, the extension says
        ends.append(int(cu[-1]))
    rest_q, rest_k = q.shape[0] - ends[0], k.shape[0] - ends[1]
    if rest_q < 0 or rest_k < 0 or (rest_q == 0 and rest_k == 0):
        return given, None
    given["cu_seqlens_q"] = torch.nn.functional.pad(cu_seqlens_q, (0, 2), value=q.shape[0])
    given["cu_seqlens_k"] = torch.cat((cu_seqlens_k, cu_seqlens_k.new_tensor([ends[1], k.shape[0]])))
    for name, rest in (("max_seqlen_q", rest_q), ("max_seqlen_k", rest_k)):
        if given[name] is not None:
            given[name] = max(given[name], rest)
    sizes = (cu_seqlens_q.numel() - 1, max_seqlen_q, max_seqlen_k)
    if isinstance(alibi_slopes, Tensor) and alibi_slopes.dim() == 2:
        given["alibi_slopes"] = torch.nn.functional.pad(alibi_slopes, (0, 0, 0, 2))
    return given, sizes


def _alike(cu_seqlens_q, rows, max_seqlen_q):
    """Whether every entry has as many queries. On a device by their number alone: if there are as many
    rows as entries times the longest, each is the longest."""
    b = cu_seqlens_q.numel() - 1
    if cu_seqlens_q.is_cuda:
        return max_seqlen_q == rows // b
    return torch.equal(cu_seqlens_q, torch.arange(b + 1, dtype=torch.int32) * (rows // b))


def _pages_as_they_lie(q, k, v, cu_seqlens_q, max_seqlen_q, lengths, block_table, want_lse, **options):
    """(out, lse) of queries alike in number for every entry, as in decoding: no page is copied. None
    where the call is another one."""
    b = lengths.numel()
    if b == 0 or q.shape[0] % b or _torch.is_compiling():
        return None
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v)):
        return None
    sq = q.shape[0] // b
    if not _alike(cu_seqlens_q, q.shape[0], max_seqlen_q):
        return None
    result = decode(q.unflatten(0, (b, sq)), k, v, cache_seqlens=lengths, block_table=block_table,
                    return_lse=want_lse, **options)
    if not want_lse:
        return result.flatten(0, 1)
    return result[0].flatten(0, 1), shown_lse(result[1].transpose(0, 1).flatten(1)), q.new_empty((0,))


def attend_ragged(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p,
                  softmax_scale, causal, window_size, softcap, alibi_slopes, return_attn_probs,
                  block_table=None, leftpad_k=None, seqused_k=None, *, rng=None, want_probs=True):
    """flash_attn_varlen_func and what the private forward adds to it."""
    if block_table is leftpad_k is seqused_k is None and not (dropout_p != 0 or return_attn_probs):
        done = at_once(q, k, v, softmax_scale, causal, window_size, softcap, alibi_slopes, cu_seqlens_q, cu_seqlens_k,
                       max_seqlen_q, max_seqlen_k)
        if done is not NotImplemented:
            return done
    q, k, v = tensor("q", q), tensor("k", k), tensor("v", v)
    max_seqlen_q = length("max_seqlen_q", max_seqlen_q, q.shape[0])
    paged = isinstance(block_table, Tensor) and block_table.dim() == 2 and k.dim() == 4
    max_seqlen_k = length("max_seqlen_k", max_seqlen_k, k.shape[1] * block_table.shape[1] if paged else k.shape[0])
    lengths = None
    if block_table is not None or leftpad_k is not None:
        if leftpad_k is None and not dropout_p:  # block_table, then
            _entries("cu_seqlens_q", cu_seqlens_q)
            b = _entries("cu_seqlens_k", cu_seqlens_k)
            _check_pages(k, v, block_table, b)
            used = cu_seqlens_k.diff() if seqused_k is None else _indices("seqused_k", seqused_k, (b,))
            done = _pages_as_they_lie(
                q, k, v, cu_seqlens_q, max_seqlen_q, used, block_table, return_attn_probs, scale=softmax_scale,
                causal=bool(causal), window=bounds(window_size), softcap=cap(softcap),
                alibi_slopes=alibi_slopes)
            if done is not None:
                return done
        k, v, cu_seqlens_k, lengths = used_keys(k, v, cu_seqlens_k, block_table, leftpad_k, seqused_k)
    elif seqused_k is not None:
        lengths = _indices("seqused_k", seqused_k, (_entries("cu_seqlens_k", cu_seqlens_k),))
    ragged, sizes = covered(q, k, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, alibi_slopes)
    if lengths is not None and ragged["cu_seqlens_k"].numel() > lengths.numel() + 1:
        tail = ragged["cu_seqlens_k"].diff()[-2:]
        lengths = torch.cat((lengths, tail))
    return attend(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap,
                  return_attn_probs=return_attn_probs, rng=rng, want_probs=want_probs, key_lengths=lengths,
                  sizes=sizes, **ragged)
