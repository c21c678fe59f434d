# _api.py: the functions of heed, for arrays of every library. Not here: PyTorch's operators and
# gradients (_torch.py), how arrays are read (the extension _core).
import os
import sys
from typing import Any

from numpy import ndarray as _ndarray

from . import _core

Array = Any  # a NumPy array, a PyTorch tensor or a JAX array

_torch = None  # the module heed._torch, once PyTorch is there


def _find_torch(array):
    """heed._torch if PyTorch is imported and may own this array, else None. PyTorch is never imported from
    here."""
    global _torch
    if _torch is None and type(array) is not _ndarray and hasattr(sys.modules.get("torch"), "Tensor"):
        from . import _torch as found
        _torch = found
        return found  # not by its new name: older compilers of PyTorch's would see the old value
    return _torch


def _is_jax(array):
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(array, jax.Array)


def _draw_seed():
    # From the system for every call: a generator kept here would repeat itself after a fork.
    return int.from_bytes(os.urandom(8), "little")


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    align: str = "bottom_right",
    query_offset: int | Array | None = None,
    window: tuple[int, int] | None = (-1, -1),
    prefix: int = 0,
    chunk: int = 0,
    softcap: float = 0.0,
    alibi_slopes: Array | None = None,
    bias: Array | None = None,
    mask: Array | None = None,
    block_map: Array | None = None,
    block_size: tuple[int, int] | None = None,
    sinks: Array | None = None,
    key_lengths: Array | None = None,
    cu_seqlens_q: Array | None = None,
    cu_seqlens_k: Array | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    offset: int = 0,
    return_lse: bool = False,
    return_probs: bool = False,
    backend: str | None = None,
    threads: int | None = None,
) -> Any:
    """Exact attention, softmax(scale · q kᵀ + …) v, without a matrix of queries by keys in memory.

    The score of query i and key j is, in this order: ``scale`` · (q·k); softcap; ALiBi; ``bias``; −∞
    where ``mask`` or ``block_map`` is False or the geometry hides the key. A row that sees nothing
    gives 0 and lse −∞.

    Parameters
    ----------
    q : (B, Sq, H, D), or (T, H, D) with ``cu_seqlens_q``
        float32, bfloat16, float16; float64 with ``backend="reference"``. Any strides whose last is
        1, nothing is copied. NumPy arrays (bfloat16 by ``ml_dtypes``), PyTorch tensors on the CPU,
        JAX arrays on the CPU; all arguments of one library.
    k : (B, Sk, Hk, D), or (T, Hk, D)
        H is a multiple of Hk: query head h reads head h // (H // Hk).
    v : (B, Sk, Hk, Dv), or (T, Hk, Dv)
    scale : factor of q·k, any finite number; 1/√D by default.
    causal : a query sees keys up to its own position i + shift.
    align : "bottom_right", "top_left" or "offset"
        shift = Sk − Sq, 0, or ``query_offset``. (PyTorch's ``is_causal`` is "top_left".)
    query_offset : the position of query 0 among the keys: an integer, or int32 (B,). May be negative.
    window : (left, right): key j is seen iff −left ≤ j − (i + shift) ≤ right; −1 is no bound.
    prefix : keys below it are seen whatever causal, window and chunk say.
    chunk : > 0: only keys of the query's own chunk of so many positions.
    softcap : > 0: s ← softcap · tanh(s / softcap).
    alibi_slopes : float32 (H,) or (B, H): s ← s − slope · |i + shift − j|.
    bias : added to s; float32 or the dtype of q; (B|1, H|1, Sq|1, Sk|1), any strides, axes missing on
        the left count as 1.
    mask : bool, shapes as ``bias``, True where a query attends.
    block_map, block_size : bool (B|1, H|1, ⌈Sq/rows⌉, ⌈Sk/cols⌉) and (rows, cols): False hides a block.
    sinks : float32 (H,): exp(sink) joins the sum of a row, and nothing else.
    key_lengths : int32 (B,): how many keys of each entry exist.
    cu_seqlens_q, cu_seqlens_k : int32 (B + 1,): ragged batches, the ends of the sequences after a 0.
        Bias, mask and block map are then indexed within the sequence.
    max_seqlen_q, max_seqlen_k : the longest sequences; found from ``cu_seqlens`` by default, but not on a
        device, where nothing waits to read them.
    dropout_p : probability of dropping, in [0, 1). Probabilities that stay are divided by 1 − dropout_p.
    seed, offset : of dropout, from 0 to 2**64 − 1. ``None``: drawn, with PyTorch from its default
        generator, of the device where tensors are CUDA's (so that ``torch.manual_seed`` repeats it), else from
        the system.
    return_lse : also the log-sum-exp, float32 (B, H, Sq), ragged (H, T); natural logarithm, dropout not
        in it. Differentiable.
    return_probs : also exp(s − lse), (B, H, Sq, Sk) in the dtype of q, negative where dropout dropped.
        It takes the memory that attention otherwise does without. No gradient.
    backend : None, "cpu", "cpu:avx2" (an instruction set by name) or "reference" (float64, slow); on CUDA
        tensors None or "cuda".
    threads : at most so many; the result does not depend on it.

    Returns
    -------
    (B, Sq, H, Dv), or (T, H, Dv), contiguous, in the dtype of q; with ``return_lse`` or
    ``return_probs`` a tuple (out, lse, probs) of what was asked for.

    Raises
    ------
    heed.Error
        (a ValueError and a RuntimeError) with a sentence, before anything is computed.
        heed.ArgumentTypeError (also a TypeError) for an argument of a wrong type.

    Notes
    -----
    With PyTorch it is differentiable in q, k, v, bias and sinks, once. Under autocast q, k and v are
    cast to its dtype. The algorithm is that of Dao et al. 2022 (FlashAttention) and Dao 2023
    (FlashAttention-2), with the online softmax of Milakov and Gimelshein 2018. The contract, which the
    tests hold every backend to: docs/semantics.md.
    """
    side = None
    through = False
    if type(q) is not _ndarray:
        side = _torch or _find_torch(q)
        if side is not None and isinstance(q, side.Tensor):
            # Not into the extension: what torch.compile looks at, and seeds of PyTorch's.
            through = side.is_compiling() or (dropout_p and type(seed) is not int)
        elif _is_jax(q):
            from . import _jax
            return _jax.call(attention, (q, k, v), dict(
                scale=scale, causal=causal, align=align, query_offset=query_offset, window=window,
                prefix=prefix, chunk=chunk, softcap=softcap, alibi_slopes=alibi_slopes, bias=bias,
                mask=mask, block_map=block_map, block_size=block_size, sinks=sinks,
                key_lengths=key_lengths, cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k,
                max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k, dropout_p=dropout_p, seed=seed,
                offset=offset, return_lse=return_lse, return_probs=return_probs, backend=backend,
                threads=threads))
        else:
            side = None
    if side is None and dropout_p and seed is None:
        seed = _draw_seed()
    if not through:
        done = _core.attention(
            q, k, v, scale, causal, align, query_offset, window, prefix, chunk, softcap, alibi_slopes,
            bias, mask, block_map, block_size, sinks, key_lengths, cu_seqlens_q, cu_seqlens_k,
            max_seqlen_q, max_seqlen_k, dropout_p, seed, offset, backend, threads, return_lse,
            return_probs, False, 0 if side is None else 1, False)
        if done is not NotImplemented:
            return done if type(done) is not list else side.joined(done, q, k, v, bias, sinks, return_lse)
    return side.attention(
        q, k, v, scale, causal, align, query_offset, window, prefix, chunk, softcap, alibi_slopes, bias,
        mask, block_map, block_size, sinks, key_lengths, cu_seqlens_q, cu_seqlens_k, max_seqlen_q,
        max_seqlen_k, dropout_p, seed, offset, return_lse, return_probs, backend, threads)


