# test_functions.py: merge, explain, show_config, decode beside attention, JAX. Not here: attention itself.
import arrays
import numpy as np
import pytest

import heed


def _qkv(library, rng, sk=50, dtype="f32"):
    return [arrays.in_library(library, rng.standard_normal(s).astype(np.float32).astype(arrays.NUMPY[dtype]))
            for s in ((2, 9, 4, 16), (2, sk, 2, 16), (2, sk, 2, 16))]


def test_merge(library, rng):
    q, k, v = _qkv(library, rng)
    cuts = [0, 7, 7, 30, 50]
    parts = [heed.attention(q, k[:, a:b], v[:, a:b], return_lse=True) for a, b in zip(cuts, cuts[1:])]
    out, lse = heed.merge([o for o, _ in parts], [s for _, s in parts])
    whole, whole_lse = heed.attention(q, k, v, return_lse=True)
    # Parts and whole are each within the bound of f32 sums of 50 terms.
    arrays.near("out", out, arrays.to_numpy(whole), 2.0**-18)
    arrays.near("lse", lse, arrays.to_numpy(whole_lse), 2.0**-18)
    narrow, _ = heed.merge([o for o, _ in parts], [s for _, s in parts], dtype="bf16")
    assert "bfloat16" in str(narrow.dtype)
    ragged, _ = heed.merge([parts[0][0][0]] * 3, [parts[0][1][0]] * 3)
    arrays.near("ragged", ragged, arrays.to_numpy(parts[0][0][0]), 2.0**-20)
    with pytest.raises(heed.ArgumentTypeError, match="outs is a .*: it must be a list"):
        heed.merge(out, [lse])
    with pytest.raises(heed.ArgumentTypeError, match="dtype is a NoneType: it must be"):
        heed.merge([out], [lse], dtype=None)
    for arguments, words in [(([], []), "no parts"), (([out], []), "1 parts and lses has 0"),
                             (([narrow], [lse]), "bf16: parts must be float32"),
                             (([out, out[:1]], [lse, lse]), "parts must be of one shape")]:
        with pytest.raises(heed.Error, match=words):
            heed.merge(*arguments)


def test_explain(library, rng):
    q, k, v = _qkv(library, rng)
    plan = heed.explain(q, k, v, causal=True)
    assert isinstance(plan, heed.Plan) and plan.backend == "cpu"
    assert str(plan).startswith("plan ") and "refused" in str(plan)
    dense = 2 * (16 + 16) * 2 * 4 * 9 * 50
    assert plan.dense_flops == dense and 0 < plan.flops < dense
    assert plan.visible_pairs == 2 * 4 * sum(range(42, 51))
    assert ("cuda", "this build has no CUDA kernels") in plan.refused
    assert any(name == "reference" for name, _ in plan.besides)
    backward = heed.explain(q, k, v, backward=True, threads=1)
    assert backward.threads == 1 and backward.dense_flops == (6 * 16 + 4 * 16) * 2 * 4 * 9 * 50
    assert heed.explain(q, k, v, backend="reference").backend == "reference"
    assert heed.explain(q, k, v, dropout_p=0.5).backend == "cpu"
    with pytest.raises(heed.Error, match="backend"):
        heed.explain(q, k, v, backend="none")


def test_show_config(capsys):
    heed.show_config()
    text = capsys.readouterr().out
    assert heed.__version__ in text and "cpu" in text and "threads" in text and "numpy" in text


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_decode_is_attention_of_what_the_cache_holds(library, rng, dtype):
    """Ten steps, a token at a time, beside one causal call on all of them."""
    q, k, v = _qkv(library, rng, 9, dtype)
    caches = [arrays.in_library(library, np.full((3, 20, 2, 16), np.nan, arrays.NUMPY[dtype])) for _ in range(2)]
    index = arrays.in_library(library, np.array([2, 0], np.int32))
    expected = arrays.to_numpy(heed.attention(q, k, v, causal=True, window=(5, 0)))
    for step in range(9):
        now = slice(step, step + 1)
        out = heed.decode(q[:, now], *caches, k_new=k[:, now], v_new=v[:, now], cache_seqlens=step,
                          cache_batch_idx=index, causal=True, window=(5, 0))
        # The same numbers by another kernel: two roundings of each, 2⁻⁸ at bf16, of values up to 4.
        arrays.near("out", out, expected[:, now], {"f32": 1e-5, "f16": 2.0**-8, "bf16": 2.0**-4}[dtype])
    table = arrays.in_library(library, np.arange(8, dtype=np.int32).reshape(2, 4))
    pages = [arrays.in_library(library, np.zeros((8, 3, 2, 16), arrays.NUMPY[dtype])) for _ in range(2)]
    out = heed.decode(q, *pages, k_new=k, v_new=v, cache_seqlens=0, block_table=table, causal=True, window=(5, 0))
    arrays.near("pages", out, expected, {"f32": 1e-5, "f16": 2.0**-8, "bf16": 2.0**-4}[dtype])
    assert np.array_equal(arrays.to_numpy(pages[0]).reshape(2, 12, 2, 16)[:, :9], arrays.to_numpy(k))


def test_decode_sees_all_rows_by_default(library, rng):
    q, k, v = _qkv(library, rng)
    out, lse = heed.decode(q, k, v, return_lse=True)
    expected, expected_lse = heed.attention(q, k, v, return_lse=True)
    arrays.near("out", out, arrays.to_numpy(expected), 1e-5)
    arrays.near("lse", lse, arrays.to_numpy(expected_lse), 1e-5)


def test_plans_are_kept_and_bounded(rng):
    q, k, v = _qkv("numpy", rng)
    heed._core.forget_plans()
    for _ in range(3):
        heed.attention(q, k, v)
    assert heed._core.plans_kept() == 1
    heed.attention(q, k, v, dropout_p=0.5)  # a new seed each call: not kept
    assert heed._core.plans_kept() == 1
    outs = [heed.attention(q, k, v, scale=1 / (n + 1)) for n in range(300)]
    assert heed._core.plans_kept() == 256
    assert all(np.array_equal(heed.attention(q, k, v, scale=1 / (n + 1)), outs[n]) for n in range(300))


def test_jax(rng):
    jax = pytest.importorskip("jax")
    q, k, v = _qkv("numpy", rng)
    jq, jk, jv = map(jax.numpy.asarray, (q, k, v))
    out, lse = heed.attention(jq, jk, jv, causal=True, return_lse=True)
    assert isinstance(out, jax.Array) and np.array_equal(out, heed.attention(q, k, v, causal=True))
    dq, dk, dv = heed.attention_backward(out, jq, jk, jv, out, lse, causal=True)
    assert isinstance(dk, jax.Array) and dq.shape == q.shape
    half = heed.attention(*(x.astype(jax.numpy.bfloat16) for x in (jq, jk, jv)))
    assert half.dtype == jax.numpy.bfloat16
    cached = heed.decode(jq, jk, jv, cache_seqlens=jax.numpy.full(2, 7, "int32"))
    assert isinstance(cached, jax.Array) and np.array_equal(cached, heed.decode(q, k, v, cache_seqlens=7))
    with pytest.raises(heed.Error, match="k_new is given with JAX arrays"):
        heed.decode(jq, jk, jv, k_new=jk, v_new=jv, cache_seqlens=0)
    assert heed.explain(jq, jk, jv, causal=True, query_offset=jax.numpy.zeros(2, "int32")).backend == "cpu"
    with pytest.raises(heed.ArgumentTypeError, match="tracer"):
        jax.jit(lambda q: heed.attention(q, jk, jv))(jq)
