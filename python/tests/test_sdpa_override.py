# test_sdpa_override.py: override_torch: F.scaled_dot_product_attention computes with heed, and PyTorch's kernels
# come back. Not here: modules, compilers, transforms, threads (test_sdpa_override_torch.py).
import warnings

import pytest

torch = pytest.importorskip("torch")
if not hasattr(torch.library, "get_kernel"):
    pytest.skip("override_torch needs torch.library.get_kernel (PyTorch 2.13 has it)", allow_module_level=True)

import torch.nn.functional as F  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

import heed  # noqa: E402
from heed import sdpa  # noqa: E402
from sdpa_plain import LIMITS, plain  # noqa: E402

OPS = [f"aten::{name}" for name in (
    "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention_for_cpu_backward", "_scaled_dot_product_attention_math")]
flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def dispatcher():
    return [dump(op) for op in OPS for dump in (torch._C._dispatch_dump, torch._C._dispatch_dump_table)]


@pytest.fixture(autouse=True)
def nothing_stays():
    before, fast = dispatcher(), torch.backends.mha.get_fastpath_enabled()
    tag = torch.compiler.config.cache_key_tag
    yield
    assert dispatcher() == before
    assert torch.backends.mha.get_fastpath_enabled() == fast and torch.compiler.config.cache_key_tag == tag


def tensors(sq=5, sk=7, h=4, hk=4, d=8, dv=8, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, n, s, w, generator=g).to(dtype).requires_grad_()
            for n, s, w in ((h, sq, d), (hk, sk, d), (hk, sk, dv))]


def near(ours, exact, dtype):
    error = (ours.double() - exact).abs().max().item()
    assert error <= LIMITS[dtype] * (1 + exact.abs().max().item()), error


FLOAT = torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(9))
CASES = {
    "full": ({}, {}),
    "causal": ({}, {"is_causal": True}),
    "bool mask": ({}, {"attn_mask": FLOAT > -0.3}),
    "float mask": ({}, {"attn_mask": FLOAT}),
    "mask with a gradient": ({}, {"attn_mask": FLOAT.clone().requires_grad_()}),
    "Ev is not E": ({"dv": 3}, {"is_causal": True}),
    "grouped heads": ({"hk": 2}, {"enable_gqa": True, "scale": 0.2}),
    "one key head": ({"hk": 1}, {}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_numbers(case, dtype):
    shape, options = CASES[case]
    leaves = tensors(**shape, dtype=dtype)
    exact = [t.detach().double().requires_grad_() for t in leaves]
    mask = options.get("attn_mask")
    with sdpa.override_torch(strict=True) as handle:
        ours = F.scaled_dot_product_attention(*leaves, **options)
        ours.sin().sum().backward()
    assert handle.served == 1 and handle.kept == 0
    own = mask.detach().double().requires_grad_() if mask is not None and mask.requires_grad else mask
    theirs = plain(*exact, own, "upper" if options.get("is_causal") else None, options.get("scale"))
    near(ours, theirs, dtype)
    theirs.backward(ours.detach().cos().double())
    for a, b in zip(leaves, exact):
        near(a.grad, b.grad, dtype)
    if own is not mask:
        near(mask.grad, own.grad, dtype)
        mask.grad = None


def test_dropout():
    q, k, _ = tensors(sq=64, sk=64)
    v = torch.eye(64).expand(2, 4, 64, 64).clone().requires_grad_()
    with sdpa.override_torch(strict=True) as handle:
        torch.manual_seed(5)
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=0.25)
        torch.manual_seed(5)
        assert torch.equal(out, F.scaled_dot_product_attention(q, k, v, dropout_p=0.25))
        out.sin().sum().backward()
    assert handle.served == 2
    keep = (out != 0).double()
    assert abs(keep.mean().item() - 0.75) < 0.02
    exact = [t.detach().double().requires_grad_() for t in (q, k, v)]
    theirs = plain(*exact, keep=keep / 0.75)
    near(out, theirs, q.dtype)
    theirs.sin().sum().backward()
    for a, b in zip((q, k, v), exact):
        near(a.grad, b.grad, q.dtype)


def test_what_is_not_heeds_is_pytorchs_to_the_bit():
    double = [t.detach().double().requires_grad_() for t in tensors()]
    single = tensors()

    def results(tensors_, **options):
        for t in tensors_:
            t.grad = None
        out = F.scaled_dot_product_attention(*tensors_, **options)
        out.sin().sum().backward()
        return [out.detach(), *(t.grad.clone() for t in tensors_)]

    def all_of_them():
        with sdpa_kernel(SDPBackend.MATH):
            math = results(single)
        return [*results(double), *results(double, attn_mask=FLOAT.double()), *math]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = all_of_them()
        with sdpa.override_torch() as handle:
            within = all_of_them()
    assert handle.served == 0
    assert sum("float64" in reason for reason in handle.kept_because) == 2  # the function, its flash kernels
    assert sum("switched the flash backend off" in reason for reason in handle.kept_because) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, within))
    with sdpa.override_torch() as handle, sdpa.backends("reference"):
        out = F.scaled_dot_product_attention(*double)
    assert handle.served == 1 and torch.allclose(out, before[0], rtol=1e-12)


