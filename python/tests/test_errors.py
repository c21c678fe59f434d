# test_errors.py: bad input from Python: each gets a sentence with the field and what would be accepted, as
# heed.Error or heed.ArgumentTypeError, and nothing is computed. Not here: the C++ library's own rules.
import arrays
import numpy as np
import pytest

import heed


def qkv(library, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [arrays.in_library(library, rng.standard_normal(s).astype(dtype))
            for s in ((2, 5, 4, 8), (2, 7, 2, 8), (2, 7, 2, 6))]


CU = np.array([0, 2, 5], np.int32)

# keywords, the exception, words of its sentence
BAD = [
    (dict(scale=float("nan")), heed.Error, "scale is nan"),
    (dict(scale="1"), heed.ArgumentTypeError, "scale is a str: it must be a number"),
    (dict(window=(-3, 0)), heed.Error, r"window\[0\] is -3"),
    (dict(window=(1, 2, 3)), heed.Error, "window has 3 elements"),
    (dict(window=4), heed.ArgumentTypeError, "window is a int: it must be a pair"),
    (dict(window=(1.5, 2)), heed.ArgumentTypeError, "window is a float: it must be an integer"),
    (dict(causal="yes"), heed.ArgumentTypeError, "causal is a str: it must be True or False"),
    (dict(causal=None), heed.ArgumentTypeError, "causal is a NoneType"),
    (dict(return_lse="no"), heed.ArgumentTypeError, "return_lse is a str: it must be True or False"),
    (dict(align="left"), heed.Error, 'align is "left"'),
    (dict(align=1), heed.ArgumentTypeError, "align is a int"),
    (dict(align="\ud800"), heed.Error, r'align is "\\ud800"'),
    (dict(backend="\ud800"), heed.Error, r'backend is "\\ud800"'),
    (dict(backend="cpu\0junk"), heed.Error, "backend is"),
    (dict(align="top_left", query_offset=3), heed.Error, 'query_offset is 3 and align is "top_left"'),
    (dict(align="offset"), heed.Error, 'align is "offset" and query_offset is None'),
    (dict(prefix=-1), heed.Error, "prefix is -1"),
    (dict(chunk=2**70), heed.Error, "chunk is .* 64 bits"),
    (dict(softcap=-2.0), heed.Error, "softcap is -2"),
    (dict(dropout_p=1.0, seed=1), heed.Error, "dropout_p is 1"),
    (dict(dropout_p=0.5, seed=-1), heed.Error, "seed is -1: it must be from 0"),
    (dict(dropout_p=0.5, seed=2**64), heed.Error, "seed is 18446744073709551616"),
    (dict(threads=0), heed.Error, "threads is 0: it must be 1 or more"),
    (dict(backend="gpu"), heed.Error, 'backend is "gpu": this build knows'),
    (dict(backend="cpu:sse9"), heed.Error, 'the instruction set in backend is "sse9"'),
    (dict(backend=3), heed.ArgumentTypeError, "backend is a int"),
    (dict(alibi_slopes=np.ones(3, np.float32)), heed.Error, r"alibi_slopes has the shape \(3,\): it must be \(4,\)"),
    (dict(alibi_slopes=np.ones(4)), heed.Error, "alibi_slopes has the dtype f64"),
    (dict(sinks=np.ones((4, 1), np.float32)), heed.Error, "sinks has the shape"),
    (dict(bias=np.ones((3, 5, 7), np.float32)), heed.Error, r"bias.shape\[-3\] is 3 and H is 4"),
    (dict(bias=np.ones((1, 1, 1, 1, 7), np.float32)), heed.Error, "at most 4 axes"),
    (dict(bias=np.ones((5, 7), bool)), heed.Error, "a bool array is a mask"),
    (dict(bias=np.ones((5, 7), np.float16)), heed.Error, "bias.dtype is f16"),
    (dict(mask=np.ones((5, 7), np.float32)), heed.Error, "numbers to add are a bias"),
    (dict(mask=np.ones((5, 8), bool)), heed.Error, r"mask.shape\[-1\] is 8 and Sk is 7"),
    (dict(block_map=np.ones((1, 1, 1, 1), bool)), heed.Error, "block_map is given without block_size"),
    (dict(block_size=(2, 2)), heed.Error, "block_size is given without block_map"),
    (dict(key_lengths=np.array([1, 2])), heed.Error, "key_lengths has the dtype .*int64: it must be int32"),
    (dict(key_lengths=np.array([1, 9], np.int32)), heed.Error, "key_lengths"),
    (dict(query_offset=np.array([1, 2])), heed.Error, "query_offset has the dtype .*int64"),
    (dict(cu_seqlens_k=CU), heed.Error, "cu_seqlens_k is given without cu_seqlens_q"),
    (dict(max_seqlen_q=3), heed.Error, "max_seqlen_q is given without cu_seqlens_q"),
    (dict(cu_seqlens_q=CU, cu_seqlens_k=CU), heed.Error, r"q has the shape .*: it must have 3 axes"),
]


@pytest.mark.parametrize("options, kind, words", BAD, ids=[w for _, _, w in BAD])
@pytest.mark.parametrize("grad", [False, True])
def test_options(library, options, kind, words, grad):
    """With a gradient PyTorch's calls take another way, and say the same."""
    q, k, v = qkv(library)
    if grad and library == "torch":
        q.requires_grad_()
    options = {n: arrays.in_library(library, x) for n, x in options.items()}
    with pytest.raises(kind, match=words):
        heed.attention(q, k, v, **options)


def test_errors_belong_to_both_families():
    assert issubclass(heed.Error, ValueError) and issubclass(heed.Error, RuntimeError)
    assert issubclass(heed.ArgumentTypeError, heed.Error) and issubclass(heed.ArgumentTypeError, TypeError)


def test_tensors(library):
    q, k, v = qkv(library)
    wide = qkv(library, np.float64)
    for bad, words in [
        ((q, k, wide[2]), "v is f64 and q is f32: q, k and v must be of one dtype"),
        (wide, "dtype is f64; .* the reference backend would serve it if asked by name"),
        ((q[..., ::2], k[..., ::2], v), "q has a stride of 2 in its last axis"),
        ((q, k[..., :4], v), r"k has the shape \(2, 7, 2, 4\) and q has \(2, 5, 4, 8\)"),
        ((q[:1], k, v), "the batch, must be the same"),
        ((q[:, :, :3], k, v), "must be a multiple"),
        ((q, k, v[:, :6]), "v has the shape"),
        ((q, k[:, :, :0], v[:, :, :0]), "must be a multiple"),
        ((q[0], k[0], v[0]), "ragged batches .* need cu_seqlens_q"),
        ((q, k, v[..., :0]), "its last axis must be from 1 to 1024"),
    ]:
        with pytest.raises(heed.Error, match=words):
            heed.attention(*bad)
    integers = [arrays.in_library(library, np.zeros((1, 2, 1, 4), np.int64))] * 3
    with pytest.raises(heed.Error, match="q has the dtype .*int64: it must be float32"):
        heed.attention(*integers)


@pytest.mark.parametrize("grad", [False, True])
def test_wrong_types(library, grad):
    q, k, v = qkv(library)
    if grad and library == "torch":
        q.requires_grad_()
    for bad, words in [(([1.0], k, v), "q is a list: it must be a NumPy array, a PyTorch tensor or a JAX array"),
                       ((q, [1.0], v), "k is a list: it must be a "), ((q, k, None), "v is a NoneType")]:
        with pytest.raises(heed.ArgumentTypeError, match=words):
            heed.attention(*bad)
    with pytest.raises(heed.ArgumentTypeError, match="mask is a list"):
        heed.attention(q, k, v, mask=[True])
    with pytest.raises(TypeError):
        heed.attention(q, k, v, 0.5)
    with pytest.raises(TypeError):
        heed.attention(q, k, v, attn_mask=None)


def test_libraries_are_not_mixed():
    pytest.importorskip("torch")
    q, k, v = qkv("numpy")
    tq, tk, tv = qkv("torch")
    with pytest.raises(heed.ArgumentTypeError, match="k is a Tensor: it must be a NumPy array"):
        heed.attention(q, tk, tv)
    with pytest.raises(heed.ArgumentTypeError, match="v is a ndarray: it must be a PyTorch tensor"):
        heed.attention(tq, tk, v)
    with pytest.raises(heed.Error, match="v lives on the device 'meta'"):
        heed.attention(tq, tk, tv.to("meta"))
    with pytest.raises(heed.Error, match="alibi_slopes requires grad, and has none"):
        import torch
        heed.attention(tq, tk, tv, alibi_slopes=torch.ones(4, requires_grad=True))


def test_numpys_own(rng):
    q = rng.standard_normal((1, 3, 2, 8)).astype(np.float32)
    swapped = q.astype(">f4")
    with pytest.raises(heed.Error, match="q has the dtype >f4"):
        heed.attention(swapped, swapped, swapped)
    fields = np.zeros((1, 3, 2, 8), np.dtype([("a", "f4"), ("b", "i1")]))["a"]
    with pytest.raises(heed.Error, match="a stride of .* bytes"):
        heed.attention(fields, q, q)
    with pytest.raises(heed.Error, match="q has the dtype object"):
        heed.attention(q.astype(object), q, q)
    with pytest.raises(heed.Error, match=r"q has the dtype \|V0"):
        heed.attention(np.zeros(q.shape, "V0"), q, q)


def test_decode(library):
    q, k, v = qkv(library)
    cache = [arrays.in_library(library, np.zeros((2, 16, 2, d), np.float32)) for d in (8, 6)]
    lengths = arrays.in_library(library, np.array([3, 17], np.int32))
    for options, words in [
        (dict(cache_seqlens=17), "cache_seqlens is 17: it must be from 0 to 16"),
        (dict(cache_seqlens=lengths), r"cache_seqlens\[1\] is 17: it must be from 0 to 16"),
        (dict(k_new=k), "k_new is given alone"),
        (dict(k_new=k, v_new=v), "k_new is given without cache_seqlens"),
        (dict(k_new=k, v_new=v, cache_seqlens=12), r"cache_seqlens\[0\] is 12 and k_new.shape\[1\] is 7"),
        (dict(cache_batch_idx=lengths, block_table=lengths[:, None]), "cache_batch_idx is given and block_table.shape"),
        (dict(rotary_cos=q), "rotary_cos is given alone"),
        (dict(block_table=lengths), r"block_table has the shape \(2,\)"),
        (dict(cache_batch_idx=lengths[:1]), r"cache_batch_idx has the shape \(1,\): it must be \(2,\)"),
    ]:
        with pytest.raises(heed.Error, match=words):
            heed.decode(q, *cache, **options)
    with pytest.raises(heed.Error, match=r"k_cache has the shape"):
        heed.decode(q, cache[1], cache[1])
    assert not arrays.to_numpy(cache[0]).any()
    if library == "torch":
        with pytest.raises(heed.Error, match="q requires grad, and a call on a cache has no gradient"):
            heed.decode(q.requires_grad_(), *cache)
    else:
        for c in cache:
            c.flags.writeable = False
        heed.decode(q, *cache)
        with pytest.raises(heed.Error, match="read-only"):
            heed.decode(q, *cache, k_new=k, v_new=v, cache_seqlens=0)


def test_backward(library):
    q, k, v = qkv(library)
    out, lse = heed.attention(q, k, v, return_lse=True)
    for arguments, words in [
        ((out[..., :5], q, k, v, out, lse), "dout has the shape"),
        ((out, q, k, v, out, lse[..., :4]), r"lse has the shape \(2, 4, 4\): it must be \(2, 4, 5\)"),
        ((out, q, k, v, out, out), "lse has the shape"),
    ]:
        with pytest.raises(heed.Error, match=words):
            heed.attention_backward(*arguments)
    with pytest.raises(heed.Error, match="return_dbias is True and bias is None"):
        heed.attention_backward(out, q, k, v, out, lse, return_dbias=True)


def test_no_new_rows_are_none(library):
    """A step without tokens: nothing is written, also to caches that cannot be."""
    q, k, v = qkv(library)
    cache = [arrays.in_library(library, np.ones((2, 16, 2, d), np.float32)) for d in (8, 6)]
    if library == "numpy":
        for c in cache:
            c.flags.writeable = False
    lengths = arrays.in_library(library, np.array([3, 16], np.int32))
    for used in (lengths, 5, None):
        expected = heed.decode(q, *cache, cache_seqlens=used)
        got = heed.decode(q, *cache, k_new=k[:, :0], v_new=v[:, :0], cache_seqlens=used)
        assert arrays.to_numpy(got).tobytes() == arrays.to_numpy(expected).tobytes()


def test_sentences_have_no_names_of_the_library():
    """What C++ calls a field means nothing to a caller from Python."""
    q, k, v = qkv("numpy")
    cache = [np.zeros((2, 16, 2, d), np.float32) for d in (8, 6)]
    tables = lambda rows, cols: dict(rotary_cos=np.ones((rows, cols), np.float32),  # noqa: E731
                                     rotary_sin=np.ones((rows, cols), np.float32))
    ragged = lambda **o: heed.attention(q[0], k[0], v[0], cu_seqlens_q=np.array([0, 5], np.int32),  # noqa: E731
                                        cu_seqlens_k=np.array([0, 7], np.int32), **o)
    wide = np.ones((1, 2, 1, 1025), np.float32)
    long = np.broadcast_to(np.ones((1, 1, 1, 1), np.float32), (1, 70000, 1, 1))
    sentences = []
    for call in (
            *(lambda o=o: heed.attention(q, k, v, **o) for o, _, _ in BAD),
            lambda: heed.attention(wide, wide, wide[..., :4]),
            lambda: heed.attention(wide[..., :4], wide[..., :4], wide),
            lambda: heed.attention(long, long, long, return_probs=True),
            lambda: ragged(max_seqlen_q=3), lambda: ragged(max_seqlen_k=-3), lambda: ragged(max_seqlen_k=3),
            lambda: heed.explain(q, k, v, backward=True, return_dsinks=True),
            lambda: heed.explain(q, k, v, bias=q[0, 0, :1, :1], return_dbias=True),
            lambda: heed.attention(q, k, v, block_map=np.ones((1, 1), bool), block_size=(2, 2)),
            lambda: heed.attention(q, k, v, block_map=np.ones((1, 1), bool), block_size=(0, 2)),
            *(lambda o=o: heed.decode(q, *cache, **o) for o in (
                tables(20, 5), tables(2, 4), tables(0, 4), dict(window=(0, -5)),
                dict(k_new=k[:, [0] * 17], v_new=v[:, [0] * 17], cache_seqlens=0),
                dict(query_offset=np.array([1, 2], np.int32), align="top_left")))):
        with pytest.raises(heed.Error) as caught:
            call()
        sentences.append(str(caught.value))
    theirs = ("cache.", "_len ", "new_len", "q_heads", "k_heads", "dim ", "dim_v", "total_", "window_", "block_rows",
              "block_cols", "want_", "kTopLeft", "kOffset", "kBackward", "kForward", "query_offsets", ".rows", ".cols",
              ".heads", ".given", " true", " false", "Align")
    assert not [(name, s) for s in sentences for name in theirs if name in s]
