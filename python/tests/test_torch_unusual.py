# test_torch_unusual.py: PyTorch's tensors that are not what they seem (mapped, negated, of known zeros,
# sparse, without memory), seeds of every kind, dropout under vmap, caches that autograd has saved. Not
# here: what every user meets (test_torch.py).
import contextlib

import pytest

torch = pytest.importorskip("torch")

import heed  # noqa: E402


def tensors(b=2, s=5, h=4, d=8):
    torch.manual_seed(s)
    return [torch.randn(b, s, h, d) for _ in range(3)]


def same(a, b):
    assert torch.equal(a, b), float((a - b).abs().max())


def test_backward_of_negated_and_zero_views():
    q, k, v = tensors()
    out, lse = heed.attention(q, k, v, return_lse=True)
    dout = torch.randn_like(out)
    expected = heed.attention_backward(-dout, q, k, v, out, lse)
    for mine, theirs in zip(heed.attention_backward(torch._neg_view(dout), q, k, v, out, lse), expected):
        same(mine, theirs)
    same(heed.merge([torch._neg_view(out)], [lse])[0], heed.merge([-out], [lse])[0])
    zeros = torch._efficientzerotensor(q.shape)  # no memory
    assert not heed.attention_backward(zeros, q, k, v, out, lse)[0].any()
    with pytest.raises(heed.Error, match="k has a stride of 0 in its last axis"):
        heed.attention(q, zeros, v)
    with pytest.raises(heed.Error, match=r"outs\[0\] has the shape .* and no memory"):
        heed.merge([zeros], [lse])


def test_backward_under_transforms_and_modes():
    from torch._subclasses import FakeTensorMode
    q, k, v = tensors()
    out, lse = heed.attention(q, k, v, return_lse=True)
    douts = torch.randn(3, *out.shape)
    mapped = torch.func.vmap(lambda d: heed.attention_backward(d, q, k, v, out, lse)[1])(douts)
    same(mapped[2], heed.attention_backward(douts[2], q, k, v, out, lse)[1])
    with FakeTensorMode():
        q, k, v = tensors()
        out, lse = heed.attention(q, k, v, return_lse=True)
        assert heed.attention_backward(out, q, k, v, out, lse)[2].shape == v.shape
        for options, words in ((dict(f32_grads=True), "f32_grads is True"),
                               (dict(return_dbias=True), "bias is None"),
                               (dict(dropout_p=0.5), "seed is None"), (dict(causal="x"), "causal is a str"),
                               (dict(softcap="x"), "softcap is a str"), (dict(window=3), "window is a int")):
            with pytest.raises(heed.Error, match=words):
                heed.attention_backward(out, q, k, v, out, lse, **options)
    q, k, v = (t.requires_grad_() for t in tensors())
    out, lse = heed.attention(q, k, v, return_lse=True)
    assert not any(g.requires_grad for g in heed.attention_backward(torch._neg_view(out.detach()), q, k, v, out, lse))


def test_jit_trace(tmp_path):
    q, k, v = (t.requires_grad_() for t in tensors())
    traced = torch.jit.trace(lambda q, k, v: heed.attention(q, k, v, causal=True), (q, k, v))
    traced.save(str(tmp_path / "traced.pt"))
    out = torch.jit.load(str(tmp_path / "traced.pt"))(2 * q, k, v)
    same(out, heed.attention(2 * q, k, v, causal=True))
    expected = torch.autograd.grad(heed.attention(2 * q, k, v, causal=True).sum(), q)[0]
    same(torch.autograd.grad(out.sum(), q)[0], expected)


def test_batched_gradients():
    q, k, v = (t.requires_grad_() for t in tensors())
    out = heed.attention(q, k, v, causal=True)
    douts = torch.randn(3, *out.shape)
    batched = torch.autograd.grad(out, (q, k, v), douts, is_grads_batched=True, retain_graph=True)
    for mine, theirs in zip(batched, torch.autograd.grad(out, (q, k, v), douts[1])):
        same(mine[1], theirs)


@pytest.mark.parametrize("grad", [False, True])
def test_tensors_that_are_not_dense(grad):
    q, k, v = tensors()
    q.requires_grad_(grad)
    nested = torch.nested.nested_tensor([k[0], k[1, :2]])
    for bad in (k.to_sparse(), k.to_mkldnn(), nested):
        with pytest.raises(heed.Error, match="k has the layout|k is a nested tensor|k cannot be read"):
            heed.attention(q, bad, v)
    with pytest.raises(heed.Error, match="v lives on the device 'meta'"):
        heed.attention(q, k, v.to("meta"))


