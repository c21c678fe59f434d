# _words.py: heed's sentences in the words of functions that have other names for its arguments: one table
# for each of the APIs that are imitated. Not here: the library's own words (core/sentences.cpp).
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ._core import Error

Function = TypeVar("Function", bound=Callable[..., Any])

FLASH_ATTN = {"scale": "softmax_scale", "window": "window_size", "k_new": "k", "v_new": "v",
              "key_lengths": "seqused_k", "return_lse": "return_softmax_lse",
              "return_probs": "return_attn_probs"}
# Of its functions of packed tensors, (B, S, 2 | 3, H, D) and ragged (T, 2 | 3, H, D).
KV_PACKED = {"k": "kv[:, :, 0]", "v": "kv[:, :, 1]"}
QKV_PACKED = {"q": "qkv[:, :, 0]", "k": "qkv[:, :, 1]", "v": "qkv[:, :, 2]"}
RAGGED_KV_PACKED = {"k": "kv[:, 0]", "v": "kv[:, 1]"}
RAGGED_QKV_PACKED = {"q": "qkv[:, 0]", "k": "qkv[:, 1]", "v": "qkv[:, 2]", "cu_seqlens_q": "cu_seqlens",
                     "cu_seqlens_k": "cu_seqlens", "max_seqlen_q": "max_seqlen", "max_seqlen_k": "max_seqlen"}
FLASH_ATTN_PRIVATE = {"window_size": "(window_size_left, window_size_right)", "o": "out", "lse": "softmax_lse"}
FLASH_ATTN_PADDED = FLASH_ATTN | {"mask": "key_padding_mask"}  # of flash-attn's modules
FLASH_ATTN_SINKS = FLASH_ATTN | {"sinks": "s_aux"}  # as transformers calls flash-attn
FLASH_ATTN_3 = FLASH_ATTN_SINKS | {"chunk": "attention_chunk", "block_table": "page_table"}
SDPA = {"q": "query", "k": "key", "v": "value", "causal": "is_causal", "bias": "attn_mask", "mask": "attn_mask",
        "dout": "grad_out", "o": "out", "lse": "logsumexp"}
TRANSFORMERS = {"q": "query", "k": "key", "v": "value", "scale": "scaling", "causal": "is_causal",
                "dropout_p": "dropout", "window": "sliding_window", "mask": "attention_mask",
                "bias": "position_bias", "sinks": "s_aux", "cu_seqlens_q": "cu_seq_lens_q",
                "cu_seqlens_k": "cu_seq_lens_k", "max_seqlen_q": "max_length_q", "max_seqlen_k": "max_length_k",
                "return_probs": "output_attentions"}
NN = {"q": "query", "k": "key", "v": "value", "dropout_p": "dropout", "bias": "attn_mask", "mask": "attn_mask",
      "alibi_slopes": "alibi", "k_cache": "cache.k", "v_cache": "cache.v", "k_new": "key", "v_new": "value",
      "cache_seqlens": "cache.lengths", "cache_leftpad": "cache.leftpad", "return_probs": "need_weights"}


def translated(sentence: str, words: Mapping[str, str]) -> str:
    """The sentence with the words' names for arguments. "a mask" and "a bias" are things, not names; what
    stands in quotes, or behind a dot, is what somebody gave."""
    names = "|".join(map(re.escape, words))
    return re.sub(rf"(?<![\w.'\"])(?<!\ba )({names})(?![\w\"])", lambda m: words[m[0]], sentence)


def spoken(words: Mapping[str, str]) -> Callable[[Function], Function]:
    """A decorator: errors of the function say the words' names for its arguments."""

    def decorate(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            try:
                return function(*args, **kwargs)
            except Error as error:
                raise type(error)(translated(str(error), words)) from None
        return call

    return decorate
