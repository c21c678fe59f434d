# nn/_masks.py: the masks of torch.nn.MultiheadAttention as options of heed.attention. Not here: what
# is causal, windows (geometry, which the modules pass themselves).
import torch
from torch import Tensor

from .._core import ArgumentTypeError, Error
from .._torch_values import in_autocast


def _kind(mask, name):
    if not isinstance(mask, Tensor):
        raise ArgumentTypeError(f"{name} is a {type(mask).__name__}: it must be a PyTorch tensor")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise Error(f"{name} is {mask.dtype}: it must be bool (True hides) or floating (it is added)")
    return mask.dtype == torch.bool


def attn_mask_4d(mask: Tensor, batch: int, heads: int, sq: int, sk: int) -> Tensor:
    """(Sq, Sk), (B·H, Sq, Sk) or (B|1, H|1, Sq|1, Sk|1) as the last."""
    accepted = (f"({sq}, {sk}), ({batch * heads}, {sq}, {sk}) for B·H, or ({batch} or 1, {heads} or 1, "
                f"{sq} or 1, {sk} or 1)")
    if mask.dim() == 2:
        four = mask[None, None]
    elif mask.dim() == 3 and mask.shape[0] == batch * heads:
        four = mask.reshape(batch, heads, *mask.shape[1:])
    elif mask.dim() == 4:
        four = mask
    else:
        raise Error(f"attn_mask has the shape {tuple(mask.shape)}: it must be {accepted}")
    exact = mask.dim() < 4
    for size, full in zip(four.shape, (batch, heads, sq, sk)):
        if size != full and not (size == 1 and (not exact or full in (batch, heads))):
            raise Error(f"attn_mask has the shape {tuple(mask.shape)}: it must be {accepted}")
    return four


def lengths_of(hidden: Tensor) -> Tensor | None:
    """int32 (B,) where bool (B, Sk) hides exactly the ends of the entries, else None. Reads values."""
    lengths = (~hidden).sum(-1, dtype=torch.int32)
    at = torch.arange(hidden.shape[-1], device=hidden.device)
    return lengths if torch.equal(hidden, at >= lengths[:, None]) else None


def check_lengths(lengths: Tensor, batch: int, most: int, name: str = "key_lengths") -> Tensor:
    if not isinstance(lengths, Tensor) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        what = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise ArgumentTypeError(f"{name} is {what}: it must be a tensor of integers, ({batch},)")
    if tuple(lengths.shape) != (batch,):
        raise Error(f"{name} has the shape {tuple(lengths.shape)}: it must be ({batch},), one number for "
                    "each entry")
    if not torch.compiler.is_compiling() and not lengths.is_cuda and batch and not (
            0 <= int(lengths.min()) and int(lengths.max()) <= most):
        raise Error(f"{name} holds {lengths.tolist()}: every number must be from 0 to {most}")
    return lengths.to(torch.int32)


def options(batch: int, heads: int, sq: int, sk: int, dtype: torch.dtype, attn_mask: Tensor | None,
            key_padding_mask: Tensor | None, key_lengths: Tensor | None = None) -> dict[str, Tensor]:
    """mask, bias and key_lengths for heed.attention, each where there is one.

    attn_mask, key_padding_mask : as in torch.nn.MultiheadAttention: bool, True hides; floating, added.
    A padding mask that hides the ends of the entries, as padding does, becomes key_lengths, with which
    nothing is read or computed there (not under torch.compile, which must not look at values, nor on a
    device, where looking would wait).
    """
    hide: list[Tensor] = []
    add: list[Tensor] = []
    found: dict[str, Tensor] = {}
    if key_lengths is not None:
        if key_padding_mask is not None:
            raise Error("key_lengths and key_padding_mask are both given: they say the same, give one")
        found["key_lengths"] = check_lengths(key_lengths, batch, sk)
    if attn_mask is not None:
        kind = hide if _kind(attn_mask, "attn_mask") else add
        kind.append(attn_mask_4d(attn_mask, batch, heads, sq, sk))
    if key_padding_mask is not None:
        binary = _kind(key_padding_mask, "key_padding_mask")
        if tuple(key_padding_mask.shape) != (batch, sk):
            raise Error(f"key_padding_mask has the shape {tuple(key_padding_mask.shape)}: it must be "
                        f"({batch}, {sk}), one value for each key")
        padding = key_padding_mask
        looked = not torch.compiler.is_compiling() and padding.device.type == "cpu"
        if not binary and looked and not padding.requires_grad:
            # PyTorch's encoder layers turn bool masks into 0 and −∞.
            hidden = padding == float("-inf")
            if bool((hidden | (padding == 0)).all()):
                padding, binary = hidden, True
        if not binary:
            add.append(padding[:, None, None, :])
        else:
            lengths = lengths_of(padding) if looked else None
            if lengths is None:
                hide.append(padding[:, None, None, :])
            else:
                found["key_lengths"] = lengths
    if hide:
        hidden = hide[0] if len(hide) == 1 else hide[0] | hide[1]
        found["mask"] = hidden.logical_not()
    if add:
        bias = add[0] if len(add) == 1 else add[0] + add[1]
        # Under autocast q changes its dtype after this; float32 goes with all of them.
        same = bias.dtype == dtype and not in_autocast(bias.device.type)
        found["bias"] = bias if same or bias.dtype == torch.float32 else bias.float()
    return found
