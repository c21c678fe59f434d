# generation.py: what MHA keeps between the steps of a generation, in the names of
# flash_attn.utils.generation. Not here: sampling and generation themselves.
"""The state of a generation, shared by the layers of a model."""
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class InferenceParams:
    """max_seqlen, max_batch_size: sizes of the caches. seqlen_offset: rows in use, the caller counts them
    up. batch_size_offset: the first slot of this batch. key_value_memory_dict: layer_idx → cache (batch,
    rows, 2, Hk, D). lengths_per_sample: int32 (B,), in place of seqlen_offset where entries differ."""

    max_seqlen: int
    max_batch_size: int
    seqlen_offset: int = 0
    batch_size_offset: int = 0
    key_value_memory_dict: dict = field(default_factory=dict)
    lengths_per_sample: Tensor | None = None

    def reset(self, max_seqlen: int | Tensor, max_batch_size) -> None:
        """Begins anew; caches stay allocated."""
        self.max_seqlen, self.max_batch_size, self.seqlen_offset = max_seqlen, max_batch_size, 0
        if self.lengths_per_sample is not None:
            self.lengths_per_sample.zero_()
