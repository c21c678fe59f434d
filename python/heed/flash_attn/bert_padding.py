# bert_padding.py: between padded batches and ragged ones, in the names of flash_attn.bert_padding. All
# are compositions of PyTorch's operators and differentiable. Not here: attention.
"""Padded batches (B, S, …) to packed rows (T, …) and back."""
import torch
from torch import Tensor

from .._core import Error

__all__ = [
    "index_first_axis",
    "index_first_axis_residual",
    "index_put_first_axis",
    "pad_input",
    "unpad_input",
    "unpad_input_for_concatenated_sequences",
]


def index_first_axis(input: Tensor, indices: Tensor) -> Tensor:
    """The rows of input (N, …) that indices (M,) name: (M, …)."""
    return input.index_select(0, indices)


def index_first_axis_residual(input: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """index_first_axis, and input without gradient."""
    return index_first_axis(input, indices), input.detach()


def index_put_first_axis(values: Tensor, indices: Tensor, first_axis_dim: int) -> Tensor:
    """values (M, …) at the rows indices (M,) of zeros (first_axis_dim, …)."""
    zeros = values.new_zeros((first_axis_dim, *values.shape[1:]))
    return zeros.index_copy(0, indices, values)


def _check_mask(name, mask, hidden_states):
    if mask.dim() != 2 or mask.shape != hidden_states.shape[:2]:
        raise Error(f"{name} has the shape {tuple(mask.shape)}: it must be {tuple(hidden_states.shape[:2])}, "
                    "the first two axes of hidden_states")


def _ends(lengths):
    return torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))


def _longest(lengths):
    return int(lengths.max()) if lengths.numel() else 0


def unpad_input(hidden_states: Tensor, attention_mask: Tensor,
                unused_mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, int, Tensor]:
    """Drops the padding of a batch.

    Parameters
    ----------
    hidden_states : (B, S, …)
    attention_mask : (B, S), bool or integer, 1 = a token.
    unused_mask : (B, S): tokens that are kept in their places and yet not counted as used.

    Returns
    -------
    (rows (T, …), indices (T,) of the rows among B · S, cu_seqlens int32 (B + 1,), the longest length as
    an int, used lengths int32 (B,)).
    """
    _check_mask("attention_mask", attention_mask, hidden_states)
    kept = attention_mask
    if unused_mask is not None:
        _check_mask("unused_mask", unused_mask, hidden_states)
        kept = attention_mask + unused_mask
    lengths = kept.sum(-1, dtype=torch.int32)
    indices = kept.flatten().nonzero().flatten()
    return (index_first_axis(hidden_states.flatten(0, 1), indices), indices, _ends(lengths),
            _longest(lengths), attention_mask.sum(-1, dtype=torch.int32))


def unpad_input_for_concatenated_sequences(hidden_states: Tensor,
                                           attention_mask_in_length: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """unpad_input for rows that hold several sequences one after the other.

    attention_mask_in_length : (B, S) integers: the lengths of a row's sequences, then zeros.

    Returns
    -------
    (rows (T, …), indices (T,), cu_seqlens int32, one entry for each sequence, the longest length).
    """
    _check_mask("attention_mask_in_length", attention_mask_in_length, hidden_states)
    filled = attention_mask_in_length.sum(-1, keepdim=True)
    seqlen = hidden_states.shape[1]
    if filled.numel() and int(filled.max()) > seqlen:
        raise Error(f"attention_mask_in_length has a row of {int(filled.max())} tokens in all: a row of "
                    f"hidden_states holds {seqlen}")
    places = torch.arange(seqlen, device=filled.device) < filled
    indices = places.flatten().nonzero().flatten()
    lengths = attention_mask_in_length.flatten()
    lengths = lengths[lengths > 0].to(torch.int32)
    return (index_first_axis(hidden_states.flatten(0, 1), indices), indices, _ends(lengths),
            _longest(lengths))


def pad_input(hidden_states: Tensor, indices: Tensor, batch: int, seqlen: int) -> Tensor:
    """The way back: rows (T, …) to (batch, seqlen, …), zeros where no row goes."""
    return index_put_first_axis(hidden_states, indices, batch * seqlen).unflatten(0, (batch, seqlen))
