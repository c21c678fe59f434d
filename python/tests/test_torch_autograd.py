# test_torch_autograd.py: results that join autograd's graph straight from the extension: what hooks, checkpoints,
# modes, mapped and repeated gradients find there. Not here: the operators (test_torch.py), numbers.
import pytest

torch = pytest.importorskip("torch")

import heed  # noqa: E402
import heed.flash_attn  # noqa: E402
import heed.sdpa  # noqa: E402
from heed import _torch_autograd  # noqa: E402

sdpa = heed.sdpa.scaled_dot_product_attention


def rows_first(q, k, v, **options):
    return heed.attention(q, k, v, causal=True, align="top_left", **options)


def heads_first(q, k, v, **options):
    return sdpa(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True,
                **options).transpose(1, 2)


def heads_first_packed(q, k, v, **options):
    q, k, v = (t.transpose(1, 2).contiguous() for t in (q, k, v))
    return sdpa(q, k, v, is_causal=True, enable_gqa=True, **options).transpose(1, 2)


WAYS = [rows_first, heads_first, heads_first_packed]
ways = pytest.mark.parametrize("way", WAYS)


def tensors(sq=5, sk=7, h=4, hk=2, d=8, dv=6, b=2, dtype=torch.float32):
    torch.manual_seed(sq * 100 + sk)
    return [torch.randn(b, s, n, w, dtype=dtype, requires_grad=True)
            for s, n, w in ((sq, h, d), (sk, hk, d), (sk, hk, dv))]


def same(a, b):
    assert torch.equal(a, b), float((a - b).abs().max())


def by_operator(x, dout):
    """What the registered operator and its formula give."""
    none = (None,) * 10
    out, _, _ = torch.ops.heed.attention_forward(*x, *none, None, True, "top_left", None, -1, -1, 0, 0, 0.0, 0, 0, None,
                                                 None, 0.0, None, None, False)
    return out, torch.autograd.grad(out, x, dout)


@ways
def test_gradients_are_those_of_the_operator(way):
    x = tensors()
    dout = torch.randn(2, 5, 4, 6)
    expected, grads = by_operator(x, dout)
    out = way(*x)
    node = out.grad_fn
    while "HeedAttention" not in type(node).__name__:
        node = node.next_functions[0][0]
    same(out, expected)
    for mine, theirs in zip(torch.autograd.grad(out, x, dout, retain_graph=True), grads):
        same(mine, theirs)
    for mine, theirs in zip(torch.autograd.grad(out.sum(), x), by_operator(x, torch.ones_like(dout))[1]):
        same(mine, theirs)  # a dout that is expanded from one number
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()


@pytest.mark.parametrize("lies", ["contiguous", "rows first"])
def test_results_lie_as_the_tensors_do(lies):
    x = [t.detach().transpose(1, 2) for t in tensors()]
    if lies == "contiguous":
        x = [t.contiguous() for t in x]
    x = [t.requires_grad_() for t in x]
    out = sdpa(*x, enable_gqa=True)
    grads = torch.autograd.grad(out, x, torch.randn_like(out))
    for t, like in ((out, x[0]), *zip(grads, x)):
        assert t.is_contiguous() == like.is_contiguous()
        assert t.transpose(1, 2).is_contiguous() != like.is_contiguous()
    with torch.no_grad():
        alone = sdpa(*x, enable_gqa=True)
    same(alone, out)
    assert alone.stride() == out.stride()


@ways
def test_hooks_see_what_is_saved(way):
    x = tensors()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or len(saved) - 1, lambda i: saved[i]):
        out = way(*x)
    assert len(saved) >= 5  # q, k, v, out, lse
    for mine, theirs in zip(torch.autograd.grad(out.sum(), x), by_operator(x, torch.ones(2, 5, 4, 6))[1]):
        same(mine, theirs)


