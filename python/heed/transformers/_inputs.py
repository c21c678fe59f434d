# _inputs.py: what transformers hands to an attention, brought into heed's terms: layout, masks, sinks, and
# sentences where it does not fit. Not here: the attention (_attention.py).
from typing import Any

import torch
from torch import Tensor

from heed import ArgumentTypeError, Error
from heed._torch_values import in_autocast


def rows(t: Tensor) -> Tensor:
    """(B, H, S, D) as (B, S, H, D), a view; copied only where its last axis is not dense."""
    t = t.transpose(1, 2)
    return t if t.stride(-1) == 1 or t.shape[-1] <= 1 else t.contiguous()


def check(**given: Any) -> None:
    """Sentences for what would fail before heed sees it."""
    for name, value in given.items():
        if value is not None and not isinstance(value, Tensor):
            raise ArgumentTypeError(f"{name} is a {type(value).__name__}: it must be a PyTorch tensor")
    for name in ("query", "key", "value"):
        if given[name].dim() != 4:
            raise Error(f"{name} has the shape {tuple(given[name].shape)}: it must have 4 axes, "
                        "(B, H, S, D)")
    q, k, v = (tuple(given[name].shape) for name in ("query", "key", "value"))
    for a, x, b, y, fits, what in (
            ("value", v, "key", k, v[:3] == k[:3], "all axes but the last must be the same"),
            ("key", k, "query", q, k[3] == q[3], "the last axis must be the same"),
            ("key", k, "query", q, k[1] and q[1] % k[1] == 0, "query's heads, axis 1, must be a multiple of key's"),
            ("key", k, "query", q, k[0] == q[0] or 1 in (k[0], q[0]), "the first axis, the batch, must be the same")):
        if not fits:
            raise Error(f"{a} has the shape {x} and {b} has {y}: {what}")


def split_sinks(sinks: Tensor | None, q: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """(one for each head, one for each query): at most one of the two is there."""
    if sinks is None:
        return None, None
    heads = q.shape[1]
    if sinks.numel() == heads:
        return sinks.float().reshape(-1), None
    wanted = (*q.shape[:3], 1)
    if sinks.dim() != 4 or any(n not in (1, m) for n, m in zip(sinks.shape, wanted)):
        raise Error(f"s_aux has the shape {tuple(sinks.shape)}: it must hold one number for each of the "
                    f"{heads} heads, or one for each query, {wanted}")
    return None, sinks


def additive(t: Tensor, q: Tensor, name: str) -> Tensor:
    """A tensor to be added to the scores, in a dtype that heed takes beside q."""
    if not t.is_floating_point():
        also = "bool (True attends) or " if name == "attention_mask" else ""
        raise Error(f"{name} has the dtype {t.dtype}: it must be {also}floating point (added to the "
                    "scores)")
    if t.dtype == torch.float32 or (t.dtype == q.dtype and not in_autocast(q.device.type)):
        return t
    return t.float()


def split_mask(mask: Tensor | None, bias: Tensor | None, q: Tensor, keys: int):
    """The mask as (mask, bias) of heed, the model's own bias joined to an additive mask."""
    if bias is not None:
        bias = additive(bias, q, "position_bias")
    if mask is None:
        return None, bias
    if mask.dim() and mask.shape[-1] > keys:  # made for a cache that has not grown so far
        mask = mask[..., :keys]
    if mask.dtype == torch.bool:
        return mask, bias
    mask = additive(mask, q, "attention_mask")
    return None, mask if bias is None else mask + bias


def selected(indices: Tensor, mask: Tensor | None, q: Tensor, k: Tensor) -> Tensor:
    """A bool mask of the keys that an indexer chose, (B, Sq, n) positions, among those the mask allows."""
    batch, queries, keys = q.shape[0], q.shape[2], k.shape[2]
    chosen = torch.zeros((batch, queries, keys), dtype=torch.bool, device=q.device)
    try:
        chosen = chosen.scatter(-1, indices.long(), True)[:, None]
    except RuntimeError as error:
        raise Error(f"indices, of the shape {tuple(indices.shape)}, do not fit: they must be (B, Sq, n) "
                    f"positions, here {(batch, queries)} and n, from 0 to {keys - 1} ({error})") from error
    return chosen if mask is None else chosen & mask


def join_batches(*tensors: Tensor) -> list[Tensor]:
    """A batch of 1 beside a larger one is repeated, as PyTorch does (learned queries)."""
    batch = max(t.shape[0] for t in tensors)
    return [t.expand(batch, *t.shape[1:]) if t.shape[0] == 1 != batch else t for t in tensors]
