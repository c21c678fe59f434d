"""flash-attn 2.8's functions on heed: same names, signatures and results, on the CPU, forward and backward.

``from heed.flash_attn import flash_attn_func``, or ``heed.flash_attn.install()`` and then the imports that
a program already has: ``from flash_attn import flash_attn_func``. Its modules bert_padding,
layers.rotary, modules.mha and utils.generation stand beside it; ``heed.flash_attn.flash_attn_3`` has
flash-attn 3's signatures. Needs PyTorch. Differences: docs/flash_attn.md.
"""
from ._install import VERSION as __version__
from ._install import install, uninstall
from .flash_attn_interface import (
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
    flash_attn_with_kvcache,
)

__all__ = [
    "__version__",
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
    "install",
    "uninstall",
]
