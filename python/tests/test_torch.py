# test_torch.py: what PyTorch's tools expect of heed.attention and heed.decode: gradients, compile, export,
# transforms, autocast, checkpoints, counters, seeds. Not here: numbers (test_options.py).
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import heed  # noqa: E402
from heed import _core, _torch, flash_attn  # noqa: E402, F401


def tensors(sq=5, sk=7, h=4, hk=2, d=8, dv=6, b=2, dtype=torch.float32, grad=False):
    torch.manual_seed(sq * 100 + sk)
    return [torch.randn(b, s, n, w, dtype=dtype).requires_grad_(grad)
            for s, n, w in ((sq, h, d), (sk, hk, d), (sk, hk, dv))]


def causal(q, k, v):
    return heed.attention(q, k, v, causal=True)


def same(a, b):
    assert torch.equal(a, b), float((a - b).abs().max())


@pytest.mark.parametrize("options", [{}, {"causal": True, "softcap": 2.0}, {"window": (2, 1), "sinks": True},
                                     {"dropout_p": 0.3, "seed": 7}, {"alibi": True, "bias": True}])
def test_gradcheck(options):
    options = dict(options)
    x = tensors(dtype=torch.float64, grad=True)
    extra = {}
    if options.pop("alibi", False):
        options["alibi_slopes"] = torch.rand(4)
    if options.pop("bias", False):
        extra["bias"] = torch.randn(1, 4, 5, 1, dtype=torch.float64, requires_grad=True)
    if options.pop("sinks", False):
        options["sinks"] = torch.randn(4)
    names = list(extra)
    call = lambda *a: heed.attention(*a[:3], backend="reference", **options, **dict(zip(names, a[3:])))  # noqa: E731
    assert torch.autograd.gradcheck(call, (*x, *extra.values()))


def test_gradcheck_of_the_engine():
    """In f32 a difference quotient has few digits: steps of 1e-2, errors of curvature and rounding."""
    x = tensors(grad=True)
    call = lambda q, k, v: heed.attention(q, k, v, causal=True, return_lse=True)  # noqa: E731
    assert torch.autograd.gradcheck(call, x, eps=1e-2, atol=2e-3, rtol=2e-2)


N = None


def operator_arguments(x, bias=N, sinks=N, cu=N, rng=N, probs=False):
    longest = (N, N) if cu is N else (6, 6)
    return (*x, bias, N, N, N, sinks, N, N, cu, cu, rng, 0.3, True, "bottom_right", N, -1, -1, 0, 0, 0.0, 0, 0,
            *longest, 0.0 if rng is N else 0.2, N, N, probs)


@pytest.mark.parametrize("arguments", [
    operator_arguments(tensors(grad=True), torch.randn(1, 4, 5, 7, requires_grad=True),
                       torch.randn(4, requires_grad=True), rng=torch.tensor([1, -2])),
    operator_arguments(tensors(dtype=torch.bfloat16), probs=True),
    operator_arguments([t.flatten(0, 1)[:9] for t in tensors(sk=5)], probs=True,
                       cu=torch.tensor([0, 3, 9], dtype=torch.int32)),
])
def test_opcheck_forward(arguments):
    torch.library.opcheck(torch.ops.heed.attention_forward.default, arguments)


def test_opcheck_backward():
    x = tensors()
    arguments = operator_arguments(x, torch.randn(4, 5, 1), torch.randn(4))
    out, lse, _ = torch.ops.heed.attention_forward(*arguments)
    torch.library.opcheck(torch.ops.heed.attention_backward.default,
                          (torch.randn_like(out), lse, *x, out, lse, *arguments[3:-1], True, True))


def cache(dtype=torch.float32):
    torch.manual_seed(1)
    return torch.randn(2, 16, 2, 8, dtype=dtype), torch.randn(2, 16, 2, 6, dtype=dtype)