def test_masks_are_kept_by_autograd_as_well():
    """So that whoever moves what is saved to another place, or changes it, is met as for PyTorch's own."""
    x = tensors()
    for options in (dict(mask=torch.rand(5, 7) < 0.7), dict(bias=torch.randn(4, 5, 7)),
                    dict(key_lengths=torch.tensor([3, 7], dtype=torch.int32)),
                    dict(query_offset=torch.tensor([3, -1], dtype=torch.int32)), dict(sinks=torch.randn(4)),
                    dict(alibi_slopes=torch.rand(2, 4)),
                    dict(block_map=torch.ones(3, 4, dtype=torch.bool), block_size=(2, 2))):
        array = next(iter(options.values()))
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            heed.attention(*x, **options)
        assert any(t.data_ptr() == array.data_ptr() for t in saved)
        out = heed.attention(*x, **options)
        torch.autograd.grad(out.sum(), x, retain_graph=True)
        array.zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(out.sum(), x)


@ways
@pytest.mark.parametrize("changed", ["q", "out"])
def test_what_was_changed_in_between_is_noticed(way, changed):
    leaves = tensors()
    x = [1 * t for t in leaves]
    out = way(*x)
    if way is heads_first_packed and changed == "q":
        return  # it has copies of its own
    (x[0] if changed == "q" else out).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_lists_that_change_and_numbers_in_tensors():
    x = tensors()
    window, scale = [2, 0], torch.tensor(0.25)
    out = heed.attention(*x, window=window, scale=scale)
    window[0] = 0
    scale.fill_(9.0)
    expected = torch.autograd.grad(heed.attention(*x, window=(2, 0), scale=0.25).sum(), x)
    for mine, theirs in zip(torch.autograd.grad(out.sum(), x), expected):
        same(mine, theirs)


@ways
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(way, reentrant):
    x = tensors()
    out = torch.utils.checkpoint.checkpoint(way, *x, use_reentrant=reentrant)
    out.sum().backward()
    for t, theirs in zip(x, by_operator(x, torch.ones(2, 5, 4, 6))[1]):
        same(t.grad, theirs)


def test_checkpoint_with_dropout():
    x = tensors(sq=32, sk=32, hk=4, dv=8)
    drop = lambda *a: sdpa(*(t.transpose(1, 2) for t in a), dropout_p=0.5)  # noqa: E731
    torch.manual_seed(3)
    expected = torch.autograd.grad(drop(*x).sum(), x)
    torch.manual_seed(3)
    mine = torch.autograd.grad(torch.utils.checkpoint.checkpoint(drop, *x, use_reentrant=False).sum(), x)
    for a, b in zip(mine, expected):
        same(a, b)


@ways
def test_a_second_derivative_is_refused(way):
    x = tensors()
    grad, = torch.autograd.grad(way(*x).sum(), x[0], create_graph=True)
    same(grad.detach(), by_operator(x, torch.ones(2, 5, 4, 6))[1][0])
    with pytest.raises(heed.Error, match="second derivative"):
        grad.sum().backward()


@ways
def test_mapped_gradients(way):
    x = tensors()
    out = way(*x)
    douts = torch.randn(3, *out.shape)
    expected = torch.autograd.grad(out, x, douts[1], retain_graph=True)
    batched = torch.autograd.grad(out, x, douts, is_grads_batched=True, retain_graph=True)
    mapped = torch.func.vmap(lambda d: torch.autograd.grad(out, x, d, retain_graph=True))(douts)
    for one, two, theirs in zip(batched, mapped, expected):
        same(one[1], theirs)
        same(two[1], theirs)
    zeros = torch._efficientzerotensor(out.shape)
    assert not any(g.any() for g in torch.autograd.grad(out, x, zeros, retain_graph=True))
    for mine, theirs in zip(torch.autograd.grad(out, x, torch._neg_view(-douts[1])), expected):
        same(mine, theirs)


def test_a_mode_around_the_backward_sees_it():
    from torch.utils.flop_counter import FlopCounterMode
    for way in WAYS:
        out = way(*tensors())
        with FlopCounterMode(display=False) as counter:
            out.sum().backward()
        assert counter.get_total_flops() == 2 * (3 * 8 + 2 * 6) * 2 * 4 * 5 * 7


