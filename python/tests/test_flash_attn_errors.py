# test_flash_attn_errors.py: nonsense given to heed.flash_attn: a sentence each, a RuntimeError. Not here:
# what is served (test_flash_attn.py and its neighbours).
import pytest

torch = pytest.importorskip("torch")
import heed  # noqa: E402
import heed.flash_attn as fa  # noqa: E402
from heed.flash_attn import flash_attn_3, flash_attn_interface  # noqa: E402

Q = torch.ones(2, 6, 4, 8)
K = torch.ones(2, 9, 2, 8)
T = torch.ones(12, 4, 8)
CU = torch.tensor([0, 5, 12], dtype=torch.int32)
CACHE = torch.ones(2, 16, 2, 8)
ROTARY = torch.ones(20, 4)


def dense(q=Q, k=K, v=K, *args, **options):
    return lambda: fa.flash_attn_func(q, k, v, *args, **options)


def ragged(q=T, cu_q=CU, cu_k=CU, max_q=7, max_k=7, **options):
    return lambda: fa.flash_attn_varlen_func(q, q, q, cu_q, cu_k, max_q, max_k, **options)


def cache(**options):
    return lambda: fa.flash_attn_with_kvcache(options.pop("q", Q), options.pop("k_cache", CACHE), CACHE, **options)


