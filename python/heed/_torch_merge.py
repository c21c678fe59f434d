# _torch_merge.py: heed.merge on CUDA tensors, by PyTorch's operators: the library's Merge is the host's.
import torch
from torch import Tensor

from ._core import ArgumentTypeError, Error

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def _check(outs, lses, dtype):
    if dtype not in _DTYPES:
        raise Error(f"dtype is {dtype}: merged results are f32, bf16 or f16")
    if len(outs) != len(lses):
        raise Error(f"outs has {len(outs)} parts and lses has {len(lses)}: there must be one lse for each output")
    first = outs[0]
    if first.dim() not in (3, 4):
        raise Error(f"outs[0] has the shape {tuple(first.shape)}: it must be (B, S, H, D) or (T, H, D)")
    rows = (first.shape[1], first.shape[0]) if first.dim() == 3 else (first.shape[0], first.shape[2], first.shape[1])
    for name, parts, shape in (("outs", outs, tuple(first.shape)), ("lses", lses, tuple(rows))):
        for i, t in enumerate(parts):
            if not isinstance(t, Tensor):
                raise ArgumentTypeError(f"{name}[{i}] is a {type(t).__name__}: it must be a PyTorch tensor, as the "
                                        "first argument is")
            if t.device != first.device:
                raise Error(f"{name}[{i}] lives on the device '{t.device}' and outs[0] on '{first.device}': all "
                            "arrays of a call must be on one device")
            if t.dtype != torch.float32:
                raise Error(f"{name}[{i}] has the dtype {t.dtype}: parts must be float32")
            if tuple(t.shape) != shape:
                raise Error(f"{name}[{i}] has the shape {tuple(t.shape)}: with outs[0] of {tuple(first.shape)} it "
                            f"must be {shape}")


def merge_on_device(outs: list[Tensor], lses: list[Tensor], dtype: str) -> tuple[Tensor, Tensor]:
    """lse = log Σ exp(lse of a part), out = Σ exp(lse of a part − lse) · out of the part, in float64 and in
    the order given, as the library has it. A part of −∞ has no say, whatever its output holds."""
    _check(outs, lses, dtype)
    top = torch.full_like(lses[0], -torch.inf, dtype=torch.float64)
    for part in lses:
        top = torch.maximum(top, part.double())
    # Of a row that no part saw, 0 for −∞, so that nothing is NaN; +∞ and NaN stay what they are.
    base = top.masked_fill(top == -torch.inf, 0.0)
    total = torch.zeros_like(base)
    out = torch.zeros_like(outs[0], dtype=torch.float64)
    for part, rows in zip(lses, outs):
        weight = (part.double() - base).exp()
        total = total + weight
        spread = weight.transpose(-1, -2).unsqueeze(-1)
        out = out + torch.where(spread == 0, 0.0, spread * rows.double())
    lse = base + total.log()
    scale = total.masked_fill(total == 0, 1.0).transpose(-1, -2).unsqueeze(-1)
    return (out / scale).to(_DTYPES[dtype]), lse.float()
