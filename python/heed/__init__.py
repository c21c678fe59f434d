"""heed: exact attention in linear memory, on any CPU, and on GPUs in a build with CUDA kernels.

``heed.attention(q, k, v, causal=True)`` computes on NumPy arrays, PyTorch tensors (with gradients)
and JAX arrays, and returns what it was given. Everything else is an option of it or stands beside it:

* ``attention``, ``attention_backward``: every option of the contract, docs/semantics.md
* ``decode``: attention against a key/value cache, rows or pages
* ``merge``: partial results over disjoint keys become one
* ``explain``: how a call would be computed, and who refuses it
* ``show_config``: what this build and this machine offer
"""

import sys as _sys

from ._api import attention, attention_backward, decode, explain, merge
from ._config import show_config
from ._core import ArgumentTypeError, Error, Plan
from ._core import version as _version

__version__ = _version()
for _type in (Error, ArgumentTypeError, Plan):
    _type.__module__ = "heed"  # by this name they are caught, printed and pickled

__all__ = [
    "ArgumentTypeError",
    "Error",
    "Plan",
    "__version__",
    "attention",
    "attention_backward",
    "decode",
    "explain",
    "merge",
    "show_config",
]

if hasattr(getattr(_sys.modules.get("torch"), "library", None), "register_vmap"):  # PyTorch 2.5 and later
    # So that torch.compile finds the operators defined when it first looks at a call.
    from . import _torch as _torch
