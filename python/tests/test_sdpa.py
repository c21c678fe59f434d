# test_sdpa.py: heed.sdpa.scaled_dot_product_attention against float64 arithmetic that is written here: shapes,
# masks, gradients. Not here: refusals and backends (test_sdpa_refusals.py), the override
# (test_sdpa_override*.py).
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn.attention.bias import causal_lower_right, causal_upper_left  # noqa: E402

import heed  # noqa: E402
from heed import sdpa  # noqa: E402
from heed.sdpa import scaled_dot_product_attention as attend  # noqa: E402
from sdpa_plain import LIMITS, plain  # noqa: E402

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def close(ours, exact, dtype, what, summed=1):
    """summed: of how many rounded terms an element is the sum; they may cancel, their errors do not."""
    error = (ours.double() - exact).abs().max().item() if ours.numel() else 0.0
    size = (1 + (exact.abs().max().item() if exact.numel() else 0.0)) * math.sqrt(max(1, summed))
    assert error <= LIMITS[dtype] * size, f"{what}: {error} of {size}"


def compare(q, k, v, mask=None, causal=None, **options):
    """Output and every gradient, against the same in float64."""
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    exact = [t.double().detach().requires_grad_() for t in (q, k, v)]
    with_mask = mask is not None and mask.is_floating_point()
    if with_mask:
        leaves.append(mask.clone().requires_grad_())
        exact.append(mask.double().detach().requires_grad_())
    ours = attend(*leaves[:3], attn_mask=leaves[3] if with_mask else mask, is_causal=causal == "upper", **options)
    theirs = plain(*exact[:3], exact[3] if with_mask else mask, causal, options.get("scale"))
    assert ours.shape == theirs.shape and ours.dtype == q.dtype
    close(ours, theirs, q.dtype, "out")
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).to(q.dtype)
    ours.backward(weight)
    theirs.backward(weight.double())
    for name, a, b in zip(("query", "key", "value", "attn_mask"), leaves, exact):
        assert a.grad.shape == a.shape
        summed = ours[..., 0].numel() * k.shape[-2] / max(1, a.numel()) if name == "attn_mask" else 1
        close(a.grad, b.grad, q.dtype, name, summed)


@st.composite
def calls(draw):
    """Leading axes that broadcast, grouped heads, every kind of mask, lengths from 0 on, strides."""
    axes = draw(st.integers(0, 3))
    batch = [draw(st.integers(1, 3)) for _ in range(axes)]
    grouped = draw(st.booleans())
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * (draw(st.integers(1, 3)) if grouped else 1)
    some = lambda lead: [n if draw(st.booleans()) else 1 for n in lead]  # noqa: E731
    sq, sk = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    d, dv = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    kv = [kv_heads] if grouped else None
    leads = [some(batch) + (kv if kv and i else [heads] if kv else some([heads])) for i in range(3)]
    whole = list(torch.broadcast_shapes(*(lead[:-1] for lead in leads)))
    whole.append(heads if kv else max(lead[-1] for lead in leads))
    mask = draw(st.sampled_from(["none", "bool", "float", "causal"]))
    shape = some([*whole, sq, sk])
    shape = shape[draw(st.integers(0, len(shape))):]
    return dict(leads=leads, sq=sq, sk=sk, d=d, dv=dv, mask=mask, shape=shape, grouped=grouped,
                seed=draw(st.integers(0, 99)), turned=draw(st.booleans()),
                dtype=draw(st.sampled_from(sorted(DTYPES))), scale=draw(st.sampled_from([None, 0.3, -0.5, 0.0])))


def tensors(call):
    generator = torch.Generator().manual_seed(call["seed"])
    made = []
    for lead, rows, columns in zip(call["leads"], (call["sq"], call["sk"], call["sk"]),
                                   (call["d"], call["d"], call["dv"])):
        shape = (*lead, columns, rows) if call["turned"] else (*lead, rows, columns)
        t = torch.randn(shape, generator=generator).to(DTYPES[call["dtype"]])
        made.append(t.transpose(-1, -2) if call["turned"] else t)
    mask = None
    if call["mask"] == "bool":
        mask = torch.rand(call["shape"], generator=generator) > 0.3
    elif call["mask"] == "float":
        mask = torch.randn(call["shape"], generator=generator).to(DTYPES[call["dtype"]])
    return (*made, mask)


