# test_flash_attn.py: flash-attn's functions by their names: signatures, every option, packed and ragged
# forms, forward and backward against plain.py. Not here: caches and pages (test_flash_attn_cache.py), the
# private names (test_flash_attn_private.py), bad input (test_flash_attn_errors.py).
import arrays
import flash
import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import heed.flash_attn as fa  # noqa: E402
from heed.flash_attn.flash_attn_interface import _flash_attn_forward, _get_block_size_n  # noqa: E402

TAIL = ("dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, "
        "alibi_slopes=None, deterministic=False, return_attn_probs=False")
SIGNATURES = {
    "flash_attn_func": f"q, k, v, {TAIL}",
    "flash_attn_kvpacked_func": f"q, kv, {TAIL}",
    "flash_attn_qkvpacked_func": f"qkv, {TAIL}",
    "flash_attn_varlen_func":
        f"q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, {TAIL}, block_table=None",
    "flash_attn_varlen_kvpacked_func": f"q, kv, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, {TAIL}",
    "flash_attn_varlen_qkvpacked_func": f"qkv, cu_seqlens, max_seqlen, {TAIL}",
    "flash_attn_with_kvcache":
        "q, k_cache, v_cache, k=None, v=None, rotary_cos=None, rotary_sin=None, cache_seqlens=None, "
        "cache_batch_idx=None, cache_leftpad=None, block_table=None, softmax_scale=None, causal=False, "
        "window_size=(-1, -1), softcap=0.0, rotary_interleaved=True, alibi_slopes=None, num_splits=0, "
        "return_softmax_lse=False",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    assert flash.signature(getattr(fa, name)) == f"({SIGNATURES[name]})"


@st.composite
def calls(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(["f32", "bf16", "f16"]))
    b, sq, sk = draw(st.integers(0, 3)), draw(st.integers(0, 40)), draw(st.integers(0, 70))
    hk, d = draw(st.integers(1, 3)), draw(st.sampled_from([1, 8, 17, 64, 260]))
    h = hk * draw(st.integers(1, 3))
    q, dout = (flash.rows(rng, (b, sq, h, d), dtype) for _ in range(2))
    kv = flash.rows(rng, (b, sk, 2, hk, d), dtype)
    return dtype, q, kv, dout, rng.standard_normal((b, h, sq)).astype(np.float32), draw(flash.scores(b, h))


@settings(max_examples=60)
@given(calls())
def test_dense(call):
    dtype, q, kv, dout, dlse, options = call
    q, kv, dout = (arrays.to_torch(x) for x in (q, kv, dout))
    q.requires_grad_(), kv.requires_grad_()
    given = flash.torch_options(options)
    out, lse, probs = fa.flash_attn_kvpacked_func(q, kv, **given, return_attn_probs=True)
    grads = torch.autograd.grad((out, lse), (q, kv), (dout, torch.from_numpy(dlse)))
    assert probs.shape == (0,) and out.dtype == q.dtype and lse.dtype == torch.float32
    mine = flash.contract(**options)
    numpy = {n: x.detach() for n, x in {"q": q, "k": kv[:, :, 0], "v": kv[:, :, 1], "dout": dout}.items()}
    numpy = {n: x.float().numpy() for n, x in numpy.items()}
    arrays.check_forward(dtype, numpy["q"], numpy["k"], numpy["v"], mine, out, flash.finite_lse(lse))
    arrays.check_backward(dtype, *numpy.values(), mine, {
        "dq": grads[0], "dk": grads[1][:, :, 0], "dv": grads[1][:, :, 1]}, dlse)
    k, v = kv.unbind(2)
    assert torch.equal(out, fa.flash_attn_func(q, k, v, **given))


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_qkvpacked(rng, dtype):
    qkv = arrays.to_torch(flash.rows(rng, (2, 19, 3, 4, 24), dtype)).requires_grad_()
    dout = arrays.to_torch(flash.rows(rng, (2, 19, 4, 24), dtype))
    out = fa.flash_attn_qkvpacked_func(qkv, 0.0, None, True, (5, 0))
    grad, = torch.autograd.grad(out, qkv, dout)
    q, k, v = (x.float().numpy() for x in qkv.detach().unbind(2))
    mine = flash.contract(None, True, (5, 0))
    arrays.check_forward(dtype, q, k, v, mine, out)
    arrays.check_backward(dtype, q, k, v, dout.float().numpy(), mine,
                          {"dq": grad[:, :, 0], "dk": grad[:, :, 1], "dv": grad[:, :, 2]})
    ragged = fa.flash_attn_varlen_qkvpacked_func(qkv.flatten(0, 1), torch.tensor([0, 19, 38], dtype=torch.int32),
                                                 19, 0.0, None, True, (5, 0))
    assert torch.equal(ragged.view_as(out), out)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 40)), min_size=0, max_size=4), st.data(),
       st.sampled_from(["f32", "bf16"]), st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_varlen(sizes, data, dtype, rest_q, rest_k, as_tensors):
    """Rows behind the last end are part of the call: zeros, and gradient 0."""
    rng = np.random.default_rng(len(sizes))
    options = data.draw(flash.scores(len(sizes), 4))
    ends = np.cumsum([(0, 0), *sizes], axis=0).astype(np.int32)
    cu_q, cu_k = (torch.from_numpy(ends[:, i].copy()) for i in (0, 1))
    longest = [max([s[i] for s in sizes], default=0) for i in (0, 1)]
    given = [torch.tensor(n) for n in longest] if as_tensors else longest
    tq, tk = int(cu_q[-1]), int(cu_k[-1])
    q = arrays.to_torch(flash.rows(rng, (tq + rest_q, 4, 16), dtype)).requires_grad_()
    kv = arrays.to_torch(flash.rows(rng, (tk + rest_k, 2, 2, 16), dtype)).requires_grad_()
    dout = arrays.to_torch(flash.rows(rng, q.shape, dtype))
    out, lse, _ = fa.flash_attn_varlen_kvpacked_func(
        q, kv, cu_q, cu_k, *given, **flash.torch_options(options), return_attn_probs=True)
    dq, dkv = torch.autograd.grad(out, (q, kv), dout)
    for beyond in (out[tq:], dq[tq:], dkv[tk:]):
        assert not beyond.any()
    mine = flash.contract(**options) | {"cu_seqlens_q": ends[:, 0], "cu_seqlens_k": ends[:, 1]}
    numpy = [x.detach().float().numpy() for x in (q[:tq], kv[:tk, 0], kv[:tk, 1], dout[:tq])]
    arrays.check_forward(dtype, *numpy[:3], mine, out[:tq], flash.finite_lse(lse)[:, :tq])
    arrays.check_backward(dtype, *numpy, mine, {"dq": dq[:tq], "dk": dkv[:tk, 0], "dv": dkv[:tk, 1]})


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_dropout_and_its_probabilities(rng, dtype, softcap):
    """The seed is PyTorch's; S_dmask tells what was dropped."""
    b, sq, sk, h, p = 2, 37, 150, 4, 0.3
    q, k, v = (arrays.to_torch(flash.rows(rng, (b, n, heads, 16), dtype)).requires_grad_()
               for n, heads in ((sq, h), (sk, 2), (sk, 2)))
    dout = arrays.to_torch(flash.rows(rng, (b, sq, h, 16), dtype))
    torch.manual_seed(7)
    out, lse, probs = fa.flash_attn_func(q, k, v, p, None, True, softcap=softcap, return_attn_probs=True)
    grads = torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)
    torch.manual_seed(7)
    again, _, _, state = _flash_attn_forward(q, k, v, p, None, True, -1, -1, softcap, None, False)
    assert torch.equal(out, again) and state.dtype == torch.int64
    torch.manual_seed(8)
    assert not torch.equal(out, fa.flash_attn_func(q, k, v, p, None, True, softcap=softcap))
    seed, offset = (n % 2**64 for n in state.tolist())
    mine = flash.contract(None, True, softcap=softcap) | {"dropout_p": p, "seed": seed, "offset": offset}
    numpy = [x.detach().float().numpy() for x in (q, k, v, dout)]
    arrays.check_forward(dtype, *numpy[:3], mine, out, flash.finite_lse(lse))
    arrays.check_backward(dtype, *numpy, mine, dict(zip(("dq", "dk", "dv"), grads)))
    assert all(map(torch.equal, grads, torch.autograd.grad(out, (q, k, v), dout)))
    assert probs.shape == (b, h, 128, 256) and probs.dtype == q.dtype
    assert _get_block_size_n(q.device, 16, True, True) >= sk  # readers then need not scale again
    assert not probs[:, :, sq:].any() and not probs[..., sk:].any()
    for i, (_, _, _, e) in enumerate(arrays.entries(*numpy[:3], mine)):
        flash.check_probs(dtype, probs[i], e, i, h, (p, seed, offset))