def test_opcheck_decode():
    q, k, v = tensors(sq=1, sk=1)
    lengths = torch.tensor([3, 15], dtype=torch.int32)
    tail = (N, N, lengths, N, N, N, N, N, N, N, N, N, N, False, N, True, "bottom_right", N, -1, -1, 0, 0, 0.0, 0, 0,
            N, N)
    torch.library.opcheck(torch.ops.heed.decode.default, (q, *cache(), N, N, *tail))
    torch.library.opcheck(torch.ops.heed.decode_append.default, (q, *cache(), k, v, *tail))


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(dynamic, backend):
    torch._dynamo.reset()
    compiled = torch.compile(causal, fullgraph=True, dynamic=dynamic, backend=backend)
    for sq, sk in ((5, 7), (9, 11), (12, 12)):
        x = tensors(sq, sk, grad=True)
        out = compiled(*x)
        same(out, causal(*x))
        for mine, theirs in zip(torch.autograd.grad(out.sum(), x), torch.autograd.grad(causal(*x).sum(), x)):
            same(mine, theirs)
        with torch.no_grad():
            same(compiled(*x), out)


def test_compile_dropout_and_decode():
    torch._dynamo.reset()
    drop = lambda *a: heed.attention(*a, dropout_p=0.4)  # noqa: E731
    compiled = torch.compile(drop, fullgraph=True, backend="aot_eager")
    x = tensors(grad=True)
    torch.manual_seed(3)
    first = compiled(*x)
    torch.manual_seed(3)
    same(first, drop(*x))
    first.sum().backward()

    def step(q, k_cache, v_cache, k, v, lengths):
        return heed.decode(q, k_cache, v_cache, k_new=k, v_new=v, cache_seqlens=lengths, causal=True)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    q, k, v = tensors(sq=1, sk=1)
    (k1, v1), (k2, v2) = cache(), cache()
    lengths = torch.tensor([3, 15], dtype=torch.int32)
    same(compiled(q, k1, v1, k, v, lengths), step(q, k2, v2, k, v, lengths))
    same(k1, k2)
    same(v1, v2)
    assert not torch.equal(k1, cache()[0])


def test_compile_backward():
    torch._dynamo.reset()

    def both(q, k, v, bias, dout):
        out, lse = heed.attention(q, k, v, bias=bias, causal=True, return_lse=True)
        return heed.attention_backward(dout, q, k, v, out, lse, bias=bias, causal=True, return_dbias=True)
    arguments = (*tensors(), torch.randn(4, 5, 1), torch.randn(2, 5, 4, 6))
    for mine, theirs in zip(torch.compile(both, fullgraph=True, backend="aot_eager")(*arguments), both(*arguments)):
        same(mine, theirs)


def test_export():
    class Module(torch.nn.Module):
        def forward(self, q, k, v):
            return causal(q, k, v)
    x = tensors()
    same(torch.export.export(Module(), tuple(x)).module()(*x), causal(*x))


def test_vmap():
    q, k, v = tensors()
    two = [torch.stack([t, 2 * t]) for t in (q, k, v)]
    out = torch.func.vmap(causal)(*two)
    same(out[1], causal(2 * q, 2 * k, 2 * v))
    same(torch.func.vmap(causal, in_dims=(0, None, None))(two[0], k, v)[1], causal(2 * q, k, v))
    same(torch.func.vmap(causal, in_dims=3, out_dims=3)(*(t.movedim(0, 3) for t in two))[..., 1, :],
         causal(2 * q, 2 * k, 2 * v))


def test_vmap_of_options():
    q, k, v = tensors()
    bias, mask = torch.randn(2, 4, 5, 7), torch.rand(2, 2, 1, 5, 7) < 0.6
    alibi, lengths = torch.rand(2, 4), torch.tensor([[3, 7], [0, 5]], dtype=torch.int32)
    sinks = torch.randn(2, 4)

    def call(bias, mask, alibi, lengths):
        return heed.attention(q, k, v, bias=bias, mask=mask, alibi_slopes=alibi, key_lengths=lengths)
    mapped = torch.func.vmap(call)(bias, mask, alibi, lengths)
    for i in range(2):
        same(mapped[i], call(bias[i], mask[i], alibi[i], lengths[i]))
    with_sinks = lambda s: heed.attention(q, k, v, sinks=s)  # noqa: E731
    same(torch.func.vmap(with_sinks)(sinks)[1], with_sinks(sinks[1]))
    cu = torch.tensor([0, 2, 5], dtype=torch.int32)
    ragged = lambda q: heed.attention(q, q, q, cu_seqlens_q=cu, cu_seqlens_k=cu, max_seqlen_q=3, max_seqlen_k=3)  # noqa: E731
    many = torch.randn(3, 5, 2, 8)
    same(torch.func.vmap(ragged)(many)[2], ragged(many[2]))


