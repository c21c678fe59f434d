"""heed.nn: attention with its projections as PyTorch modules.

* ``MultiHeadAttention``, and its names ``MultiQueryAttention``, ``GroupedQueryAttention``
* ``KVCache``: keys and values of a sequence that is decoded step by step
* ``replace``, ``restore``: ``torch.nn.MultiheadAttention`` in a model computes with heed, and back
* ``convert_state_dict``, ``from_torch``, ``to_torch``: weights of other modules, and for them
* ``rotary_tables``, ``apply_rotary``, ``alibi_slopes``: positions

Needs PyTorch. Errors are heed.Error (a ValueError and a RuntimeError), in sentences.
"""

from ._positions import alibi_slopes, apply_rotary, rotary_tables
from .attention import GroupedQueryAttention, MultiHeadAttention, MultiQueryAttention
from .cache import KVCache
from .convert import convert_state_dict, from_torch, to_torch
from .replace import MultiheadAttention, replace, restore

__all__ = [
    "GroupedQueryAttention",
    "KVCache",
    "MultiHeadAttention",
    "MultiQueryAttention",
    "MultiheadAttention",
    "alibi_slopes",
    "apply_rotary",
    "convert_state_dict",
    "from_torch",
    "replace",
    "restore",
    "rotary_tables",
    "to_torch",
]
