# test_options.py: every option of attention, one at a time and together, drawn by hypothesis over shapes,
# strides and dtypes, forward and backward, against plain.py. Not here: bad input (test_errors.py).
import arrays
import numpy as np
import pytest
from arrays import NUMPY
from hypothesis import given, settings
from hypothesis import strategies as st

import heed


def _rows(rng, shape, dtype):
    return rng.standard_normal(shape).astype(np.float32).astype(NUMPY[dtype])


def _laid_out(rng, shape, dtype, how):
    """An array (B, S, H, D) in memory of another order; the last stride is 1."""
    b, s, h, d = shape
    if how == "bhsd":
        return _rows(rng, (b, h, s, d), dtype).transpose(0, 2, 1, 3)
    if how == "slice":  # of a packed qkv with a row's tail unused
        return _rows(rng, (b, s, 3, h, d + 5), dtype)[:, :, 1, :, :d]
    if how == "sbhd":
        return _rows(rng, (s, b, h, d), dtype).transpose(1, 0, 2, 3)
    return _rows(rng, shape, dtype)


def _spread(draw, shape):
    """A shape that broadcasts to `shape`: axes of size 1, and some missing on the left."""
    sizes = [n if draw(st.booleans()) else 1 for n in shape]
    return tuple(sizes[draw(st.integers(0, 2)) if sizes[0] == 1 and sizes[1] == 1 else 0:])


@st.composite
def calls(draw, gradients=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(["f32", "bf16", "f16"]))
    b, sq, sk = draw(st.integers(1, 3)), draw(st.integers(0, 40)), draw(st.integers(0, 70))
    hk, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    h = hk * group
    d, dv = draw(st.sampled_from([1, 8, 17, 32, 64])), draw(st.sampled_from([1, 16, 33, 64]))
    lay = st.sampled_from(["bshd", "bhsd", "slice", "sbhd"])
    q = _laid_out(rng, (b, sq, h, d), dtype, draw(lay))
    k = _laid_out(rng, (b, sk, hk, d), dtype, draw(lay))
    v = _laid_out(rng, (b, sk, hk, dv), dtype, draw(lay))
    o = {}
    if draw(st.booleans()):
        o["causal"] = True
    if draw(st.booleans()):
        o["window"] = (draw(st.integers(-1, 30)), draw(st.integers(-1, 30)))
    if draw(st.booleans()):
        o["align"] = "top_left"
    elif draw(st.booleans()):
        offset = draw(st.integers(-20, 50))
        o["query_offset"] = draw(st.sampled_from(
            [offset, np.full(b, offset, np.int32) + np.arange(b, dtype=np.int32)]))
    if draw(st.integers(0, 3)) == 0:
        o["prefix"] = draw(st.integers(1, 30))
    if draw(st.integers(0, 3)) == 0:
        o["chunk"] = draw(st.integers(1, 30))
    if draw(st.integers(0, 2)) == 0:
        o["scale"] = draw(st.sampled_from([0.0, -0.3, 0.7]))
    if draw(st.integers(0, 2)) == 0:
        o["softcap"] = draw(st.sampled_from([0.5, 30.0]))
    if draw(st.integers(0, 2)) == 0:
        shape = draw(st.sampled_from([(h,), (b, h)]))
        o["alibi_slopes"] = rng.uniform(0, 0.5, shape).astype(np.float32)
    if draw(st.integers(0, 2)) == 0:
        o["bias"] = _rows(rng, _spread(draw, (b, h, sq, sk)), draw(st.sampled_from(["f32", dtype])))
    if draw(st.integers(0, 2)) == 0:
        o["mask"] = rng.random(_spread(draw, (b, h, sq, sk))) < 0.7
    if draw(st.integers(0, 3)) == 0:
        rows, cols = draw(st.integers(1, 20)), draw(st.integers(1, 20))
        o["block_map"] = rng.random((b, h, -(-sq // rows), -(-sk // cols))) < 0.7
        o["block_size"] = (rows, cols)
    if draw(st.integers(0, 2)) == 0:
        o["sinks"] = rng.standard_normal(h).astype(np.float32)
    if draw(st.integers(0, 2)) == 0:
        o["key_lengths"] = rng.integers(0, sk + 1, b).astype(np.int32)
    if draw(st.integers(0, 2)) == 0:
        o |= {"dropout_p": 0.3, "seed": draw(st.integers(0, 2**64 - 1)), "offset": draw(st.integers(0, 2**64 - 1))}
    if draw(st.integers(0, 3)) == 0:
        o["threads"] = draw(st.integers(1, 3))
    if not gradients:
        return dtype, q, k, v, o
    return dtype, q, k, v, o, _rows(rng, (b, sq, h, dv), dtype), rng.standard_normal((b, h, sq)).astype(np.float32)


@settings(max_examples=150)
@given(calls())
def test_forward(call):
    dtype, q, k, v, options = call
    out, lse, probs = heed.attention(q, k, v, return_lse=True, return_probs=True, **options)
    arrays.check_forward(dtype, q, k, v, options, out, lse, probs)
    assert out.flags.c_contiguous and out.dtype == q.dtype
    # By any number of threads the same bits.
    again, _, _ = heed.attention(q, k, v, return_lse=True, return_probs=True, **(options | {"threads": 1}))
    assert again.tobytes() == out.tobytes()


@settings(max_examples=100)
@given(calls(gradients=True))
def test_backward(call):
    dtype, q, k, v, options, dout, dlse = call
    want = tuple(n for n in ("dbias", "dsinks") if n[1:] in options)
    _, _, grads = arrays.forward_backward("numpy", q, k, v, options, dout, dlse, want)
    arrays.check_backward(dtype, q, k, v, dout, options, grads, dlse)
    assert grads["dq"].dtype == q.dtype and ("dbias" not in grads or grads["dbias"].dtype == options["bias"].dtype)


@settings(max_examples=60)
@given(calls(gradients=True))
def test_torch_is_the_same_program(call):
    pytest.importorskip("torch")
    dtype, q, k, v, options, dout, dlse = call
    want = tuple(n for n in ("dbias", "dsinks") if n[1:] in options)
    if dtype == "bf16":  # to_torch makes bf16 contiguous, and strides are part of a call
        q, k, v, dout = map(np.ascontiguousarray, (q, k, v, dout))
    mine = arrays.forward_backward("numpy", q, k, v, options, dout, dlse, want)
    theirs = arrays.forward_backward("torch", q, k, v, options, dout, dlse, want)
    assert np.array_equal(arrays.to_numpy(mine[0]), arrays.to_numpy(theirs[0]), equal_nan=True)
    assert np.array_equal(mine[1], arrays.to_numpy(theirs[1]))
    for name, grad in mine[2].items():
        assert np.array_equal(arrays.to_numpy(grad), arrays.to_numpy(theirs[2][name])), name


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 40)), min_size=0, max_size=4), st.booleans(),
       st.sampled_from(["f32", "bf16"]), st.booleans(), st.booleans())