def test_seeds():
    x = [t.requires_grad_() for t in tensors(s=32)]
    draw = lambda **seed: heed.attention(*x, dropout_p=0.5, **seed)  # noqa: E731
    same(draw(seed=torch.tensor(5)), draw(seed=5))
    for seed, words in ((1.5, "seed is a float: it must be an integer"), ("5", "seed is a str"),
                        (torch.tensor(1.5), "seed is a Tensor: it must be an integer"),
                        (torch.tensor([1, 2, 3]), r"seed is a tensor of the shape \(3,\)"),
                        (torch.tensor([1.0, 2.0]), "the dtype torch.float32: it must be a number, or int64")):
        with pytest.raises(heed.Error, match=words):
            draw(seed=seed)
    with pytest.raises(heed.Error, match="offset is 9 and seed is a tensor"):
        draw(seed=torch.tensor([1, 2]), offset=9)


@pytest.mark.parametrize("randomness", ["error", "same", "different"])
def test_dropout_under_vmap(randomness):
    """By a seed that is given: what a loop computes. By a drawn one: masks as `randomness` says."""
    three = [torch.stack([t] * 3) for t in tensors(s=32)]

    def loss(q, k, v, seed=None):
        return heed.attention(q, k, v, dropout_p=0.5, seed=seed).square().sum()
    over = lambda f: torch.func.vmap(f, randomness=randomness)(*three)  # noqa: E731
    expected = torch.func.grad(lambda *a: loss(*a, seed=3))(*(t[1] for t in three))
    assert expected.any()
    torch.testing.assert_close(over(torch.func.grad(lambda *a: loss(*a, seed=3)))[1], expected)
    if randomness == "error":
        with pytest.raises(RuntimeError, match="randomness"):
            over(loss)
        return
    losses = over(loss)
    assert (len(set(losses.tolist())) == 1) == (randomness == "same")
    torch.manual_seed(8)
    gradient, value = over(torch.func.grad_and_value(loss))
    torch.manual_seed(8)
    torch.testing.assert_close(over(loss), value)
    # Of the same mask: v enters squared, so that v · dv summed is twice the loss.
    dv, value = over(torch.func.grad_and_value(loss, argnums=2))
    torch.testing.assert_close((dv * three[2]).flatten(1).sum(1), 2 * value, rtol=1e-4, atol=1e-4)
    assert gradient.shape == three[0].shape


@pytest.mark.parametrize("way", ["direct", "operator"])
def test_autograd_knows_that_a_cache_was_written(way):
    from torch.utils.flop_counter import FlopCounterMode
    q, k, v = (t[:, :1] for t in tensors())
    caches = [torch.randn(2, 16, 4, 8) for _ in range(2)]
    leaf = q.clone().requires_grad_()
    loss = heed.attention(leaf, *caches).sum()
    with FlopCounterMode(display=False) if way == "operator" else contextlib.nullcontext():
        heed.decode(q, *caches)
        assert [c._version for c in caches] == [0, 0]
        heed.decode(q, *caches, k_new=k, v_new=v, cache_seqlens=3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    with torch.inference_mode():  # its tensors have no version
        caches = [torch.zeros(2, 16, 4, 8) for _ in range(2)]
        heed.decode(q, *caches, k_new=k, v_new=v, cache_seqlens=3)
        same(caches[0][:, 3:4], k)


def test_sentences_where_the_operators_read():
    """Under autocast decode goes by the dispatcher, whose schemas have words of their own."""
    q, k, v = tensors()
    with torch.autocast("cpu"):
        for options, words in (
                (dict(window=(1.5, 2)), "window is a float: it must be an integer"),
                (dict(window=3), "window is a int: it must be a pair"), (dict(window=(1, 2, 3)), "3 elements"),
                (dict(cache_seqlens=3.7), "cache_seqlens is a float"), (dict(prefix="a"), "prefix is a str"),
                (dict(causal="x"), "causal is a str"), (dict(rotary_interleaved="x"), "rotary_interleaved is a str"),
                (dict(backend=3), "backend is a int"), (dict(threads=1.5), "threads is a float"),
                (dict(block_size=(1, 1)), "block_size is given without block_map"),
                (dict(query_offset=1.5), "query_offset is a float"), (dict(scale="1"), "scale is a str"),
                (dict(softcap=None), "softcap is a NoneType"), (dict(align=1), "align is a int")):
            with pytest.raises(heed.Error, match=words):
                heed.decode(q, k, v, **options)
    x = q.requires_grad_(), k, v
    same(heed.attention(*x, return_probs=1)[1], heed.attention(*x, return_probs=True)[1])


def test_merge_refuses_what_wants_a_gradient():
    q, k, v = (t.requires_grad_() for t in tensors())
    out, lse = heed.attention(q, k, v, return_lse=True)
    with pytest.raises(heed.Error, match=r"outs\[0\] requires grad, and merge has no gradient"):
        heed.merge([out], [lse])
    with torch.no_grad():
        torch.testing.assert_close(heed.merge([out], [lse])[0], out)
