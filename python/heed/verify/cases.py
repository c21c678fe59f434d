# verify/cases.py: the sample of problems, as NumPy arrays in float64. Not here: how they are run
# (_check.py), what is near enough (bounds.py).
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Case:
    """One problem. `data` is cast to the dtype that is checked; `options` go as they are."""

    name: str
    kind: str  # "attention" or "decode"
    data: dict[str, np.ndarray]
    options: dict[str, Any] = field(default_factory=dict)
    backward: bool = True


BATCH, HEADS, KV_HEADS = 2, 4, 2


def _tensors(rng, sq, sk, d, dv, heads=HEADS, kv_heads=KV_HEADS):
    shapes = {"q": (BATCH, sq, heads, d), "k": (BATCH, sk, kv_heads, d), "v": (BATCH, sk, kv_heads, dv),
              "dout": (BATCH, sq, heads, dv)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def _options(rng, sq, sk):
    f32 = np.float32
    yield "full", {}
    yield "causal", {"causal": True}
    yield "causal from the first key", {"causal": True, "align": "top_left"}
    yield "window", {"window": (20, 3)}
    yield "causal window, first keys seen", {"causal": True, "window": (30, 0), "prefix": 5}
    yield "chunks", {"causal": True, "chunk": 32}
    yield "softcap", {"softcap": 2.0, "causal": True}
    yield "scale", {"scale": -0.3}
    yield "ALiBi", {"alibi_slopes": rng.uniform(0.01, 0.5, HEADS).astype(f32), "causal": True}
    yield "bias", {"bias": rng.standard_normal((1, HEADS, sq, sk)).astype(f32)}
    yield "mask", {"mask": rng.random((BATCH, 1, sq, sk)) < 0.6}
    yield "block map", {"block_map": rng.random((1, HEADS, -(-sq // 16), -(-sk // 32))) < 0.6,
                        "block_size": (16, 32)}
    yield "sinks", {"sinks": rng.standard_normal(HEADS).astype(f32), "causal": True}
    yield "key lengths", {"key_lengths": np.array([sk, sk // 3], np.int32), "causal": True}
    yield "dropout", {"dropout_p": 0.25, "seed": 11, "offset": 5}
    yield "query offsets", {"causal": True, "query_offset": np.array([7, -3], np.int32)}


def attention() -> Iterator[Case]:
    rng = np.random.default_rng(7)
    for sq, sk, d, dv in ((37, 70, 40, 40), (160, 160, 64, 48)):
        for name, options in _options(rng, sq, sk):
            yield Case(f"{name}, {sq} x {sk}", "attention", _tensors(rng, sq, sk, d, dv), options)
    yield Case("one head of 128, 300 x 300", "attention", _tensors(rng, 300, 300, 128, 128, 1, 1),
               {"causal": True})
    ends_q, ends_k = np.array([0, 30, 30, 75], np.int32), np.array([0, 50, 60, 75], np.int32)
    ragged = {name: rng.standard_normal((75, heads, 32)) for name, heads in
              (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS), ("dout", HEADS))}
    yield Case("ragged batch", "attention", ragged,
               {"cu_seqlens_q": ends_q, "cu_seqlens_k": ends_k, "causal": True})


def decode() -> Iterator[Case]:
    rng = np.random.default_rng(8)

    def tensors(slots, rows, sq, new=0, d=64):
        data = {"q": (BATCH, sq, HEADS, d), "k_cache": (slots, rows, KV_HEADS, d),
                "v_cache": (slots, rows, KV_HEADS, d)}
        if new:
            data |= {"k_new": (BATCH, new, KV_HEADS, d), "v_new": (BATCH, new, KV_HEADS, d)}
        return {name: rng.standard_normal(shape) for name, shape in data.items()}

    lengths = np.array([120, 33], np.int32)
    yield Case("cache, 1 query", "decode", tensors(BATCH, 200, 1), {"cache_seqlens": lengths})
    yield Case("cache, new rows, causal window", "decode", tensors(BATCH, 200, 3, 3),
               {"cache_seqlens": lengths, "causal": True, "window": (40, 0)})
    angles = np.outer(np.arange(256), 100.0 ** (-np.arange(16) / 16))
    turned = tensors(BATCH, 200, 2, 2) | {"rotary_cos": np.cos(angles), "rotary_sin": np.sin(angles)}
    yield Case("cache, rotary embedding", "decode", turned, {"cache_seqlens": lengths, "causal": True})
    yield Case("cache, slots and padding", "decode", tensors(4, 150, 1),
               {"cache_seqlens": lengths, "cache_batch_idx": np.array([3, 1], np.int32),
                "cache_leftpad": np.array([10, 0], np.int32), "softcap": 3.0})
    yield Case("cache of pages", "decode", tensors(9, 32, 1),
               {"cache_seqlens": lengths,
                "block_table": np.array([[3, 7, 0, 5], [8, 1, 2, 4]], np.int32)})
