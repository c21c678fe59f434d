# _masks.py: the mask function that transformers calls: its own bool mask where that is small, else a
# tensor that only says its pattern and becomes the mask when anyone but heed looks at it. Not here: how
# a pattern is read from transformers' mask functions (_patterns.py).
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ._engine import attention
from ._patterns import Geometry, recognize

# Below so many pairs of a query and a key a mask is made in less time than a pattern is found.
SMALL = 1 << 20


class Pattern(Tensor):
    """A bool mask (B, 1, Sq, Sk) kept as geometry: memory of Sq + Sk, not Sq · Sk.

    heed reads the geometry. Every other operation of PyTorch on it makes the mask first, once.
    """

    @staticmethod
    def __new__(cls, shape, device, geometry, make):
        return Tensor._make_wrapper_subclass(
            cls, shape, dtype=torch.bool, device=device, requires_grad=False)

    def __init__(self, shape: tuple[int, ...], device: Any,
                 geometry: Geometry, make: Callable[[], Tensor]):
        self.geometry = geometry
        self._make = make
        self._made: Tensor | None = None

    def dense(self) -> Tensor:
        """The mask itself, True where a query attends."""
        if self._made is None:
            self._made = self._make()
        return self._made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        def look(x):
            return x.dense() if isinstance(x, Pattern) else x

        return func(*tree_map(look, args), **tree_map(look, kwargs or {}))

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"heed.transformers.Pattern({tuple(self.shape)}, {self.geometry})"

    def __reduce_ex__(self, protocol):
        return self.dense().__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        return self.dense().clone()

    def attend(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        """heed.attention of (B, S, H, D) tensors under this mask; ``options`` without geometry."""
        g = self.geometry
        options = options | {"window": (g.left, g.right), "chunk": g.chunk}
        if g.cu_seqlens is None:
            return attention(q, k, v, align="offset", query_offset=g.offset, key_lengths=g.key_lengths,
                                  **options)
        batch, length = q.shape[:2]
        tokens = [t.flatten(0, 1) for t in (q, k, v)]
        if g.tokens is not None:
            tokens = [t.index_select(0, g.tokens) for t in tokens]
        out = attention(*tokens, cu_seqlens_q=g.cu_seqlens, cu_seqlens_k=g.cu_seqlens,
                             max_seqlen_q=g.longest, max_seqlen_k=g.longest, **options)
        if g.tokens is not None:  # what nobody sees sees nothing
            out = out.new_zeros((batch * length, *out.shape[1:])).index_copy(0, g.tokens, out)
        return out.unflatten(0, (batch, length))


class _WouldBeMade(Exception):
    pass


def _probe(*_):
    raise _WouldBeMade


def attention_mask(*, patterns: bool = True, **arguments: Any) -> Tensor | None:
    """The mask of a forward pass, as transformers asks for it; every layer gets the same one.

    Parameters
    ----------
    patterns : False makes the mask itself, whatever its size.
    arguments : batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask,
        local_size, allow_is_causal_skip, allow_is_bidirectional_skip, use_vmap, device, … as transformers
        gives them.

    Returns
    -------
    None where causal or full attention says it all; a bool tensor (B, 1, Sq, Sk), True where a query
    attends, from transformers' own ``sdpa_mask``; or from 2^20 pairs on a ``Pattern``, where the mask
    function is known to be causal, sliding, chunked, or packed, with or without padding, and nothing is
    being traced.
    """
    from transformers.masking_utils import sdpa_mask

    if not patterns or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return sdpa_mask(**arguments)
    if arguments.get("q_length", 0) * arguments["kv_length"] < SMALL:
        return sdpa_mask(**arguments)
    try:
        return sdpa_mask(**(arguments | {"mask_function": _probe}))  # None, where none is needed
    except _WouldBeMade:
        pass
    geometry = recognize(arguments)
    if geometry is None:
        return sdpa_mask(**arguments)
    shape = (arguments["batch_size"], 1, arguments["q_length"], arguments["kv_length"])
    return Pattern(shape, arguments.get("device", "cpu"), geometry, lambda: sdpa_mask(**arguments))
