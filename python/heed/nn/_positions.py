# nn/_positions.py: rotary embedding and the slopes of ALiBi. Not here: the modules that use them.
import math

import torch
from torch import Tensor

from .._core import Error


def rotary_tables(positions: int, dim: int, *, base: float = 10000.0, scale: float = 1.0,
                  dtype: torch.dtype = torch.float32,
                  device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary embedding (Su et al. 2021), each (positions, dim / 2).

    Parameters
    ----------
    positions : how many, from 0.
    dim : of the embedding, even.
    base : entry pair n turns by base ** (−2n / dim) a position.
    scale : positions are divided by it (position interpolation, Chen et al. 2023).
    dtype : of the tables; they are made in float64 and rounded once.

    Raises
    ------
    heed.Error for a dim that is odd or not positive, a base or scale that is not positive.
    """
    if dim <= 0 or dim % 2:
        raise Error(f"the dimension of rotary embedding is {dim}: it must be even and positive")
    for name, value in (("base", base), ("scale", scale)):
        if not value > 0 or not math.isfinite(value):
            raise Error(f"rotary {name} is {value}: it must be a positive number")
    at = torch.arange(positions, dtype=torch.float64, device=device)
    return _tables(at, dim, base, scale, dtype)


def _tables(at, dim, base, scale, dtype):
    """(…, dim / 2) for positions (…), float64. No questions asked: torch.compile must see through it."""
    turns = base ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=at.device) / dim)
    angles = (at / scale).unsqueeze(-1) * turns
    return angles.cos().to(dtype), angles.sin().to(dtype)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool = False) -> Tensor:
    """Turns the first R entries of every head; differentiable.

    Parameters
    ----------
    x : (…, S, H, D)
    cos, sin : (S, R / 2), or (…, S, R / 2) with a row for each position of x, R ≤ D.
    interleaved : pairs (0, 1), (2, 3), … instead of (0, R/2), (1, R/2 + 1), ….

    Returns
    -------
    like x; computed in float32 (float64 for float64) and rounded once.
    """
    half = cos.shape[-1]
    if 2 * half > x.shape[-1]:
        raise Error(f"rotary embedding of {2 * half} entries on heads of {x.shape[-1]}: at most as many "
                    "as a head has")
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    cos, sin = cos.to(wide).unsqueeze(-2), sin.to(wide).unsqueeze(-2)
    turned, rest = x[..., :2 * half].to(wide), x[..., 2 * half:]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
    else:
        a, b = turned[..., :half], turned[..., half:]
        turned = torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
    turned = turned.to(x.dtype)
    return torch.cat((turned, rest), -1) if rest.shape[-1] else turned


class Rotary:
    """Tables that are made once for each dtype and grow with the positions that are asked for."""

    def __init__(self, dim, base, scale, interleaved):
        rotary_tables(0, dim, base=base, scale=scale)  # its errors come when the module is made
        self.dim, self.base, self.scale, self.interleaved = dim, base, scale, interleaved
        self._tables = {}

    def tables(self, positions, dtype, device):
        """At least so many rows."""
        if torch.compiler.is_compiling():  # what is kept from call to call is no part of a graph
            return self._make(positions, dtype, device)
        key = (dtype, torch.device(device))
        if key not in self._tables or self._tables[key][0].shape[0] < positions:
            rows = max(256, 1 << (positions - 1).bit_length())
            self._tables[key] = self._make(rows, dtype, device)
        return self._tables[key]

    def _make(self, positions, dtype, device):
        at = torch.arange(positions, dtype=torch.float64, device=device)
        return _tables(at, self.dim, self.base, self.scale, dtype)

    def turn(self, x, first):
        """x (B, S, H, D) whose row 0 stands at position `first`."""
        rows = x.shape[1]
        cos, sin = self.tables(first + rows, x.dtype, x.device)
        return apply_rotary(x, cos[first:first + rows], sin[first:first + rows],
                            interleaved=self.interleaved)

    def turn_at(self, x, at):
        """x whose rows stand at the positions `at`, int64, (S,) or (B, S)."""
        if torch.compiler.is_compiling() or at.is_cuda:  # the largest position is not known there
            cos, sin = _tables(at.double(), self.dim, self.base, self.scale, x.dtype)
        else:
            if at.numel() and int(at.min()) < 0:
                raise Error(f"positions hold {int(at.min())}: rotary embedding counts from 0")
            cos, sin = self.tables(int(at.max()) + 1 if at.numel() else 1, x.dtype, x.device)
            cos, sin = cos[at], sin[at]
        return apply_rotary(x, cos, sin, interleaved=self.interleaved)

    def __getstate__(self):
        return {**self.__dict__, "_tables": {}}


def alibi_slopes(num_heads: int) -> Tensor:
    """The slopes of ALiBi (Press et al. 2022), float32 (num_heads,).

    2 ** (−8 (h + 1) / n) where the number of heads n is a power of two; for another one, those of the
    power below, and then every second one of the power above.
    """
    def of_power(n):
        return [2.0 ** (-8 * (h + 1) / n) for h in range(n)]

    if num_heads < 1:
        raise Error(f"num_heads is {num_heads}: it must be at least 1")
    below = 1 << (num_heads.bit_length() - 1)
    slopes = of_power(below) + of_power(2 * below)[0::2][:num_heads - below]
    return torch.tensor(slopes, dtype=torch.float32)