def test_probabilities_of_ragged_batches(rng):
    sizes, h, p = ((5, 9), (0, 3), (20, 7)), 2, 0.4
    ends = np.cumsum([(0, 0), *sizes], axis=0).astype(np.int32)
    cu_q, cu_k = (torch.from_numpy(ends[:, i].copy()) for i in (0, 1))
    q, k, v = (torch.from_numpy(flash.rows(rng, (int(n) + 200, h, 8))) for n in (ends[-1, 0], *ends[-1, [1, 1]]))
    slopes = torch.full((3, h), 0.2)
    out, lse, probs = fa.flash_attn_varlen_func(q, k, v, cu_q, cu_k, 20, 9, p, None, True, alibi_slopes=slopes,
                                                return_attn_probs=True)
    assert probs.shape == (3, h, 128, 128)
    mine = flash.contract(None, True, alibi_slopes=slopes.numpy()) | {
        "cu_seqlens_q": ends[:, 0], "cu_seqlens_k": ends[:, 1]}
    tq, tk = ends[-1]
    for i, (_, _, _, e) in enumerate(arrays.entries(q.numpy()[:tq], k.numpy()[:tk], v.numpy()[:tk], mine)):
        flash.check_probs("f32", probs[i], e)
        assert not probs[i, :, e.p.shape[1]:].any() and not probs[i, :, :, e.p.shape[2]:].any()


