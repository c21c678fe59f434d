# _inner.py: the attentions inside MHA, without parameters, and the slopes of ALiBi. Not here: projections,
# rotation and the cache (mha.py).
import math
from typing import Any

import torch
from torch import Tensor, nn

from ... import _api
from ..._core import Error
from ..._words import FLASH_ATTN_PADDED, spoken
from .._call import Window, bounds, unpack
from ..flash_attn_interface import (
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
)


def get_alibi_slopes(nheads: int) -> list[float]:
    """The slopes of ALiBi (Press et al. 2022): 2^(−8/n), 2^(−16/n), … for n a power of two; otherwise
    those of the power below, then every other one of the power above."""
    below = 2 ** math.floor(math.log2(nheads))

    def geometric(n):
        return [2.0 ** (-8.0 * (i + 1) / n) for i in range(n)]
    return geometric(below) + geometric(2 * below)[::2][:nheads - below]


def _padded(q, k, v, key_padding_mask, options):
    if key_padding_mask.dtype != torch.bool or key_padding_mask.shape != (k.shape[0], k.shape[1]):
        raise Error(f"key_padding_mask is {key_padding_mask.dtype} {tuple(key_padding_mask.shape)}: it "
                    f"must be bool {(k.shape[0], k.shape[1])}, True = a token")
    return spoken(FLASH_ATTN_PADDED)(_api.attention)(q, k, v, mask=key_padding_mask[:, None, None, :], scale=options["softmax_scale"],
                     causal=options["causal"], window=bounds(options["window_size"]),
                     alibi_slopes=options["alibi_slopes"], dropout_p=options["dropout_p"])


class _Inner(nn.Module):
    def __init__(self, causal: bool = False, softmax_scale: float | None = None,
                 attention_dropout: float = 0.0, window_size: Window = (-1, -1),
                 alibi_slopes: Tensor | None = None, deterministic: bool = False) -> None:
        super().__init__()
        self.causal, self.softmax_scale = causal, softmax_scale
        self.drop = nn.Dropout(attention_dropout)
        self.register_buffer("alibi_slopes", alibi_slopes, persistent=False)
        self.window_size, self.deterministic = window_size, deterministic

    def _options(self, causal):
        return dict(dropout_p=self.drop.p if self.training else 0.0, softmax_scale=self.softmax_scale,
                    causal=self.causal if causal is None else causal, window_size=self.window_size,
                    alibi_slopes=None if self.alibi_slopes is None else self.alibi_slopes.float(),
                    deterministic=self.deterministic)


class FlashSelfAttention(_Inner):
    """Attention of packed qkv, (B, S, 3, H, D), or (T, 3, H, D) with cu_seqlens and max_seqlen."""

    def forward(self, qkv: Tensor, causal: bool | None = None, cu_seqlens: Tensor | None = None,
                max_seqlen: int | Tensor | None = None, key_padding_mask: Tensor | None = None) -> Any:
        """key_padding_mask : bool (B, S), True = a token. Returns (B, S, H, D) or (T, H, D)."""
        options = self._options(causal)
        if key_padding_mask is not None:
            return _padded(*unpack("qkv", qkv, 3, 5), key_padding_mask, options)
        if cu_seqlens is not None:
            return flash_attn_varlen_qkvpacked_func(qkv, cu_seqlens, max_seqlen, **options)
        return flash_attn_qkvpacked_func(qkv, **options)


class FlashCrossAttention(_Inner):
    """Attention of q (B, Sq, H, D) and packed kv (B, Sk, 2, Hk, D), or ragged (T, …) with cu_seqlens,
    max_seqlen, cu_seqlens_k and max_seqlen_k."""

    def __init__(self, causal: bool = False, softmax_scale: float | None = None,
                 attention_dropout: float = 0.0, alibi_slopes: Tensor | None = None,
                 window_size: Window = (-1, -1), deterministic: bool = False) -> None:
        super().__init__(causal, softmax_scale, attention_dropout, window_size, alibi_slopes, deterministic)

    def forward(self, q: Tensor, kv: Tensor, causal: bool | None = None, cu_seqlens: Tensor | None = None,
                max_seqlen: int | Tensor | None = None, cu_seqlens_k: Tensor | None = None,
                max_seqlen_k: int | Tensor | None = None, key_padding_mask: Tensor | None = None) -> Any:
        """key_padding_mask : bool (B, Sk), True = a token. Returns (B, Sq, H, D) or (T, H, D)."""
        options = self._options(causal)
        if key_padding_mask is not None:
            return _padded(q, *unpack("kv", kv, 2, 5), key_padding_mask, options)
        if cu_seqlens is not None:
            if cu_seqlens_k is None or max_seqlen_k is None:
                raise Error("cu_seqlens is given without cu_seqlens_k and max_seqlen_k: ragged keys need "
                            "both")
            return flash_attn_varlen_kvpacked_func(q, kv, cu_seqlens, cu_seqlens_k, max_seqlen, max_seqlen_k,
                                                   **options)
        return flash_attn_kvpacked_func(q, kv, **options)


class SelfAttention(FlashSelfAttention):
    """FlashSelfAttention with the arguments of flash-attn's module in plain PyTorch."""

    def __init__(self, causal: bool = False, softmax_scale: float | None = None,
                 attention_dropout: float = 0.0) -> None:
        super().__init__(causal, softmax_scale, attention_dropout)

    def forward(self, qkv: Tensor, causal: bool | None = None,
                key_padding_mask: Tensor | None = None) -> Any:
        """qkv (B, S, 3, H, D), key_padding_mask bool (B, S), True = a token."""
        return super().forward(qkv, causal, key_padding_mask=key_padding_mask)


class CrossAttention(FlashCrossAttention):
    """FlashCrossAttention with the arguments of flash-attn's module in plain PyTorch."""

    def __init__(self, causal: bool = False, softmax_scale: float | None = None,
                 attention_dropout: float = 0.0) -> None:
        super().__init__(causal, softmax_scale, attention_dropout)

    def forward(self, q: Tensor, kv: Tensor, causal: bool | None = None,
                key_padding_mask: Tensor | None = None) -> Any:
        """q (B, Sq, H, D), kv (B, Sk, 2, Hk, D), key_padding_mask bool (B, Sk), True = a token."""
        return super().forward(q, kv, causal, key_padding_mask=key_padding_mask)
