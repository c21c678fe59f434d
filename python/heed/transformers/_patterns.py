# _patterns.py: which of transformers' mask functions are geometry that heed has, and what geometry. Not
# here: the mask made from it (_masks.py).
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@dataclass
class Geometry:
    """Query i sees key j iff −left ≤ j − (i + offset) ≤ right (−1: no bound), both lie in one chunk, and j
    is below the key length of its entry. With cu_seqlens: within each of the sequences laid end to end."""

    left: int = -1
    right: int = -1
    chunk: int = 0
    chunk_from: Tensor | None = None  # (B,): where each entry's first chunk begins
    offset: int = 0
    key_lengths: Tensor | None = None  # int32 (B,)
    cu_seqlens: Tensor | None = None  # int32 (sequences + 1,)
    longest: int | None = None
    tokens: Tensor | None = None  # int64: the tokens that are in a sequence, of all B · S; None: all


def _closure(function: Callable) -> dict[str, Any]:
    return {name: cell.cell_contents
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ())}


def _read(function: Callable, known: dict[Any, Callable]) -> Geometry | None:
    reader = known.get(getattr(function, "__code__", None))
    return None if reader is None else reader(_closure(function), known)


def _both(inside, known):
    """and_masks: two geometries at once."""
    parts = [_read(f, known) for f in inside["mask_functions"]]
    if None in parts:
        return None
    joined = Geometry()
    for part in parts:
        for field in ("left", "right"):
            mine, other = getattr(joined, field), getattr(part, field)
            if other >= 0:
                setattr(joined, field, other if mine < 0 else min(mine, other))
        if part.chunk:
            if joined.chunk:
                return None
            joined.chunk, joined.chunk_from = part.chunk, part.chunk_from
    return joined


@lru_cache(maxsize=1)
def _known() -> tuple[dict[Any, Callable], Any, Any]:
    """The code of transformers' mask functions and how each is read. Whatever this transformers does not
    have, or has with another meaning, is left out: its masks are then made."""
    from transformers import masking_utils as theirs

    readers: dict[Any, Callable] = {}
    zeros = torch.zeros(1, dtype=torch.int64)
    samples = (
        (lambda: theirs.causal_mask_function, lambda inside, known: Geometry(right=0)),
        (lambda: theirs.bidirectional_mask_function, lambda inside, known: Geometry()),
        (lambda: theirs.sliding_window_overlay(3),
         lambda inside, known: Geometry(left=int(inside["sliding_window"]) - 1)),
        (lambda: theirs.sliding_window_bidirectional_overlay(2),
         lambda inside, known: Geometry(*[int(inside["sliding_window"])] * 2)),
        (lambda: theirs.chunked_overlay(3, zeros),
         lambda inside, known: Geometry(chunk=int(inside["chunk_size"]), chunk_from=inside["left_padding"])),
        (lambda: theirs.and_masks(theirs.causal_mask_function, theirs.sliding_window_overlay(3)), _both),
    )
    for make, reader in samples:
        try:
            function = make()
            found = reader(_closure(function), readers)
            if found is not None and _agrees(function, found):
                readers[function.__code__] = reader
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    packed = remapped = None
    try:
        packed = theirs.packed_sequence_mask_function(zeros[None]).__code__
        remapped = theirs.remap_positions_for_packed_sequence(
            theirs.causal_mask_function, zeros[None]).__code__
    except (AttributeError, TypeError):
        pass
    return readers, packed, remapped


def _agrees(function: Callable, geometry: Geometry) -> bool:
    """Whether a mask function is that geometry, on all pairs of a small square."""
    n = torch.arange(9)
    i, j = n[:, None], n[None, :]
    seen = function(torch.zeros((1, 1), dtype=torch.int64), 0, i, j)
    return bool((torch.as_tensor(seen).expand(9, 9) == sees(geometry, i, j)).all())


def sees(geometry: Geometry, i: Tensor, j: Tensor) -> Tensor:
    """Left, right and chunk of a geometry, for positions of queries and keys."""
    seen = torch.ones(torch.broadcast_shapes(i.shape, j.shape), dtype=torch.bool)
    if geometry.left >= 0:
        seen &= i - j <= geometry.left
    if geometry.right >= 0:
        seen &= j - i <= geometry.right
    if geometry.chunk:
        seen &= i // geometry.chunk == j // geometry.chunk
    return seen


