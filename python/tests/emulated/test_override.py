# test_override.py: override_torch for the operators that PyTorch's flash and memory-efficient backends call on
# CUDA, which it then differentiates itself. This PyTorch has no kernels of its own there: stand-ins show that
# they are kept, called once and put back. On emulated devices. Not here: the CPU's (test_sdpa_override*.py).
import sys

import pytest
import python_calls
import torch

import heed
from heed import sdpa
from heed.sdpa import _kernels_cuda

FLASH = "aten::_scaled_dot_product_flash_attention"
EFFICIENT = "aten::_scaled_dot_product_efficient_attention"
VARLEN = "aten::_flash_attention"
OPERATORS = (FLASH, FLASH + "_backward", VARLEN + "_forward", VARLEN + "_backward", EFFICIENT, EFFICIENT + "_backward")


def has_kernel(name):
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")


def bhsd(dtype=torch.float16, sq=33, sk=33, h=4, hk=4, grad=True, contiguous=True):
    made = python_calls.qkv(torch.device("cuda", 0), dtype, sq=sq, sk=sk, h=h, hk=hk)
    made = [t.transpose(1, 2) for t in made]
    return [(t.contiguous() if contiguous else t).requires_grad_(grad) for t in made]


def judge(q, k, v, out, grads, **options):
    turned = [t.transpose(1, 2) for t in (q, k, v, out)]
    python_calls.judge(*turned, None, [t.transpose(1, 2) for t in grads], torch.ones_like(turned[3]), **options)


def test_registered_and_removed():
    assert not any(map(has_kernel, OPERATORS))
    with sdpa.override_torch():
        assert all(map(has_kernel, OPERATORS))
        with sdpa.override_torch():
            pass
        assert all(map(has_kernel, OPERATORS))
    assert not any(map(has_kernel, OPERATORS))


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_flash(engine, devices, causal, contiguous):
    q, k, v = bhsd(torch.bfloat16, hk=2, contiguous=contiguous)
    devices.log.clear()
    with sdpa.override_torch(strict=True) as handle, devices.nothing_waits():
        out, lse, cum_q, cum_k, max_q, max_k, state, unused, debug = torch.ops.aten._scaled_dot_product_flash_attention(
            q, k, v, 0.0, causal, scale=0.2)
        grads = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
        assert handle.served == 2
    assert (cum_q, cum_k, max_q, max_k, debug.numel()) == (None, None, 33, 33, 0) and tuple(state.shape) == (2,)
    assert out.stride() == torch.empty_like(q).stride()
    assert [g.stride() for g in grads] == [t.stride() for t in (q, k, v)]
    judge(q, k, v, out, grads, causal=causal, scale=0.2)
    reference = heed.attention(*(t.transpose(1, 2) for t in (q, k, v)), causal=causal, scale=0.2, return_lse=True)[1]
    assert torch.equal(lse, reference)
    assert not [name for name in devices.log if "scaled_dot_product" in name], "nothing calls an operator of PyTorch's"


def test_flash_rows_that_see_nothing(engine):
    """Causal is bottom right there, and lse +∞."""
    q, k, v = bhsd(sq=40, sk=33)
    with sdpa.override_torch(strict=True):
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True)
        grads = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
    assert torch.isposinf(lse[..., :7].cpu()).all() and not out[:, :, :7].any() and not grads[0][:, :, :7].any()
    judge(q, k, v, out, grads, causal=True)


def test_varlen(engine, devices):
    q, k, v, (cu_q, cu_k), lengths = python_calls.ragged(torch.device("cuda", 0), torch.bfloat16, grad=True)
    ones, forward = torch.ones_like(q), torch.ops.aten._flash_attention_forward
    options = dict(scale=0.2, window_size_left=6, window_size_right=0)
    with sdpa.override_torch(strict=True) as handle, devices.nothing_waits():
        out, lse, *_ = forward(q, k, v, cu_q, cu_k, 17, 30, 0.0, False, False, **options)
        grads = torch.autograd.grad(out, (q, k, v), ones)
        assert handle.served == 2
    at_q = at_k = 0
    for n_q, n_k in lengths:
        rows, keys = slice(at_q, at_q + n_q), slice(at_k, at_k + n_k)
        python_calls.judge(q[None, rows], k[None, keys], v[None, keys], out[None, rows], lse[None, :, rows],
                           (grads[0][None, rows], grads[1][None, keys], grads[2][None, keys]), ones[None, rows],
                           scale=0.2, window=(6, 0))
        at_q, at_k = at_q + n_q, at_k + n_k
    from torch.nn.attention.varlen import varlen_attn
    with sdpa.override_torch(strict=True) as handle:
        theirs = varlen_attn(q, k, v, cu_q, cu_k, 17, 30, scale=0.2, window_size=(6, 0), enable_gqa=True)
        assert torch.equal(theirs, out) and handle.served == 1
        with pytest.raises(heed.Error, match="block_table is given"):
            forward(q, k, v, cu_q, cu_k, 17, 30, 0.0, False, False, block_table=cu_q[None])
    # Of four axes, with lengths; a row that sees nothing has +∞.
    q, k, v = python_calls.qkv(torch.device("cuda", 0))
    used = torch.tensor([45, 0], dtype=torch.int32, device="cuda")
    with sdpa.override_torch(strict=True):
        out, lse, *_ = forward(q, k, v, None, None, 33, 45, 0.0, True, False, seqused_k=used)
    python_calls.judge(q[:1], k[:1], v[:1], out[:1], lse[:1], causal=True)
    assert not out[1].any() and torch.isposinf(lse[1].cpu()).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("with_bias", [True, False])