def test_ragged(sizes, causal, dtype, biased, given_sizes):
    rng = np.random.default_rng(len(sizes))
    ends = np.cumsum([(0, 0), *sizes], axis=0).astype(np.int32)
    options = {"cu_seqlens_q": ends[:, 0], "cu_seqlens_k": ends[:, 1], "causal": causal}  # strided columns
    longest = [max([s[i] for s in sizes], default=0) for i in (0, 1)]
    if given_sizes:
        options |= {"max_seqlen_q": longest[0] + 1, "max_seqlen_k": np.int64(longest[1])}
    if biased:
        options["bias"] = _rows(rng, (1, 4, 1, longest[1]), "f32")
    q, k, v = (_rows(rng, (int(t), heads, 16), dtype) for t, heads in zip(ends[-1, [0, 1, 1]], (4, 2, 2)))
    dout = _rows(rng, q.shape, dtype)
    out, lse, grads = arrays.forward_backward("numpy", q, k, v, options, dout, want=("dbias",) if biased else ())
    arrays.check_forward(dtype, q, k, v, options, out, lse)
    arrays.check_backward(dtype, q, k, v, dout, options, grads)


def test_reference_in_float64(library, rng):
    q, k, v, dout = (rng.standard_normal((2, 9, 2, 8)) for _ in range(4))
    options = {"backend": "reference", "causal": True, "softcap": 3.0}
    out, lse, grads = arrays.forward_backward(library, q, k, v, options, dout)
    arrays.check_forward("f64", q, k, v, options, out)
    arrays.check_backward("f64", q, k, v, dout, options, grads)
    assert "float64" in str(out.dtype) and "float32" in str(lse.dtype)


@pytest.mark.parametrize("isa", [name for _, _, _, isas in heed._core.backends() for name, fits, _ in isas if fits])
def test_instruction_set_by_name(isa, rng):
    q, k, v = (rng.standard_normal((1, 33, 2, 40)).astype(np.float32) for _ in range(3))
    out = heed.attention(q, k, v, causal=True, backend=f"cpu:{isa}")
    assert heed._core.last_isa() == isa
    arrays.check_forward("f32", q, k, v, {"causal": True}, out)


def test_seeds(rng):
    q, k, v = (rng.standard_normal((1, 64, 2, 8)).astype(np.float32) for _ in range(3))
    draw = lambda **seed: heed.attention(q, k, v, dropout_p=0.5, **seed)  # noqa: E731
    assert np.array_equal(draw(seed=3), draw(seed=3)) and not np.array_equal(draw(seed=3), draw(seed=4))
    assert not np.array_equal(draw(seed=3), draw(seed=3, offset=1))
    assert not np.array_equal(draw(), draw())


def test_inputs_are_read_where_they_lie(rng):
    """Views, read-only arrays, negative and zero strides: the same numbers as from copies."""
    q = rng.standard_normal((1, 20, 4, 16)).astype(np.float32)[:, ::-2]
    k = np.broadcast_to(rng.standard_normal((1, 1, 2, 16)).astype(np.float32), (1, 7, 2, 16))
    v = rng.standard_normal((1, 7, 2, 16)).astype(np.float32)
    v.flags.writeable = False
    out = heed.attention(q, k, v)
    assert np.array_equal(out, heed.attention(q.copy(), k.copy(), v.copy()))