def _sequences(starts: Tensor, geometry: Geometry, tokens: Tensor | None) -> Geometry:
    """Ragged, from the bool (B, S) of tokens that begin a sequence; those in none are given apart."""
    flat = starts.reshape(-1)
    count = flat.numel()
    if tokens is not None:
        flat, count = flat[tokens], tokens.numel()
    cu = torch.cat([flat.nonzero().view(-1), torch.tensor([count])]).to(torch.int32)
    longest = int(cu.diff().max()) if cu.numel() > 1 else 0
    return replace(geometry, chunk_from=None, cu_seqlens=cu, longest=longest, tokens=tokens)


def _packed(inner: Geometry, ids: Tensor, positions: Tensor) -> Geometry | None:
    """Sequences that position_ids tell apart. Within one, positions go up by 1, so indices tell the same."""
    same = ids[:, 1:] == ids[:, :-1]
    if not bool(((ids.diff(dim=1) >= 0) & (~same | (positions.diff(dim=1) == 1))).all()):
        return None
    starts = torch.cat([torch.ones_like(same[:, :1]), ~same], dim=1)
    if inner.chunk and bool((positions[starts] % inner.chunk).any() or inner.chunk_from.any()):
        return None
    return _sequences(starts, inner, None)


def _padded(geometry: Geometry, real: Tensor, square: bool) -> Geometry | None:
    """With the bool (B, Sk) of keys that are no padding."""
    keys = real.shape[1]
    lengths = real.sum(1)
    at = torch.arange(keys)
    if bool((real == (at < lengths[:, None])).all()):  # on the right
        if geometry.chunk and bool(geometry.chunk_from[lengths > 0].any()):
            return None
        lengths = None if bool((lengths == keys).all()) else lengths.to(torch.int32)
        return replace(geometry, key_lengths=lengths, chunk_from=None)
    begin = keys - lengths
    if not square or geometry.right != 0 or not bool((real == (at >= begin[:, None])).all()):
        return None
    # On the left, and what stands there sees nothing: only the tokens behind it.
    if geometry.chunk and not bool((geometry.chunk_from == begin).all()):
        return None
    return _sequences(at == begin[:, None], geometry, real.reshape(-1).nonzero().view(-1))


def recognize(arguments: dict[str, Any]) -> Geometry | None:
    """The geometry of what transformers asks for, or None: then the mask has to be made."""
    readers, packed, remapped = _known()
    function, real = arguments["mask_function"], arguments.get("attention_mask")
    q_length, kv_length = arguments["q_length"], arguments["kv_length"]
    q_offset, kv_offset = int(arguments.get("q_offset", 0)), int(arguments.get("kv_offset", 0))
    square = q_length == kv_length and q_offset == kv_offset
    on_device = torch.device(arguments.get("device", "cpu")).type != "cpu"
    if on_device and real is not None:  # nothing there is read
        return None
    try:
        geometry = _read(function, readers)
        if geometry is None:
            parts = _closure(function).get("mask_functions", ())
            codes = [getattr(f, "__code__", None) for f in parts]
            if on_device or real is not None or not square or codes != [packed, remapped]:
                return None
            ids, inside = _closure(parts[0])["packed_sequence_mask"], _closure(parts[1])
            inner = _read(inside["mask_function"], readers)
            return None if inner is None else _packed(inner, ids, inside["position_ids"])
    except (AttributeError, KeyError, TypeError):
        return None
    if geometry.chunk and (on_device or kv_offset % geometry.chunk):
        return None
    geometry.offset = q_offset - kv_offset
    batch, end = arguments["batch_size"], kv_offset + kv_length
    if real is None:
        real = torch.ones((batch, end), dtype=torch.bool)
    elif real.dim() != 2 or real.shape[0] != batch:
        return None
    real = torch.nn.functional.pad(real.bool(), (0, max(end - real.shape[1], 0)))[:, kv_offset:end]
    return _padded(geometry, real, square)
