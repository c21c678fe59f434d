# nn/cache.py: keys and values of sequences that are decoded step by step. Not here: the attention
# that reads them (attention.py), pages (heed.decode takes them).
import torch
from torch import Tensor

from .._core import ArgumentTypeError, Error


class KVCache:
    """What a MultiHeadAttention has seen: keys and values, one row a position. One for each module.

    Parameters
    ----------
    max_length : rows, made at once; a step beyond them is an error. ``None``: starts small and doubles.

    Attributes
    ----------
    k, v : (B, rows, Hk, D), (B, rows, Hk, Dv) in the dtype of the first keys; None before them.
    length : int, rows in use in the longest entry; on a device, where nobody looks, at most so many.
    lengths : int32 (B,), rows in use in every entry.
    leftpad : int32 (B,) or None, rows at the start of an entry that do not count.

    Notes
    -----
    Rows are written in place, without gradients.
    """

    def __init__(self, max_length: int | None = None):
        if max_length is not None and not isinstance(max_length, int):
            raise ArgumentTypeError(f"max_length is a {type(max_length).__name__}: it must be an integer, or None")
        if max_length is not None and max_length < 1:
            raise Error(f"max_length is {max_length}: it must be at least 1, or None to grow")
        self.max_length = max_length
        self.k: Tensor | None = None
        self.v: Tensor | None = None
        self.leftpad: Tensor | None = None
        self.length = 0
        self._lengths: Tensor | None = None  # only where entries differ

    @property
    def lengths(self) -> Tensor | None:
        if self._lengths is not None or self.k is None:
            return self._lengths
        return torch.full((self.k.shape[0],), self.length, dtype=torch.int32, device=self.k.device)

    def __len__(self) -> int:
        return self.length

    def reserve(self, k: Tensor, v: Tensor) -> None:
        """Room for the rows k (B, new, Hk, D) and v behind those in use; made at the first call."""
        need = self.length + k.shape[1]
        if self.max_length is not None and need > self.max_length:
            raise Error(f"the cache has {self.max_length} rows (max_length), {self.length} are in use and "
                        f"{k.shape[1]} new ones do not fit: make it longer, or without max_length")
        if self.k is None or self.v is None:
            rows = self.max_length or max(64, need)
            self.k = k.new_zeros((k.shape[0], rows, *k.shape[2:]), requires_grad=False)
            self.v = v.new_zeros((v.shape[0], rows, *v.shape[2:]), requires_grad=False)
            return
        for name, new, kept in (("k", k, self.k), ("v", v, self.v)):
            if (new.shape[0], *new.shape[2:]) != (kept.shape[0], *kept.shape[2:]):
                raise Error(f"new {name} has the shape {tuple(new.shape)} and the cache "
                            f"{tuple(kept.shape)}: they must agree but for the second number; a cache "
                            "belongs to one module and one batch (reset() empties it)")
            if new.dtype != kept.dtype:
                raise Error(f"new {name} is {new.dtype} and the cache {kept.dtype}: they must agree "
                            "(reset() empties the cache)")
        if need > self.k.shape[1]:
            more = max(need, 2 * self.k.shape[1]) - self.k.shape[1]
            self.k = torch.cat((self.k, self.k.new_zeros((k.shape[0], more, *k.shape[2:]))), 1)
            self.v = torch.cat((self.v, self.v.new_zeros((v.shape[0], more, *v.shape[2:]))), 1)

    def advance(self, new: int, lengths: Tensor | None = None) -> None:
        """Counts `new` rows in every entry, or lengths[b] of them."""
        if lengths is None:
            self.length += new
            if self._lengths is not None:
                self._lengths = self._lengths + new
            return
        before = self.lengths
        assert before is not None  # reserve was called
        self._lengths = before + lengths.to(torch.int32)
        if self._lengths.is_cuda:  # not read: as if one entry had them all
            self.length += new
            return
        self.length = int(self._lengths.max()) if self._lengths.numel() else 0

    def reset(self) -> None:
        """Empties it and gives the memory back."""
        self.__init__(self.max_length)  # type: ignore[misc]

    def crop(self, length: int) -> None:
        """Forgets all rows from `length` on, in every entry (to take speculated tokens back)."""
        if not 0 <= length <= self.length:
            raise Error(f"crop to {length} rows: the cache has {self.length}")
        if self._lengths is not None:
            self._lengths = self._lengths.clamp(max=length)
        self.length = length

    def reorder(self, index: Tensor) -> None:
        """Entry b becomes what entry index[b] was (beam search); index: integers, any number of them."""
        if self.k is None or self.v is None:
            raise Error("reorder of a cache that is empty: there are no entries to take")
        index = index.long()
        if index.dim() != 1 or (index.numel() and not index.is_cuda and not 0 <= int(index.min()) <= int(index.max())
                                < self.k.shape[0]):
            what = f"a tensor of the shape {tuple(index.shape)}" if index.is_cuda else index.tolist()
            raise Error(f"reorder by {what}: it must be a list of numbers from 0 to "
                        f"{self.k.shape[0] - 1}")
        self.k, self.v = self.k[index], self.v[index]
        if self._lengths is not None:
            self._lengths = self._lengths[index]
        if self.leftpad is not None:
            self.leftpad = self.leftpad[index]
