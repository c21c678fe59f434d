# _attention.py: the attention function that transformers calls. Not here: masks as transformers asks
# for them (_masks.py), registration (_register.py).
from typing import Any

import torch
from torch import Tensor

from heed import Error

from ._engine import attention
from ._inputs import check, join_batches, rows, selected, split_mask, split_sinks
from ._masks import Pattern


def _ragged(q, k, v, cu_q, cu_k, max_q, max_k, causal, window, options):
    """Sequences laid end to end, as transformers flattens them: the batch is part of the tokens."""
    batch, heads, length, _ = q.shape
    flat = [rows(t).flatten(0, 1) for t in (q, k, v)]
    cu_q, cu_k = cu_q.to(torch.int32), cu_k.to(torch.int32)
    if q.is_cuda:  # lengths there are not read: no sequence has more than all tokens
        max_q, max_k = (most.shape[0] if m is None or isinstance(m, Tensor) else m
                        for m, most in ((max_q, flat[0]), (max_k, flat[1])))
    out = attention(*flat, causal=causal, window=window, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k,
                    max_seqlen_q=max_q, max_seqlen_k=max_k, **options)
    if isinstance(out, tuple):
        out, lse = out
        return out.unflatten(0, (batch, length)), lse.reshape(heads, batch, length).transpose(0, 1)
    return out.unflatten(0, (batch, length))


def attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    sinks: Tensor | None = None,
    position_bias: Tensor | None = None,
    cache: Any = None,
    indices: Tensor | None = None,
    block_indices: Tensor | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int | Tensor | None = None,
    max_length_k: int | Tensor | None = None,
    output_attentions: bool = False,
    backend: str | None = None,
    threads: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention as transformers calls it: ``attn_implementation="heed"`` after ``register()``.

    Parameters
    ----------
    module : of the model; its ``is_causal`` holds (True where it has none) unless one is given.
    query, key, value : (B, H, Sq, D), (B, Hk, Sk, D), (B, Hk, Sk, Dv), float32, bfloat16 or float16
        (float64 with ``backend="reference"``), H a multiple of Hk: nothing is repeated or copied.
    attention_mask : bool (True attends) or additive, broadcast to (B, H, Sq, Sk). With one, ``is_causal``
        and ``sliding_window`` have no say: both are in the mask. Without one and with several queries the
        causal triangle is top-left, as a prefill into an empty static cache means it; with one query all
        keys are seen; ``sliding_window`` = w allows w keys, the query's own among them.
    dropout, scaling, softcap : of heed.attention.
    s_aux, sinks : (H,), or any shape of so many elements; (B, H, Sq, 1) gives each query its own.
    position_bias : added to the scores, (B|1, H|1, Sq|1, Sk|1), differentiable.
    cache : transformers' paged cache, where continuous batching hands one in; it is updated here.
    indices : (B, Sq, n), the only keys that a model's indexer allows.
    cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k : sequences laid end to end, where there is
        no mask.
    output_attentions : also the probabilities, (B, H, Sq, Sk) without gradient, after dropout.
    backend, threads : of heed.attention; set by ``register``.
    kwargs : what transformers hands to every attention and none needs: position_ids, use_cache.

    Returns
    -------
    ((B, Sq, H, Dv) contiguous, probabilities or None)

    Raises
    ------
    heed.Error with a sentence.

    Notes
    -----
    The signature is that of transformers' attention interface; the semantics are those of its sdpa and
    eager functions where they differ from flash-attn's, save that a row without any key gives 0.
    """
    if block_indices is not None:
        raise Error("block_indices are given, and without the model's own mask of them: register heed as "
                    "'sdpa' (heed.transformers.register('sdpa')), then the model puts them into the mask")
    if cache is not None:  # it reads and changes what it is handed, by name
        handed = kwargs | {"cu_seq_lens_q": cu_seq_lens_q, "cu_seq_lens_k": cu_seq_lens_k,
                           "max_length_q": max_length_q, "max_length_k": max_length_k}
        key, value = cache.update(key_states=key, value_states=value,
                                  layer_idx=module.layer_idx, kwargs=handed)
        cu_seq_lens_k, max_length_k = handed["cu_seq_lens_k"], handed["max_length_k"]
        if handed.get("block_table") is not None:
            raise Error("the paged cache hands out a block_table, as for flash-attn: ask for its "
                        "index-based update")
    sinks = s_aux if s_aux is not None else sinks
    check(query=query, key=key, value=value, attention_mask=attention_mask, position_bias=position_bias,
          s_aux=sinks, indices=indices, cu_seq_lens_q=cu_seq_lens_q, cu_seq_lens_k=cu_seq_lens_k)
    query, key, value = join_batches(query, key, value)
    queries, keys = query.shape[2], key.shape[2]
    options: dict[str, Any] = {"scale": scaling, "softcap": softcap or 0.0, "dropout_p": dropout,
                               "backend": backend, "threads": threads}
    options["sinks"], query_sinks = split_sinks(sinks, query)
    per_query = query_sinks is not None

    if isinstance(attention_mask, Pattern):
        if indices is None and position_bias is None and not output_attentions and not per_query:
            return attention_mask.attend(rows(query), rows(key), rows(value), options), None
        attention_mask = attention_mask.dense()
    options["return_lse"] = per_query

    causal = queries > 1 and attention_mask is None and bool(
        is_causal if is_causal is not None else getattr(module, "is_causal", True))
    window = (-1, -1)
    if attention_mask is None and sliding_window is not None and keys > sliding_window:
        if sliding_window < 1:
            raise Error(f"sliding_window is {sliding_window}: it must be 1 (the query's own key) or more, "
                        "or None")
        window = (sliding_window - 1, 0 if causal else sliding_window - 1)

    if attention_mask is None and (cu_seq_lens_q is None) != (cu_seq_lens_k is None):
        missing = "cu_seq_lens_q" if cu_seq_lens_q is None else "cu_seq_lens_k"
        raise Error(f"{missing} is None and its counterpart is given: sequences laid end to end need both")
    if attention_mask is None and cu_seq_lens_q is not None:
        if position_bias is not None or indices is not None or output_attentions:
            raise Error("cu_seq_lens_q and cu_seq_lens_k are given together with position_bias, indices or "
                        "output_attentions, which count positions in the whole row: give attention_mask "
                        "instead")
        result = _ragged(query, key, value, cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k,
                         causal, window, options)
        return _finish(result, query_sinks)

    mask, bias = split_mask(attention_mask, position_bias, query, keys)
    if indices is not None:
        mask = selected(indices, mask, query, key)
    # Several queries count from the first key; one alone stands at the last.
    align = "top_left" if causal or queries > 1 else "bottom_right"
    result = attention(rows(query), rows(key), rows(value), causal=causal, align=align,
                            window=window, mask=mask, bias=bias, return_probs=output_attentions, **options)
    probs = None
    if output_attentions:
        *result, probs = result
        result = tuple(result) if per_query else result[0]
        probs = probs.clamp(min=0).div_(1 - dropout) if dropout else probs
        if per_query:
            probs = probs * torch.sigmoid(result[1].unsqueeze(-1) - query_sinks)
    return _finish(result, query_sinks, probs)


def _finish(result, sinks: Tensor | None, probs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """A sink of each query's own scales its row: exp(lse) / (exp(lse) + exp(sink))."""
    if sinks is None:
        return result, probs
    out, lse = result
    share = torch.sigmoid(lse.unsqueeze(-1) - sinks.float())  # (B, H, Sq, 1)
    return (out * share.transpose(1, 2)).to(out.dtype), probs