def test_rows_that_see_nothing(rng):
    q, k = (torch.from_numpy(flash.rows(rng, (1, n, 2, 8))).requires_grad_() for n in (9, 4))
    out, lse, _ = fa.flash_attn_func(q, k, k, causal=True, return_attn_probs=True)
    assert torch.isposinf(lse[:, :, :5]).all() and torch.isfinite(lse[:, :, 5:]).all()
    assert not out[:, :5].any()
    loss = out.sum() + lse[:, :, 5:].sum()
    assert not torch.autograd.grad(loss, q)[0][:, :5].any()
    assert torch.isposinf(fa.flash_attn_func(q, k[:, :0], k[:, :0], return_attn_probs=True)[1]).all()


def test_window_of_flash_attn_is_plains(rng):
    """A negative side is no bound, and causal takes the right one."""
    q, k, v = (torch.from_numpy(flash.rows(rng, (1, n, 1, 8))) for n in (6, 9, 9))
    same = torch.equal
    assert same(fa.flash_attn_func(q, k, v, window_size=(-1, 0)), fa.flash_attn_func(q, k, v, causal=True))
    assert same(fa.flash_attn_func(q, k, v, causal=True, window_size=(2, 5)), fa.flash_attn_func(q, k, v, window_size=(2, 0)))
    assert same(fa.flash_attn_func(q, k, v, window_size=(-7, -9)), fa.flash_attn_func(q, k, v))
    assert same(fa.flash_attn_func(q, k, v, window_size=(None, 0)), fa.flash_attn_func(q, k, v, causal=True))
    visible, _ = plain.sees(6, 9, window=(2, 0))
    assert visible.sum() == 18 and visible[0].nonzero()[0].tolist() == [1, 2, 3]


def test_what_flash_attn_copies(rng):
    """A last stride that is not 1, and a gradient that is expanded."""
    q, k, v = (torch.from_numpy(flash.rows(rng, (1, 16, 2, 8))) for _ in range(3))
    turned = q.transpose(1, 3).contiguous().transpose(1, 3).requires_grad_()
    out = fa.flash_attn_func(turned, k, v)
    assert torch.equal(out, fa.flash_attn_func(q, k, v))
    out.sum().backward()
    assert turned.grad.shape == q.shape


@pytest.mark.parametrize("probs", [False, True])
def test_compiles_in_one_graph(rng, probs):
    q, k, v = (torch.from_numpy(flash.rows(rng, (1, n, 2, 16))).requires_grad_() for n in (9, 12, 12))
    cu_q, cu_k = (torch.tensor([0, n], dtype=torch.int32) for n in (9, 12))

    def both(q, k, v):
        dense = fa.flash_attn_func(q, k, v, causal=True, window_size=(4, 0), return_attn_probs=probs)
        ragged = fa.flash_attn_varlen_func(q[0], k[0], v[0], cu_q, cu_k, 9, 12, return_attn_probs=probs)
        return (dense[0] + ragged[0], dense[1]) if probs else (dense + ragged,)

    results = torch.compile(both, fullgraph=True, backend="aot_eager")(q, k, v)
    assert all(map(torch.equal, results, both(q, k, v)))
    assert all(map(torch.equal, torch.autograd.grad(results[0].sum(), (q, k, v)),
                   torch.autograd.grad(both(q, k, v)[0].sum(), (q, k, v))))


def test_autocast_and_checkpoint(rng):
    q, k, v = (torch.from_numpy(flash.rows(rng, (1, 16, 2, 8))).requires_grad_() for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        assert fa.flash_attn_func(q, k, v).dtype == torch.bfloat16

    def dropped(q, k, v):
        return fa.flash_attn_func(q, k, v, 0.5)
    torch.manual_seed(1)
    out = torch.utils.checkpoint.checkpoint(dropped, q, k, v, use_reentrant=False)
    torch.manual_seed(1)
    expected = dropped(q, k, v)
    assert torch.equal(torch.autograd.grad(out.sum(), q)[0], torch.autograd.grad(expected.sum(), q)[0])