def attention_backward(
    dout: Array,
    q: Array,
    k: Array,
    v: Array,
    o: Array,
    lse: Array,
    *,
    dlse: Array | None = None,
    scale: float | None = None,
    causal: bool = False,
    align: str = "bottom_right",
    query_offset: int | Array | None = None,
    window: tuple[int, int] | None = (-1, -1),
    prefix: int = 0,
    chunk: int = 0,
    softcap: float = 0.0,
    alibi_slopes: Array | None = None,
    bias: Array | None = None,
    mask: Array | None = None,
    block_map: Array | None = None,
    block_size: tuple[int, int] | None = None,
    sinks: Array | None = None,
    key_lengths: Array | None = None,
    cu_seqlens_q: Array | None = None,
    cu_seqlens_k: Array | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    offset: int = 0,
    return_dbias: bool = False,
    return_dsinks: bool = False,
    f32_grads: bool = False,
    backend: str | None = None,
    threads: int | None = None,
) -> tuple[Any, ...]:
    """Gradients of ``attention`` from its results. PyTorch users need not call it: autograd does.

    Parameters
    ----------
    dout : like o. The gradient of the output.
    q, k, v, and every option : as ``attention`` was called with, the seed included.
    o, lse : what it returned with ``return_lse=True``.
    dlse : float32, like lse: the gradient of lse, where something depends on it.
    return_dbias : also the gradient of ``bias``, in its shape and dtype, summed over what it repeats.
    return_dsinks : also the gradient of ``sinks``, float32 (H,).
    f32_grads : all gradients in float32 whatever the dtype.

    Returns
    -------
    (dq, dk, dv), then dbias and dsinks where asked for.

    Raises
    ------
    heed.Error, as ``attention`` does.

    Notes
    -----
    Probabilities are computed again from lse, as Dao et al. 2022 do; memory is linear. The formulas
    stand in docs/semantics.md.
    """
    if _is_jax(q):
        from . import _jax
        return _jax.call(attention_backward, (dout, q, k, v, o, lse), dict(
            dlse=dlse, scale=scale, causal=causal, align=align, query_offset=query_offset,
            window=window, prefix=prefix, chunk=chunk, softcap=softcap, alibi_slopes=alibi_slopes,
            bias=bias, mask=mask, block_map=block_map, block_size=block_size, sinks=sinks,
            key_lengths=key_lengths, cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k,
            max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k, dropout_p=dropout_p, seed=seed,
            offset=offset, return_dbias=return_dbias, return_dsinks=return_dsinks,
            f32_grads=f32_grads, backend=backend, threads=threads))
    side = _torch or _find_torch(q)
    done = NotImplemented
    if side is None or not isinstance(q, side.Tensor) or not side.is_compiling():
        done = _core.attention_backward(
            dout, q, k, v, o, lse, dlse, scale, causal, align, query_offset, window, prefix, chunk,
            softcap, alibi_slopes, bias, mask, block_map, block_size, sinks, key_lengths, cu_seqlens_q,
            cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, seed, offset, backend, threads,
            return_dbias, return_dsinks, f32_grads, True, False)
    if done is NotImplemented:
        done = side.attention_backward(
            dout, q, k, v, o, lse, dlse, scale, causal, align, query_offset, window, prefix, chunk,
            softcap, alibi_slopes, bias, mask, block_map, block_size, sinks, key_lengths, cu_seqlens_q,
            cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, seed, offset, backend, threads,
            return_dbias, return_dsinks, f32_grads)
    dq, dk, dv, dbias, dsinks = done
    grads = (dq, dk, dv)
    if return_dbias:
        grads += (dbias.reshape(bias.shape),)
    if return_dsinks:
        grads += (dsinks,)
    return grads


