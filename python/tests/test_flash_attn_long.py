# test_flash_attn_long.py: the drawn calls of heed.flash_attn's tests, many more of them. Not here: what they
# check (test_flash_attn.py, test_flash_attn_cache.py).
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
import test_flash_attn as functions  # noqa: E402
import test_flash_attn_cache as cache  # noqa: E402

pytestmark = pytest.mark.slow
SIZES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 150)), min_size=1, max_size=6)


@settings(max_examples=1000)
@given(functions.calls())
def test_dense(call):
    functions.test_dense.hypothesis.inner_test(call)


@settings(max_examples=700)
@given(SIZES, st.data(), st.sampled_from(["f32", "bf16", "f16"]), st.integers(0, 30), st.integers(0, 30),
       st.booleans())
def test_varlen(sizes, data, dtype, rest_q, rest_k, as_tensors):
    functions.test_varlen.hypothesis.inner_test(sizes, data, dtype, rest_q, rest_k, as_tensors)


@settings(max_examples=1000)
@given(cache.caches())
def test_cache(c):
    cache.test_cache.hypothesis.inner_test(c)


@settings(max_examples=700)
@given(SIZES, st.data())
def test_varlen_keys_that_count(sizes, data):
    cache.test_varlen_keys_that_count.hypothesis.inner_test(sizes, data)
