# arrays.py: calls of heed for tests on any library, and their comparison with plain.py, entry by entry.
# Not here: what is tested.
import ml_dtypes
import numpy as np
import plain

import heed

NUMPY = {"f32": np.dtype("float32"), "f16": np.dtype("float16"), "f64": np.dtype("float64"),
         "bf16": np.dtype(ml_dtypes.bfloat16)}
DATA = ("q", "k", "v", "dout", "k_cache", "v_cache", "k_new", "v_new", "rotary_cos", "rotary_sin")
ARRAYS = ("alibi_slopes", "bias", "mask", "block_map", "sinks", "key_lengths", "cu_seqlens_q",
          "cu_seqlens_k")


def to_torch(array):
    import torch
    if isinstance(array, np.ndarray) and array.dtype == NUMPY["bf16"]:
        bits = torch.from_numpy(np.ascontiguousarray(array).view(np.int16))
        return bits.view(torch.bfloat16)
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else array


def to_numpy(array):
    if isinstance(array, np.ndarray):
        return array.astype(np.float64) if array.dtype.kind != "b" else array
    return array.detach().double().numpy()


def in_library(library, value):
    return to_torch(value) if library == "torch" else value


def near(name, actual, expected, bound):
    """Equal where infinite or NaN, within the bound elsewhere."""
    actual, expected = to_numpy(actual), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        wrong = ~(same | (abs(actual - expected) <= bound))
    if wrong.any():
        at = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise AssertionError(f"{name}{list(at)} is {actual[at]}, expected {expected[at]} within "
                             f"{np.broadcast_to(bound, actual.shape)[at]}; {int(wrong.sum())} are wrong")


def entries(q, k, v, options):
    """(rows of q, rows of k, keys that count, the entry) for each entry of a batch."""
    options = {n: x for n, x in options.items()
               if n not in ("backend", "threads", "return_lse", "return_probs", "max_seqlen_q", "max_seqlen_k")}
    cu_q, cu_k = options.pop("cu_seqlens_q", None), options.pop("cu_seqlens_k", None)
    lengths = options.pop("key_lengths", None)
    offsets = options.pop("query_offset", None)
    for b in range(len(q) if cu_q is None else len(cu_q) - 1):
        rows = (b, slice(None)) if cu_q is None else (slice(cu_q[b], cu_q[b + 1]),)
        keys = (b, slice(None)) if cu_k is None else (slice(cu_k[b], cu_k[b + 1]),)
        sk = k[keys].shape[0] if lengths is None else int(lengths[b])
        offset = None if offsets is None else int(np.asarray(offsets).reshape(-1)[b if np.size(offsets) > 1 else 0])
        yield rows, keys, sk, plain.Entry(q[rows], k[keys][:sk], v[keys][:sk], b, query_offset=offset, **options)


def check_forward(dtype, q, k, v, options, out, lse=None, probs=None):
    ragged = options.get("cu_seqlens_q") is not None
    for rows, _, sk, e in entries(q, k, v, options):
        near("out", out[rows], e.o, plain.output_bound(e, dtype))
        if lse is not None:
            mine = lse[:, rows[0]] if ragged else lse[rows[0]]
            near("lse", mine, e.lse, plain.lse_bound(e))
        if probs is not None:
            b = rows[0] if not ragged else list(options["cu_seqlens_q"]).index(rows[0].start)
            p = to_numpy(probs[b])[:, : e.p.shape[1], : e.p.shape[2]]
            near("probs", abs(p), e.p, e.p * (plain.relative(e, dtype)[..., None] + 2.0**-18
                                              + 2 * plain.ROUNDING[dtype]) + plain.SMALLEST[dtype])
            assert np.array_equal(np.signbit(p) & (e.p > 0), (e.kept == 0) & (e.p > 0))


def check_backward(dtype, q, k, v, dout, options, grads, dlse=None):
    """grads: by name dq, dk, dv and, where given, dbias and dsinks."""
    ragged = options.get("cu_seqlens_q") is not None
    sums = {n: np.zeros(np.shape(to_numpy(grads[n]))) for n in ("dbias", "dsinks") if n in grads}
    bounds = {n: np.zeros_like(x) for n, x in sums.items()}
    for rows, keys, sk, e in entries(q, k, v, options):
        g = e.gradients(dout[rows], None if dlse is None else
                        (dlse[:, rows[0]] if ragged else dlse[rows[0]]))
        near("dq", grads["dq"][rows], g["dq"], plain.gradient_bound(e, g, "dq", dtype))
        for name in ("dk", "dv"):
            near(name, grads[name][keys][:sk], g[name], plain.gradient_bound(e, g, name, dtype))
            assert not np.any(to_numpy(grads[name][keys][sk:])), "what does not exist has gradient 0"
        if "dsinks" in sums:
            sums["dsinks"] += g["dsinks"]
            bounds["dsinks"] += plain.gradient_bound(e, g, "dsinks", dtype)
        if "dbias" in sums:
            bound = plain.gradient_bound(e, {**g, "size": g["size"]}, "ds", dtype)
            for total, part in ((sums["dbias"], g["ds"]), (bounds["dbias"], bound)):
                _add_spread(total, part, rows[0] if not ragged else 0)
    for name, expected in sums.items():
        near(name, grads[name], expected, bounds[name] * 1.01)


def _add_spread(total, part, b):
    """Adds (H, Sq, Sk) to an entry of a broadcasting array, summed over what it repeats."""
    view = total.reshape((1,) * (4 - total.ndim) + total.shape)
    view = view[b if view.shape[0] > 1 else 0]
    for axis in range(3):
        if view.shape[axis] == 1:
            part = part.sum(axis, keepdims=True)
    view[:, : part.shape[1], : part.shape[2]] += part


def forward_backward(library, q, k, v, options, dout=None, dlse=None, want=()):
    """(out, lse, gradients by name) of a call, with torch through autograd."""
    mine = {n: in_library(library, x) for n, x in options.items()}
    arrays = [in_library(library, x) for x in (q, k, v)]
    if library == "numpy":
        out, lse = heed.attention(*arrays, return_lse=True, **mine)
        if dout is None:
            return out, lse, {}
        names = ["dq", "dk", "dv", *(n for n in ("dbias", "dsinks") if n in want)]
        grads = heed.attention_backward(dout, *arrays, out, lse, dlse=dlse, return_dbias="dbias" in want,
                                        return_dsinks="dsinks" in want, **mine)
        return out, lse, dict(zip(names, grads))
    import torch
    leaves = {"dq": arrays[0], "dk": arrays[1], "dv": arrays[2]}
    leaves |= {n: mine[n[1:]] for n in ("dbias", "dsinks") if n in want}
    if dout is not None:
        for leaf in leaves.values():
            leaf.requires_grad_()
    out, lse = heed.attention(*arrays, return_lse=True, **mine)
    if dout is None:
        return out, lse, {}
    results, seeds = [out], [to_torch(dout)]
    if dlse is not None:
        results, seeds = [out, lse], [to_torch(dout), to_torch(dlse)]
    return out, lse, dict(zip(leaves, torch.autograd.grad(results, leaves.values(), seeds)))