def decode(
    q: Array,
    k_cache: Array,
    v_cache: Array,
    *,
    k_new: Array | None = None,
    v_new: Array | None = None,
    rotary_cos: Array | None = None,
    rotary_sin: Array | None = None,
    rotary_interleaved: bool = False,
    cache_seqlens: int | Array | None = None,
    cache_batch_idx: Array | None = None,
    cache_leftpad: Array | None = None,
    block_table: Array | None = None,
    scale: float | None = None,
    causal: bool = False,
    align: str = "bottom_right",
    query_offset: int | Array | None = None,
    window: tuple[int, int] | None = (-1, -1),
    prefix: int = 0,
    chunk: int = 0,
    softcap: float = 0.0,
    alibi_slopes: Array | None = None,
    bias: Array | None = None,
    mask: Array | None = None,
    block_map: Array | None = None,
    block_size: tuple[int, int] | None = None,
    sinks: Array | None = None,
    return_lse: bool = False,
    backend: str | None = None,
    threads: int | None = None,
) -> Any:
    """Attention of new queries against a cache of keys and values, rows or pages. No gradient.

    Parameters
    ----------
    q : (B, Sq, H, D)
        As many queries as you like; usually few.
    k_cache, v_cache : (slots, rows, Hk, D) and (slots, rows, Hk, Dv), or with ``block_table``
        (pages, rows of a page, Hk, D | Dv)
    k_new, v_new : (B, new, Hk, D | Dv): written into the caches at row ``cache_seqlens[b]``, in place,
        before anything is read. Zero rows are none.
    rotary_cos, rotary_sin : (positions, R / 2), contiguous, in the dtype of q: rotary embedding (Su et
        al. 2021) of the first R entries of q and k_new; a new key at its row of the cache, query i at
        ``cache_seqlens`` + i where causal or windowed, else all at ``cache_seqlens``.
    rotary_interleaved : pairs (0, 1), (2, 3), … instead of (0, R/2), (1, R/2 + 1), ….
    cache_seqlens : int32 (B,), or one integer: rows in use before the new ones; all by default.
    cache_batch_idx : int32 (B,): the slot of each entry; not with pages.
    cache_leftpad : int32 (B,): the first row in use. Positions count from there.
    block_table : int32 (B, blocks): the pages of each entry, in order.
    The rest : as in ``attention``; Sk is the number of valid rows of an entry.

    Returns
    -------
    (B, Sq, H, Dv), with ``return_lse`` also lse, float32 (B, H, Sq).

    Raises
    ------
    heed.Error with a sentence, before anything is written.

    Notes
    -----
    The semantics are those of flash-attn's ``flash_attn_with_kvcache``: docs/semantics.md.
    """
    side = _torch or _find_torch(q)
    if side is not None and isinstance(q, side.Tensor):
        return side.decode(
            q, k_cache, v_cache, k_new, v_new, rotary_cos, rotary_sin, rotary_interleaved,
            cache_seqlens, cache_batch_idx, cache_leftpad, block_table, scale, causal, align,
            query_offset, window, prefix, chunk, softcap, alibi_slopes, bias, mask, block_map,
            block_size, sinks, backend, threads, return_lse)
    if _is_jax(q):
        if k_new is not None or v_new is not None:
            raise _core.Error("k_new is given with JAX arrays, which cannot be written in place: it must be None; "
                              "write it into the cache first (k_cache.at[…].set), or keep the cache in NumPy")
        from . import _jax
        return _jax.call(decode, (q, k_cache, v_cache), dict(
            rotary_cos=rotary_cos, rotary_sin=rotary_sin, rotary_interleaved=rotary_interleaved,
            cache_seqlens=cache_seqlens, cache_batch_idx=cache_batch_idx, cache_leftpad=cache_leftpad,
            block_table=block_table, scale=scale, causal=causal, align=align, query_offset=query_offset,
            window=window, prefix=prefix, chunk=chunk, softcap=softcap, alibi_slopes=alibi_slopes, bias=bias,
            mask=mask, block_map=block_map, block_size=block_size, sinks=sinks, return_lse=return_lse,
            backend=backend, threads=threads))
    return _core.decode(
        q, k_cache, v_cache, k_new, v_new, rotary_cos, rotary_sin, rotary_interleaved, cache_seqlens,
        cache_batch_idx, cache_leftpad, block_table, scale, causal, align, query_offset, window,
        prefix, chunk, softcap, alibi_slopes, bias, mask, block_map, block_size, sinks, None, None,
        None, None, None, 0.0, None, 0, backend, threads, return_lse, False)