@settings(max_examples=250)
@given(calls())
def test_every_shape(call):
    q, k, v, mask = tensors(call)
    compare(q, k, v, mask, "upper" if call["mask"] == "causal" else None, scale=call["scale"],
            enable_gqa=call["grouped"])


@pytest.mark.slow
@settings(max_examples=5000)
@given(calls())
def test_every_shape_at_length(call):
    test_every_shape.hypothesis.inner_test(call)


@pytest.mark.parametrize("shape", [(5, 8), (3, 5, 8), (2, 3, 5, 8), (2, 2, 3, 5, 8), (2, 1, 2, 3, 5, 8)])
def test_axes(shape):
    q, k, v = (torch.randn(*shape[:-2], s, 8) for s in (5, 7, 7))
    compare(q, k, v)
    compare(q, k, v, torch.rand(*shape[:-2], 5, 7) > 0.5)
    compare(q, k, v, torch.randn(5, 7))


def test_nothing_at_all():
    """No batch, no heads, no queries, no keys: shapes and gradients are there."""
    for b, h, sq, sk in ((0, 3, 5, 7), (2, 0, 5, 7), (2, 3, 0, 7), (2, 3, 5, 0), (0, 0, 0, 0)):
        for lead in ((b, h), (2, b, h), (h,))[:3 if b else 2]:
            q, k, v = (torch.randn(*lead, s, 8, requires_grad=True) for s in (sq, sk, sk))
            out = attend(q, k, v, torch.ones(sq, sk, dtype=torch.bool))
            assert out.shape == q.shape and not out.any()
            out.sum().backward()
            assert all(not t.grad.any() for t in (q, k, v))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_see_nothing(dtype):
    q, k, v = (torch.randn(2, 3, s, 8).to(DTYPES[dtype]) for s in (4, 6, 6))
    hidden = torch.zeros(4, 6)
    hidden[1] = -math.inf
    hidden[2, 3:] = -math.inf
    for mask in (hidden, hidden == 0, hidden.to(q.dtype)):
        compare(q, k, v, mask)
        assert (attend(q, k, v, mask)[:, :, 1] == 0).all()


def test_lowest_floats():
    """What Hugging Face's masks hold. A row of them in every column is uniform, as in PyTorch."""
    q, k, v = (torch.randn(1, 2, s, 8) for s in (4, 6, 6))
    mask = torch.zeros(4, 6)
    mask[0, 2:] = mask[1] = torch.finfo(torch.float32).min
    out = attend(q, k, v, mask)
    close(out[:, :, 1], v.double().mean(2), q.dtype, "uniform row")
    close(out[:, :, 0], plain(q.double(), k.double(), v.double(), mask > -1, None, None)[:, :, 0], q.dtype, "row")


@pytest.mark.parametrize("sq,sk", [(5, 7), (7, 5), (6, 6), (1, 7), (3, 0)])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.filterwarnings("ignore:Lower right causal bias")
def test_causal_biases(sq, sk, lower):
    q, k, v = (torch.randn(2, 4, s, 8) for s in (sq, sk, sk))
    bias = (causal_lower_right if lower else causal_upper_left)(sq, sk)
    for lead in ((), (2,)):
        a, b, c = (t.expand(*lead, *t.shape) for t in (q, k, v))
        exact = plain(a.double(), b.double(), c.double(), None, "lower" if lower else "upper", None)
        close(attend(a, b, c, bias), exact, q.dtype, "out")


def test_non_finite_values_stay_in_their_row():
    q, k, v = (torch.randn(1, 2, 5, 8) for _ in range(3))
    mask = torch.zeros(5, 5)
    mask[2, 3], mask[4, 1] = math.nan, math.inf
    out = attend(q, k, v, mask)
    assert out[:, :, [2, 4]].isnan().all() and out[:, :, [0, 1, 3]].isfinite().all()