def test_pytorchs_errors_stay_its_own():
    q, k, v = tensors()
    try:
        both = F.scaled_dot_product_attention(q, k, v, FLOAT, is_causal=True)  # not an error of its flash kernel
    except RuntimeError:  # of the latest versions' function it is one
        both = None
    with sdpa.override_torch():
        if both is not None:
            assert torch.allclose(both, F.scaled_dot_product_attention(q, k, v, FLOAT, is_causal=True), atol=1e-5)
        with pytest.raises(RuntimeError, match="Explicit attn_mask should not be set"):
            F.scaled_dot_product_attention(q, k, v[..., :3], FLOAT, is_causal=True)
        with pytest.raises(TypeError, match="must be Tensor"):
            F.scaled_dot_product_attention(q, k, None)
        with pytest.raises(RuntimeError, match="dtype"):
            F.scaled_dot_product_attention(q, k.bfloat16(), v)


def test_strict():
    q, k, v = tensors()
    with sdpa.override_torch(strict=True) as handle:
        with pytest.raises(heed.Error, match="strict=True.: query is float64"):
            F.scaled_dot_product_attention(q.double(), k.double(), v.double())
        with pytest.raises(heed.Error, match="switched the flash backend off"), sdpa_kernel(SDPBackend.MATH):
            F.scaled_dot_product_attention(q, k, v)
    assert handle.kept == handle.served == 0


def test_restored_to_the_bit():
    q, k, v = (t.detach() for t in tensors(sq=70, sk=90, d=32, dv=32))
    before = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    state = dispatcher()
    for _ in range(3):
        handle = sdpa.override_torch()
        assert dispatcher() != state
        within = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        assert torch.equal(within, sdpa.scaled_dot_product_attention(q, k, v, is_causal=True))
        assert not torch.equal(within, before)  # another order of the sums
        handle.remove()
        assert dispatcher() == state
        assert torch.equal(before, F.scaled_dot_product_attention(q, k, v, is_causal=True))
    with pytest.raises(KeyError), sdpa.override_torch():
        raise KeyError
    assert dispatcher() == state


def test_nested():
    q = tensors()[0].detach()
    first = sdpa.override_torch()
    second = sdpa.override_torch(backend="reference", threads=1)
    F.scaled_dot_product_attention(q, q, q)
    exact = F.scaled_dot_product_attention(q.double(), q.double(), q.double())
    assert (first.served, second.served) == (0, 2) and exact.dtype == torch.float64
    first.remove()  # not in order
    F.scaled_dot_product_attention(q, q, q)
    assert second.served == 3 and second.active and not first.active
    with sdpa.override_torch() as third:
        F.scaled_dot_product_attention(q, q, q)
    assert (second.served, third.served) == (3, 1)
    second.remove()
    second.remove()
    F.scaled_dot_product_attention(q, q, q)
    assert second.served == 3 and "removed" in repr(second)
    with pytest.raises(heed.Error, match="was removed"), second:
        pass


def test_bad_options():
    for bad, word in ((dict(backend="gpu"), "backend is 'gpu'"), (dict(threads=0), "threads is 0"),
                      (dict(threads=1.5), "threads is a float")):
        with pytest.raises(heed.Error, match=word):
            sdpa.override_torch(**bad)


def test_only_one_warning_is_silenced():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sdpa.override_torch().remove()
        warnings.warn("another one", UserWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["another one"]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_flash_operators(dtype, turned):
    """What compiled graphs call: results and strides as PyTorch's, each one's forward fits the other's backward."""
    q, k, v = (t.detach() for t in tensors(sq=6, sk=9, h=4, hk=2, dtype=dtype))
    if turned:
        q, k, v = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v))
    mask = torch.randn(6, 9)
    mask[2] = -torch.inf  # a row that sees nothing
    dout = torch.randn(q.shape).to(dtype)

    def run(forward_by_heed, backward_by_heed):
        results = []
        for heeds, call in ((forward_by_heed, lambda: flash(q, k, v, attn_mask=mask, scale=0.4)),
                            (backward_by_heed, lambda: flash_backward(
                                dout, q, k, v, *results[:2], 0.0, False, attn_mask=mask, scale=0.4))):
            if not heeds:
                results += call()
                continue
            with sdpa.override_torch(strict=True) as handle:
                results += call()
            assert handle.served == 1
        return results

    theirs = run(False, False)
    exact = [t.double().requires_grad_() for t in (q, k, v)]
    out = plain(*exact, mask.double(), None, 0.4)
    out.backward(dout.double())
    for ours in (run(True, True), run(True, False), run(False, True)):
        assert [t.stride() for t in ours] == [t.stride() for t in theirs]
        assert [t.dtype for t in ours] == [t.dtype for t in theirs]
        assert torch.allclose(ours[1], theirs[1], atol=2e-2 if dtype == torch.bfloat16 else 1e-5)
        for a, b in zip((ours[0], *ours[2:]), (out, *(t.grad for t in exact))):
            near(a, b.detach(), dtype)
        assert (ours[0][:, :, 2] == 0).all()
