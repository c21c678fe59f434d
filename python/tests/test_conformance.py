# test_conformance.py: every conformance case, forward and backward, through the package. The files hold
# results of another program; plain.py, which bounds the error, must agree with them, too.
import arrays
import numpy as np
import plain
import pytest
from conformance import NAMES, Case

import heed

DENSE = [n for n in NAMES if not n.startswith("cache_")]
CACHES = [n for n in NAMES if n.startswith("cache_")]


def test_the_cases_are_there():
    assert len(NAMES) == 69 and len(CACHES) >= 8


def _agrees(actual, expected):
    """Of plain.py with a file, which holds f32. A lowest float as a score leaves f32 no digits."""
    actual, expected = np.asarray(actual), expected.astype(np.float64)
    huge = (expected < -1e38) & np.isfinite(expected)
    assert np.all(actual[huge] < -2e38)
    arrays.near("plain", actual[~huge], expected[~huge], 1e-6 * abs(expected[~huge]) + 1e-6)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("name", DENSE)
def test_case(name, dtype, library):
    case = Case(name, dtype)
    t = case.tensors
    dout = t.get("dout") if "dq" in t else None
    out, lse, grads = arrays.forward_backward(library, t["q"], t["k"], t["v"], case.options, dout,
                                              t.get("dlse"), case.wanted)
    if name == "bias_lowest_float_row":  # no digits are left of such a score: lse has a rule of its own
        huge = t["lse"] < -1e38
        assert np.all(arrays.to_numpy(lse)[huge] < -2e38)
        lse = None
    arrays.check_forward(dtype, t["q"], t["k"], t["v"], case.options, out, lse)
    if dout is not None:
        arrays.check_backward(dtype, t["q"], t["k"], t["v"], dout, case.options, grads, t.get("dlse"))


@pytest.mark.parametrize("name", DENSE)
def test_plain_agrees(name):
    case = Case(name, "f64")
    t = case.tensors
    ragged = case.layout == "THD"
    for rows, keys, sk, e in arrays.entries(t["q"], t["k"], t["v"], case.options):
        _agrees(e.o, t["out"][rows])
        if "lse" in t:
            _agrees(e.lse, t["lse"][:, rows[0]] if ragged else t["lse"][rows[0]])
        if "dq" in t and name != "bias_lowest_float_row":
            dlse = t.get("dlse")
            if dlse is not None:
                dlse = dlse[:, rows[0]] if ragged else dlse[rows[0]]
            g = e.gradients(t["dout"][rows], dlse)
            for which, at in (("dq", rows), ("dk", keys), ("dv", keys)):
                expected = t[which][at][:len(g[which])]
                arrays.near(which, g[which], expected, 1e-5 * abs(expected) + 1e-5 * g["size"][which] + 1e-7)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("name", CACHES)
def test_cache(name, dtype, library):
    case = Case(name, dtype)
    t = case.tensors
    put = lambda key: arrays.in_library(library, t[key].copy()) if key in t else None  # noqa: E731
    k_cache, v_cache = put("k_cache"), put("v_cache")
    options = {n: arrays.in_library(library, x) for n, x in case.options.items()}
    out, lse = heed.decode(
        put("q"), k_cache, v_cache, k_new=put("k_new"), v_new=put("v_new"), rotary_cos=put("rotary_cos"),
        rotary_sin=put("rotary_sin"), rotary_interleaved=case.rotary == "interleaved",
        cache_seqlens=put("cache_seqlens"), cache_batch_idx=put("cache_batch_idx"),
        cache_leftpad=put("cache_leftpad"), block_table=put("block_table"), return_lse=True, **options)
    # The caches: a copy of the new rows, rotated ones rounded once; what is unused keeps its NaN.
    step = 4 * plain.ROUNDING[dtype]
    for mine, key in ((k_cache, "k_cache_after"), (v_cache, "v_cache_after")):
        expected = t[key].astype(np.float64)
        arrays.near(key, mine, expected, step * np.nan_to_num(abs(expected)) + step)
    # From the caches as they are now: attention of each entry over its valid rows, q rotated likewise.
    bound = {"f32": 1e-5, "bf16": 2.0**-6, "f16": 2.0**-8}[dtype]
    size = max(1.0, float(np.nanmax(abs(t["v_cache_after"].astype(np.float64)))))
    arrays.near("out", out, t["out"], bound * size)
    arrays.near("lse", lse, t["lse"], bound * np.maximum(1.0, abs(t["lse"])))