def test_efficient(engine, devices, dtype, with_bias):
    engine.be(750)  # what PyTorch chooses on Turing
    q, k, v = bhsd(dtype, sk=45)
    bias = None
    if with_bias:
        bias, = python_calls.tensors(torch.device("cuda", 0), dtype, (2, 4, 33, 45), grad=True)
    with sdpa.override_torch(strict=True) as handle, devices.nothing_waits():
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, 0.0, not with_bias)
        wanted = (q, k, v) if bias is None else (q, k, v, bias)
        grads = torch.autograd.grad(out, wanted, torch.ones_like(out))
        assert handle.served == 2
        _, none, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q.detach(), k.detach(), v.detach(), None,
                                                                             False)
    assert tuple(none.shape) == (2, 4, 0) and tuple(lse.shape) == (2, 4, 64), "rows up to a multiple of 32"
    assert out.transpose(1, 2).is_contiguous()
    judge(q, k, v, out, grads[:3], causal=not with_bias, bias=bias, align="top_left")
    if with_bias:
        assert grads[3].shape == bias.shape and grads[3].stride(-2) == 48
        mine, = torch.autograd.grad(heed.attention(*(t.transpose(1, 2) for t in (q, k, v)), bias=bias).sum(), bias)
        assert torch.equal(grads[3], mine)


def test_strides_are_those_of_the_shapes_that_pytorch_expects(engine):
    """Compiled code is made for what the operators' meta kernels say."""
    for contiguous in (True, False):
        q, k, v = bhsd(grad=False, contiguous=contiguous)
        low = [torch.empty_like(t, device="meta") for t in (q, k, v)]
        with sdpa.override_torch(strict=True):
            for call in (lambda x: torch.ops.aten._scaled_dot_product_flash_attention(*x)[:2],
                         lambda x: torch.ops.aten._scaled_dot_product_efficient_attention(*x, None, True)[:2]):
                for mine, meta in zip(call((q, k, v)), call(low)):
                    assert (mine.shape, mine.stride(), mine.dtype) == (meta.shape, meta.stride(), meta.dtype)


def test_what_is_refused_is_pytorchs(engine):
    """Its kernel is called as a kernel: neither calls the other for ever; and it is back in the end."""
    called = []
    library = torch.library.Library("aten", "IMPL")

    def own(q, k, v, bias, lse, dropout_p=0.0, causal=False, *, scale=None):
        called.append(dropout_p)
        state = torch.zeros((), dtype=torch.int64)
        return torch.zeros_like(q), q.new_empty((2, 4, 0)), state, state.clone()

    library.impl("_scaled_dot_product_efficient_attention", own, "CUDA")
    operator = torch.ops.aten._scaled_dot_product_efficient_attention
    q, k, v = bhsd(grad=False)
    depth = sys.getrecursionlimit()
    try:
        assert not operator(q, k, v, None, False)[0].any() and called == [0.0]
        with sdpa.override_torch() as handle:
            assert operator(q, k, v, None, False)[0].any() and called == [0.0]
            operator(q, k, v, None, False, 0.25)
            assert called == [0.0, 0.25] and (handle.served, handle.kept) == (1, 1)
            assert "its backward would have to drop the same" in next(iter(handle.kept_because))
            wide = [torch.zeros(1, 4, 9, 300, dtype=q.dtype, device="cuda") for _ in range(3)]
            operator(*wide, None, False)
            assert any("up to 256" in reason for reason in handle.kept_because) and handle.kept == 2
            with sdpa.override_torch(backend="cpu") as inner:
                operator(q, k, v, None, False)
                assert inner.kept == 1 and 'backend is "cpu"' in next(iter(inner.kept_because))
        assert not operator(q, k, v, None, False)[0].any() and len(called) == 5 and depth == sys.getrecursionlimit()
    finally:
        library._destroy()


def test_where_pytorch_has_no_kernel_a_sentence_says_so(engine):
    q, k, v = bhsd(grad=False)
    with sdpa.override_torch() as handle:
        kernel = _kernels_cuda.flash_forward(None, lambda: handle)
        with pytest.raises(heed.Error, match="has no CUDA kernel to leave the call to: dropout_p is 0.5"):
            kernel(None, q, k, v, 0.5)
    with sdpa.override_torch(strict=True), pytest.raises(heed.Error, match="return_debug_mask is True"):
        torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, False, True)