def merge(outs: list[Array], lses: list[Array], *, dtype: str = "f32") -> tuple[Any, Any]:
    """Attention over all keys from results over disjoint parts of them, exactly.

    Parameters
    ----------
    outs : outputs of ``attention``, float32, (B, S, H, D) or (T, H, D); any strides whose last is 1.
    lses : their lse, float32, (B, H, S) or (H, T).
    dtype : "f32", "bf16" or "f16", of the merged output.

    Returns
    -------
    (out, lse). A row that no part saw: 0 and −∞.

    Raises
    ------
    heed.Error with a sentence.

    Notes
    -----
    lse = log Σ exp(lse of a part), out = Σ exp(lse of a part − lse) · out of the part, in float64 and
    in the order given. At most one part may have carried the sinks. No gradient: tensors that require
    one are refused.
    """
    for name, parts in (("outs", outs), ("lses", lses)):
        if not isinstance(parts, (list, tuple)):
            raise _core.ArgumentTypeError(f"{name} is a {type(parts).__name__}: it must be a list of arrays")
    if not isinstance(dtype, str):
        raise _core.ArgumentTypeError(
            f"dtype is a {type(dtype).__name__}: it must be \"f32\", \"bf16\" or \"f16\"")
    first = outs[0] if outs else None
    if _is_jax(first):
        from . import _jax
        return _jax.call(merge, (outs, lses), dict(dtype=dtype))
    side = _find_torch(first)
    return (_core if side is None or not isinstance(first, side.Tensor) else side).merge(outs, lses, dtype)


