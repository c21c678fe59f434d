"""heed under Hugging Face's transformers.

``register()`` makes ``attn_implementation="heed"`` an attention of every model that has transformers'
attention interface. ``kernel_folder()`` writes a folder that lets ``"flash_attention_2"`` resolve to
heed through the ``kernels`` package, offline.

Needs ``transformers`` (5.x, PyPI) and PyTorch. ``import heed`` needs neither.
"""

from ._attention import attention_forward
from ._demo import demo
from ._kernel import kernel_folder
from ._masks import attention_mask
from ._register import Registration, register

__all__ = ["Registration", "attention_forward", "attention_mask", "demo", "kernel_folder", "register"]