@pytest.mark.parametrize("what", [("lse",), ("probs",), ("lse", "probs")])
def test_everything_a_call_returns(what):
    x = tensors()
    bias, sinks = torch.randn(4, 1, 7, requires_grad=True), torch.randn(4, requires_grad=True)
    options = dict(bias=bias, sinks=sinks, **{f"return_{name}": True for name in what})
    results = heed.attention(*x, **options)
    with torch.no_grad():
        plain = heed.attention(*x, **options)
    for mine, theirs in zip(results, plain, strict=True):
        same(mine, theirs)
    assert results[0].requires_grad and results[-1].requires_grad == (what[-1] == "lse")
    weights = [torch.randn_like(r) for r in results if r.requires_grad]
    loss = lambda r: sum((a * b).sum() for a, b in zip(r, weights))  # noqa: E731
    wanted = (*x, bias, sinks)
    expected = torch.autograd.grad(
        loss(torch.ops.heed.attention_forward(
            *x, bias, None, None, None, sinks, *(None,) * 5, None, False, "bottom_right", None, -1, -1, 0, 0, 0.0, 0, 0,
            None, None, 0.0, None, None, False)), wanted)
    for mine, theirs in zip(torch.autograd.grad(loss(results), wanted), expected):
        same(mine, theirs)


def test_left_over_from_a_transform():
    """Tensors that outlived their torch.func.grad still stand for others."""
    kept = []
    q, k, v = (t.detach() for t in tensors(hk=4))
    torch.func.grad(lambda t: (kept.append(t), t.sum())[1])(k)
    assert torch._C._functorch.is_functorch_wrapped_tensor(kept[0])
    same(heed.attention(q, kept[0], v), heed.attention(q, k, v))
    leaf = q.clone().requires_grad_()
    same(heed.attention(leaf, kept[0], v), heed.attention(q, k, v))
    same(heads_first(leaf, kept[0], v), heads_first(q, k, v))


def test_autocast():
    x = tensors()
    with torch.autocast("cpu"):
        out = rows_first(*x)
        again = heads_first(*x)
    assert out.dtype == torch.bfloat16
    same(out, again)
    low = [t.detach().bfloat16().requires_grad_() for t in x]
    expected = torch.autograd.grad(rows_first(*low).float().sum(), low)
    for mine, theirs in zip(torch.autograd.grad(out.float().sum(), x), expected):
        same(mine, theirs.float())


def test_slopes_have_no_gradient():
    x = tensors()
    slopes = torch.rand(4, requires_grad=True)
    with pytest.raises(heed.Error, match="alibi_slopes requires grad"):
        heed.attention(*x, alibi_slopes=slopes)
    with pytest.raises(heed.Error, match="alibi_slopes requires grad"):
        heed.flash_attn.flash_attn_func(*x, alibi_slopes=slopes)


def test_threads_and_retained_graphs_repeat():
    x = tensors(sq=70, sk=70)
    out = rows_first(*x, threads=1)
    first = torch.autograd.grad(out.sum(), x, retain_graph=True)
    for a, b, c in zip(first, torch.autograd.grad(out.sum(), x, retain_graph=True),
                       torch.autograd.grad(rows_first(*x, threads=2).sum(), x)):
        same(a, b)
        same(a, c)


def test_old_pytorch(monkeypatch):
    """Without DLPack's exchange interface."""
    from heed import _core
    x = tensors()
    expected = by_operator(x, torch.ones(2, 5, 4, 6))
    calls = []
    monkeypatch.setattr(_torch_autograd, "_by_operator", lambda *a: calls.append(a))
    _core.use_torch(torch, False)
    try:
        for way in WAYS:
            out = way(*x)
            same(out, expected[0])
            for mine, theirs in zip(torch.autograd.grad(out.sum(), x), expected[1]):
                same(mine, theirs)
    finally:
        _core.use_torch(torch)
    assert not calls