CASES = {
    "a list": (dense(Q.tolist()), "q is a list"),
    "NumPy": (dense(Q.numpy()), "q is a ndarray"),
    "none": (dense(Q, None), "k is a NoneType"),
    "two dtypes": (dense(Q.half()), "k is f32 and q is f16"),
    "float64": (dense(Q.double(), K.double(), K.double()), "dtype is f64"),
    "integers": (dense(Q.int(), K.int(), K.int()), "q has the dtype int32"),
    "axes": (dense(Q[0]), r"q has the shape \(6, 4, 8\)"),
    "heads": (dense(Q[:, :, :3]), "heads"),
    "dropout 1": (dense(Q, K, K, 1.0), "dropout_p is 1"),
    "dropout below 0": (dense(Q, K, K, -0.1), "dropout_p is -0.1"),
    "dropout, probabilities": (dense(Q, K, K, 1.5, return_attn_probs=True), "dropout_p is 1.5"),
    "scale NaN": (dense(Q, K, K, 0.0, float("nan")), "scale is nan"),
    "softcap NaN": (dense(softcap=float("nan")), "softcap is nan"),
    "window of one": (dense(window_size=(3,)), "window_size is"),
    "window of floats": (dense(window_size=(1.5, 2)), "window_size is"),
    "window of words": (dense(window_size="ab"), "window_size is"),
    "slopes in f64": (dense(alibi_slopes=torch.ones(4).double()), "alibi_slopes has the dtype"),
    "slopes of another size": (dense(alibi_slopes=torch.ones(3)), "alibi_slopes has the shape"),
    "slopes that learn": (dense(alibi_slopes=torch.ones(4, requires_grad=True)), "alibi_slopes requires grad"),
    "qkv of two": (lambda: fa.flash_attn_qkvpacked_func(K[:, :, None]), r"qkv has the shape \(2, 9, 1, 2, 8\)"),
    "kv without its axis": (lambda: fa.flash_attn_kvpacked_func(Q, K), r"kv has the shape \(2, 9, 2, 8\)"),
    "int64 cu_seqlens": (ragged(cu_q=CU.long()), "cu_seqlens_q has the dtype torch.int64: it must be int32"),
    "cu_seqlens as a list": (ragged(cu_k=[0, 5, 12]), "cu_seqlens_k is a list"),
    "falling cu_seqlens": (ragged(cu_q=torch.tensor([0, 7, 5], dtype=torch.int32)), "cu_seqlens_q"),
    "cu_seqlens beyond": (ragged(cu_q=CU + 1), "cu_seqlens_q"),
    "max_seqlen too small": (ragged(max_q=3), "max_seqlen_q 3"),
    "max_seqlen in words": (ragged(max_q="7"), "max_seqlen_q is '7'"),
    "table in int64": (lambda: fa.flash_attn_varlen_func(T, CACHE, CACHE, CU, CU, 7, 7, block_table=CU.long()[None]),
                       "block_table has the dtype torch.int64"),
    "table, keys without pages": (
        ragged(block_table=torch.ones(2, 3, dtype=torch.int32)), r"k has the shape \(12, 4, 8\)"),
    "page that is not": (lambda: fa.flash_attn_varlen_func(
        T, CACHE, CACHE, torch.tensor([0, 1, 12], dtype=torch.int32), CU, 11, 7,
        block_table=torch.full((2, 1), 2, dtype=torch.int32)), r"block_table\[0, 0\] is 2|block_table"),
    "used beyond its slot": (lambda: flash_attn_interface._flash_attn_varlen_forward(
        T, T, T, CU, CU, 7, 7, 0.0, None, False, leftpad_k=torch.tensor([6, 0], dtype=torch.int32)),
        r"leftpad_k\[0\] is 6: it must be from 0 to 5"),
    "seqused of another size": (lambda: flash_attn_interface._flash_attn_varlen_forward(
        T, T, T, CU, CU, 7, 7, 0.0, None, False, seqused_k=CU), r"seqused_k has the shape \(3,\)"),
    "new keys alone": (cache(k=Q[:, :1, :2], cache_seqlens=3), "k is given alone: new rows need k and v"),
    "no place for new keys": (cache(k=Q[:, :1, :2], v=Q[:, :1, :2]), "without cache_seqlens"),
    "full": (cache(k_cache=CACHE.clone(), k=Q[:, :1, :2], v=Q[:, :1, :2], cache_seqlens=16), "16"),
    "one cache for both": (cache(k=Q[:, :1, :2], v=Q[:, :1, :2], cache_seqlens=3), "k_cache is written and overlaps"),
    "int64 lengths": (cache(cache_seqlens=torch.tensor([3, 4])), "cache_seqlens has the dtype torch.int64"),
    "slots and pages": (cache(cache_seqlens=3, cache_batch_idx=CU[:2], block_table=CU[None, :2].repeat(2, 1)),
                        "the block table already names the pages"),
    "turning without sine": (cache(k=Q[:, :1, :2], v=Q[:, :1, :2], cache_seqlens=3, rotary_cos=ROTARY),
                             "rotary"),
    "cache of stride 2": (cache(k_cache=torch.ones(2, 16, 2, 16)[..., ::2]), "k_cache has a stride of 2"),
    "cache is no tensor": (cache(k_cache=[1]), "k_cache is a list"),
    "softcap in words": (dense(softcap="a"), "softcap is 'a': it must be a number"),
    "no dropout at all": (dense(Q, K, K, None), "dropout_p is a NoneType"),
    "dropout in words": (dense(Q, K, K, "a", return_attn_probs=True), "dropout_p is a str"),
    "more rows than pages": (cache(cache_seqlens=31, k=torch.ones(2, 2, 2, 8), v=torch.ones(2, 2, 2, 8),
                                   block_table=torch.tensor([[0, 1], [1, 0]], dtype=torch.int32)),
                             "goes up to 31, with 2 new rows: the 2 pages of an entry in block_table hold 32 rows"),
    "splits in words": (cache(num_splits="a"), "num_splits is 'a': it must be an integer"),
    "table without cu_seqlens": (ragged(cu_q=None, block_table=CU[None]), "cu_seqlens_q is a NoneType"),
    "half a length": (cache(cache_seqlens=2.5), "cache_seqlens is a float"),
    "page below 0": (cache(cache_seqlens=7, block_table=torch.full((2, 1), -1, dtype=torch.int32)), "is -1"),
    "splits": (cache(num_splits=129), "num_splits is 129"),
    "descale of f32": (lambda: flash_attn_3.flash_attn_func(Q, K, K, q_descale=torch.ones(2, 2)), "q_descale"),
    "qv of another shape": (lambda: flash_attn_3.flash_attn_func(Q, K, K, qv=Q[..., :4]), "qv has the shape"),
    "qv and a cache": (lambda: flash_attn_3.flash_attn_with_kvcache(Q, CACHE, CACHE, qv=Q), "qv is given"),
    "qkv heads": (lambda: flash_attn_3.flash_attn_qkvpacked_func(Q, num_heads_q=1), "num_heads_q is 1"),
    "sinks of another size": (lambda: flash_attn_3.flash_attn_func(Q, K, K, s_aux=torch.ones(3)), "s_aux has the shape"),
}


@pytest.mark.parametrize("what", CASES)
def test_refused(what):
    call, words = CASES[what]
    with pytest.raises(RuntimeError, match=words) as caught:
        call()
    assert isinstance(caught.value, heed.Error), repr(caught.value)