def explain(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    align: str = "bottom_right",
    query_offset: int | Array | None = None,
    window: tuple[int, int] | None = (-1, -1),
    prefix: int = 0,
    chunk: int = 0,
    softcap: float = 0.0,
    alibi_slopes: Array | None = None,
    bias: Array | None = None,
    mask: Array | None = None,
    block_map: Array | None = None,
    block_size: tuple[int, int] | None = None,
    sinks: Array | None = None,
    key_lengths: Array | None = None,
    cu_seqlens_q: Array | None = None,
    cu_seqlens_k: Array | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    offset: int = 0,
    return_lse: bool = False,
    return_probs: bool = False,
    backend: str | None = None,
    threads: int | None = None,
    backward: bool = False,
    return_dbias: bool = False,
    return_dsinks: bool = False,
) -> _core.Plan:
    """How ``attention`` (or with ``backward=True`` its gradients) would be computed, and who refuses.

    Takes the arguments of ``attention``, and as ``backend`` also "cuda:sm_80", a GPU that need not be here;
    PyTorch's meta tensors will do, for nothing is read but shapes,
    strides and dtypes (and ``cu_seqlens``, unless the longest sequences are given).

    Returns
    -------
    heed.Plan: ``print(plan)`` gives the lines of the command ``heed explain``; its attributes are the
    same facts as numbers: backend, isa, kernel, threads, tiles_full, tiles_edge, tiles_empty, flops,
    bytes_min, workspace_bytes, refused, ….

    Raises
    ------
    heed.Error where ``attention`` would.
    """
    if _is_jax(q):
        from . import _jax
        (q, k, v, query_offset, alibi_slopes, bias, mask, block_map, sinks, key_lengths, cu_seqlens_q,
         cu_seqlens_k) = (_jax.to_numpy(x) for x in (q, k, v, query_offset, alibi_slopes, bias, mask, block_map,
                                                     sinks, key_lengths, cu_seqlens_q, cu_seqlens_k))
    _find_torch(q)
    return _core.explain(
        q, k, v, scale, causal, align, query_offset, window, prefix, chunk, softcap, alibi_slopes,
        bias, mask, block_map, block_size, sinks, key_lengths, cu_seqlens_q, cu_seqlens_k,
        max_seqlen_q, max_seqlen_k, dropout_p, 0 if seed is None else seed, offset, backend, threads,
        backward, return_lse, return_probs, return_dbias, return_dsinks)
