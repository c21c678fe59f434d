"""heed.sdpa: PyTorch's scaled_dot_product_attention, computed by heed.

* ``scaled_dot_product_attention``: the signature and semantics of ``torch.nn.functional``'s
* ``backends``: which of heed's backends may serve, in the manner of ``torch.nn.attention.sdpa_kernel``
* ``can_use``, ``reasons``: who would serve a call, and every reason of those who would not
* ``override_torch``: PyTorch's own function computes with heed

Needs PyTorch. The page docs/sdpa.md says it with examples.
"""

from ._backends import Backend, backends, current_backends
from ._call import scaled_dot_product_attention
from ._inquiry import can_use, reasons
from ._override import Override, override_torch

__all__ = [
    "Backend",
    "Override",
    "backends",
    "can_use",
    "current_backends",
    "override_torch",
    "reasons",
    "scaled_dot_product_attention",
]