def test_torch_func_grad():
    q, k, v = tensors()
    loss = lambda q: (causal(q, k, v) ** 2).sum()  # noqa: E731
    leaf = q.clone().requires_grad_()
    loss(leaf).backward()
    torch.testing.assert_close(torch.func.grad(loss)(q), leaf.grad)
    two = torch.stack([q, 3 * q])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(two)[0], leaf.grad)


def test_checkpoint():
    from torch.utils.checkpoint import checkpoint
    drop = lambda *a: heed.attention(*a, dropout_p=0.4)  # noqa: E731
    x = tensors(grad=True)
    torch.manual_seed(1)
    stored = torch.autograd.grad(drop(*x).sum(), x)
    torch.manual_seed(1)
    again = torch.autograd.grad(checkpoint(drop, *x, use_reentrant=False).sum(), x)
    for a, b in zip(stored, again):
        same(a, b)


def test_autocast():
    x = tensors(grad=True)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            out = causal(*x)
        assert out.dtype == dtype
        same(out, causal(*(t.to(dtype) for t in x)))
        assert all(g.dtype == torch.float32 for g in torch.autograd.grad(out.float().sum(), x))
    with torch.autocast("cpu"), torch.no_grad():
        assert causal(*x).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_on_a_cache(dtype):
    """Queries and new keys come as autocast made them; the cache says in what is computed."""
    q, cache = torch.randn(2, 3, 4, 8), torch.randn(2, 9, 4, 8).to(dtype)
    with torch.autocast("cpu"):
        out = heed.decode(q.bfloat16(), cache, cache.clone(), cache_seqlens=5)
    same(out, heed.decode(q.bfloat16().to(dtype), cache, cache.clone(), cache_seqlens=5))


def test_flops():
    from torch.utils.flop_counter import FlopCounterMode
    for x in (tensors(), tensors(grad=True)):
        with FlopCounterMode(display=False) as counter:
            causal(*x)
        assert counter.get_total_flops() == 2 * (8 + 6) * 2 * 4 * 5 * 7
    with FlopCounterMode(display=False) as counter:
        causal(*tensors(grad=True)).sum().backward()
    assert counter.get_total_flops() == (2 * (8 + 6) + 2 * (3 * 8 + 2 * 6)) * 2 * 4 * 5 * 7


def test_seeds_are_pytorchs():
    x = tensors(sq=32, sk=32)
    draw = lambda **seed: heed.attention(*x, dropout_p=0.5, **seed)  # noqa: E731
    torch.manual_seed(5)
    first, second = draw(), draw()
    torch.manual_seed(5)
    same(draw(), first)
    assert not torch.equal(first, second)
    rng = torch.tensor([12, -1])
    same(draw(seed=rng), draw(seed=12, offset=2**64 - 1))
    leaves = [t.clone().requires_grad_() for t in x]
    same(heed.attention(*leaves, dropout_p=0.5, seed=2**63 + 1).detach(), draw(seed=2**63 + 1))


def test_a_second_derivative_and_forward_mode_are_refused():
    x = tensors(grad=True)
    grad, = torch.autograd.grad(causal(*x).sum(), x[0], create_graph=True)
    with pytest.raises(heed.Error, match="second derivative"):
        grad.sum().backward()
    q, k, v = tensors()
    with pytest.raises(heed.Error, match="jvp"):
        torch.func.jvp(lambda q: causal(q, k, v), (q,), (q,))
    with torch.autograd.forward_ad.dual_level(), pytest.raises(heed.Error, match="jvp"):
        causal(torch.autograd.forward_ad.make_dual(q, q), k, v)