@pytest.mark.parametrize("p", [0.25, 1, 1.0])
def test_dropout(p):
    torch.manual_seed(3)
    q, k = (torch.randn(1, 2, s, 16, requires_grad=True) for s in (40, 50))
    v = torch.eye(50).expand(1, 2, 50, 50).clone().requires_grad_()  # the output is the probabilities
    state = torch.get_rng_state()
    out = attend(q, k, v, dropout_p=p)
    torch.set_rng_state(state)
    assert torch.equal(out, attend(q, k, v, dropout_p=p))
    kept = (out != 0).double()
    if p < 1:
        assert not torch.equal(out, attend(q, k, v, dropout_p=p))
        assert abs(kept.mean().item() - (1 - p)) < 0.03
    leaves = [t.detach().double().requires_grad_() for t in (q, k, v)]
    exact = plain(*leaves, None, None, None, keep=kept / (1 - p if p < 1 else 1))
    close(out, exact, q.dtype, "out")
    out.cos().sum().backward()
    exact.cos().sum().backward()
    for name, a, b in zip("qkv", (q, k, v), leaves):
        close(a.grad, b.grad, q.dtype, name)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 2, 3)])
def test_float64_by_the_reference(lead):
    q, k, v = (torch.randn(*lead, s, 5, dtype=torch.float64, requires_grad=True) for s in (3, 4, 4))
    mask = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    exact = plain(q, k, v, mask, None, None)
    assert torch.allclose(attend(q, k, v, mask, backend="reference"), exact, rtol=1e-12, atol=1e-12)
    with sdpa.backends(["cpu", "reference"]):
        assert torch.allclose(attend(q, k, v, mask), exact, rtol=1e-12, atol=1e-12)
        assert torch.autograd.gradcheck(attend, (q, k, v, mask))


def test_memory_layout_of_the_output():
    """As PyTorch's fused kernel leaves it, for callers take views: contiguous, or (B, L, H, E) in memory."""
    whole, split = torch.randn(2, 3, 5, 8), torch.randn(2, 5, 3, 8).transpose(1, 2)
    for q in (whole, split):
        theirs = torch.nn.functional.scaled_dot_product_attention(q, whole, whole)
        assert attend(q, whole, whole).stride() == theirs.stride()
    assert attend(split, whole, whole).transpose(1, 2).is_contiguous()
    assert attend(whole[0], whole[0], whole[0]).is_contiguous()


def test_autocast():
    q, k, v = (torch.randn(1, 2, s, 8, requires_grad=True) for s in (5, 6, 6))
    mask = torch.randn(5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(q, k, v, mask)
        mixed = attend(q, k.bfloat16(), v.half(), mask.half())
    assert out.dtype == mixed.dtype == torch.bfloat16
    exact = plain(*(t.bfloat16().double() for t in (q, k, v)), mask.bfloat16(), None, None)
    close(out, exact, torch.bfloat16, "out")
    out.sum().backward()
    assert q.grad.dtype == torch.float32


@pytest.mark.parametrize("backend", [None, "cpu", "cpu:scalar", "reference"])
@pytest.mark.parametrize("threads", [None, 1])
def test_backends_by_name(backend, threads):
    q, k, v = (torch.randn(1, 2, s, 8) for s in (5, 6, 6))
    out = attend(q, k, v, is_causal=True, backend=backend, threads=threads)
    close(out, plain(q.double(), k.double(), v.double(), None, "upper", None), q.dtype, "out")


def test_vmap_and_gradients_of_functions():
    q, k, v = (torch.randn(4, 1, 2, s, 8) for s in (5, 6, 6))
    out = torch.func.vmap(attend)(q, k, v)
    close(out, plain(q.double(), k.double(), v.double(), None, None, None), q.dtype, "vmap")
    per_sample = torch.func.vmap(torch.func.grad(lambda *t: attend(*t).sin().sum(), (0, 1, 2)))(q, k, v)
    leaves = [t.double().requires_grad_() for t in (q, k, v)]
    plain(*leaves, None, None, None).sin().sum().backward()
    for ours, exact in zip(per_sample, leaves):
        close(ours, exact.grad, q.dtype, "gradient")


@pytest.mark.skipif(hasattr(torch.library, "get_kernel"), reason="this PyTorch has what the override needs")
def test_no_override_on_older_pytorch():
    with pytest.raises(heed.Error, match="override_torch needs torch.library.get_kernel"):
        sdpa.override_torch()