def test_meta_and_fake_tensors():
    x = [t.to("meta") for t in tensors()]
    out, lse = heed.attention(*x, return_lse=True)
    assert out.device.type == "meta" and out.shape == (2, 5, 4, 6) and lse.shape == (2, 4, 5)
    assert heed.explain(*x).backend == "cpu"
    from torch._subclasses import FakeTensorMode
    with FakeTensorMode():
        assert causal(*tensors()).shape == (2, 5, 4, 6)


def test_gradients_repeat_and_accumulate():
    x = tensors(grad=True)
    out = causal(*x)
    first = torch.autograd.grad(out.sum(), x, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(out.sum(), x)):  # an expanded dout: no stride is 1
        same(a, b)
    _, lse = heed.attention(*x, return_lse=True)
    assert torch.autograd.grad(lse.sum(), x[1])[0].abs().sum() > 0  # through lse alone
    _, probs = heed.attention(*x, return_probs=True)
    assert not probs.requires_grad


def test_only_what_needs_a_gradient_gets_one():
    q, k, v = tensors()
    v.requires_grad_()
    causal(q, k, v).sum().backward()
    assert v.grad is not None and q.grad is None
    bias = torch.randn(4, 1, 7, requires_grad=True)
    heed.attention(q, k, v, bias=bias).sum().backward()
    assert bias.grad.shape == bias.shape


def test_views_with_another_sign():
    """The memory of such a view holds the values with the other sign; one entry a row, for strides are 2."""
    q = torch.randn(2, 5, 4, 1, dtype=torch.complex64).conj().imag
    k, v = torch.randn(2, 5, 4, 1), torch.randn(2, 5, 4, 3)
    assert q.is_neg()
    expected = causal(q.resolve_neg(), k, v)
    assert not torch.equal(expected, causal(-q.resolve_neg(), k, v))
    same(causal(q, k, v), expected)
    same(causal(q, k.clone().requires_grad_(), v), expected)


def test_old_pytorch():
    """Without DLPack's exchange interface, as PyTorch before 2.10: by a tensor's attributes."""
    code = (
        "import torch\n"
        "q = torch.randn(2, 5, 4, 8).transpose(1, 2)\n"
        "import heed\n"
        "expected = heed.attention(q, q, q, causal=True, return_lse=True)\n"
        "heed._core.use_torch(torch, False)\n"
        "again = heed.attention(q, q, q, causal=True, return_lse=True)\n"
        "assert all(torch.equal(a, b) for a, b in zip(expected, again))\n"
        "b = q.bfloat16()\n"
        "assert heed.attention(b, b, b).dtype == torch.bfloat16\n"
        "try:\n"
        "    heed.attention(q, q, q.to('meta'))\n"
        "except heed.Error as error:\n"
        "    assert 'meta' in str(error), error\n"
        "else:\n"
        "    raise SystemExit('meta data was computed on')\n")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_deterministic_mode():
    """torch.use_deterministic_algorithms refuses nothing of heed's and changes no bit: there is no other way."""
    cu = torch.tensor([0, 3, 7], dtype=torch.int32)
    bias = torch.randn(1, 4, 7, 7, requires_grad=True)

    def gradients():
        torch.manual_seed(3)
        q, k, v = (torch.randn(2, 7, 4, 8, requires_grad=True) for _ in range(3))
        out = heed.attention(q, k, v, causal=True, bias=bias, dropout_p=0.2)
        packed = flash_attn.flash_attn_varlen_func(q[0], k[0], v[0], cu, cu, 4, 4, dropout_p=0.1)
        return torch.autograd.grad(out.square().sum() + packed.square().sum(), (q, k, v, bias))

    before = gradients()
    torch.use_deterministic_algorithms(True)
    try:
        assert all(torch.equal(a, b) for a, b in zip(gradients(), before))
    finally:
        torch.use_deterministic_algorithms(False)
