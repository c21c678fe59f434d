# test_nn.py: heed.nn.MultiHeadAttention against its definition in float64. Not here: caches
# (test_nn_cache.py), PyTorch's module and other names of weights (test_nn_torch.py).
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")
import nn_plain as plain  # noqa: E402

import heed  # noqa: E402
import heed.nn as hn  # noqa: E402

NEAR = {"rtol": 2e-5, "atol": 2e-5}  # f32: sums of some hundred products of numbers near 1


def near(mine, expected, **tolerance):
    torch.testing.assert_close(mine.double(), expected.double(), **{**NEAR, **tolerance})


@st.composite
def modules(draw):
    hk, group = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2]))
    heads, d = hk * group, draw(st.sampled_from([8, 12]))
    options = {}
    if draw(st.booleans()):
        options["causal"] = True
    if draw(st.booleans()):
        options["window"] = (draw(st.integers(0, 9)), draw(st.integers(-1, 9)))
    if draw(st.booleans()):
        options["softcap"] = 3.0
    if draw(st.booleans()):
        options["alibi"] = True
    if draw(st.booleans()):
        options["sinks"] = True
    if draw(st.booleans()):
        options["scale"] = 0.2
    if draw(st.booleans()):
        options.update(rotary=draw(st.sampled_from([4, 8])), rotary_interleaved=draw(st.booleans()),
                       rotary_base=100.0, rotary_scale=draw(st.sampled_from([1.0, 2.0])))
    if draw(st.integers(0, 3)) == 0:
        options["prefix"] = 2
    if draw(st.integers(0, 3)) == 0:
        options["chunk"] = 4
    options["bias"] = draw(st.sampled_from([True, False, (True, False, True)]))
    options["batch_first"] = draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 1000)))
    embed = draw(st.sampled_from([heads * d, 20]))
    m = hn.MultiHeadAttention(embed, heads, hk, head_dim=d, v_head_dim=draw(st.sampled_from([d, 5])), **options)
    for p in m.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return m, options


def expected(m, options, x, hidden=False, bias=None, at=None):
    q, k, v = plain.project(m, x)
    if m.rotary is not None:
        at = torch.arange(x.shape[1]) if at is None else at
        r = m.rotary
        q, k = (plain.turned(t, at, r.dim, r.base, r.interleaved, r.scale) for t in (q, k))
    geometry = {n: options[n] for n in ("causal", "window", "prefix", "chunk") if n in options}
    hidden = hidden | plain.hidden_by(x.shape[1], x.shape[1], **geometry)
    o, p = plain.attend(q, k, v, hidden, bias, m.scale, m.softcap, m.alibi_slopes, m.sinks)
    return plain.output(m, o), p


@settings(max_examples=40)
@given(modules(), st.integers(0, 3), st.integers(0, 20), st.sampled_from(["none", "end", "start", "float"]),
       st.sampled_from(["none", "bool", "float", "heads"]))
def test_self_attention(made, batch, length, padding, masking):
    m, options = made
    x = torch.randn(batch, length, m.embed_dim, requires_grad=True)
    hidden, bias, given_masks = torch.zeros((), dtype=torch.bool), None, {}
    if padding != "none":
        count = torch.randint(0, length + 1, (batch,))
        pad = torch.arange(length) >= count[:, None]
        pad = pad.flip(-1) if padding == "start" else pad
        hidden = hidden | pad[:, None, None, :]
        given_masks["key_padding_mask"] = pad if padding != "float" else torch.zeros(
            batch, length).masked_fill(pad, -torch.inf)
    if masking == "bool":
        given_masks["attn_mask"] = mask = torch.rand(length, length) < 0.3
        hidden = hidden | mask
    elif masking != "none":
        shape = (length, length) if masking == "float" else (batch * m.num_heads, length, length)
        given_masks["attn_mask"] = mask = torch.randn(shape)
        bias = mask if masking == "float" else mask.view(batch, m.num_heads, length, length)
    want, p = expected(m, options, x, hidden, bias)
    inside = x if m.batch_first else x.transpose(0, 1)
    out = m(inside, **given_masks)
    near(out if m.batch_first else out.transpose(0, 1), want)
    out, weights = m(inside, need_weights=True, average_attn_weights=False, **given_masks)
    near(out if m.batch_first else out.transpose(0, 1), want)
    near(weights, p)
    near(m(inside, need_weights=True, **given_masks)[1], p.mean(1))
    # Gradients, through the output and the weights.
    dout, dp = torch.randn_like(want), torch.randn_like(p)
    leaves = [x, *m.parameters()]
    grads = torch.autograd.grad((want * dout).sum() + (p * dp).sum(), leaves, allow_unused=True)
    mine = out if m.batch_first else out.transpose(0, 1)
    got = torch.autograd.grad((mine * dout.float()).sum() + (weights * dp.float()).sum(), leaves, allow_unused=True)
    for a, b in zip(got, grads):
        a = torch.zeros(()) if a is None and b is not None else a
        if a is not None:
            b = torch.zeros_like(a) if b is None else b
            near(a.expand(b.shape), b, atol=3e-4, rtol=3e-4)


def test_cross_attention_and_projected():
    m = hn.MultiHeadAttention(24, 4, 2, kdim=10, vdim=7, v_head_dim=9)
    x, key, value = torch.randn(2, 5, 24), torch.randn(2, 11, 10), torch.randn(2, 11, 7)
    lengths = torch.tensor([11, 4])
    q, k, v = plain.project(m, x, key, value)
    o, _ = plain.attend(q, k, v, (torch.arange(11) >= lengths[:, None])[:, None, None])
    near(m(x, key, value, key_lengths=lengths), plain.output(m, o))
    near(m(x, projected=m.project(key, value), key_lengths=lengths), plain.output(m, o))
    for align, shift in (("bottom_right", 6), ("top_left", 0)):
        m.causal, m.align = True, align
        o, _ = plain.attend(q, k, v, plain.hidden_by(5, 11, causal=True, shift=shift)
                            | (torch.arange(11) >= lengths[:, None])[:, None, None])
        near(m(x, key, value, key_lengths=lengths), plain.output(m, o))


@pytest.mark.parametrize("options", [{}, {"causal": True, "rotary": 8}, {"alibi": True, "window": (3, 0)}])
def test_ragged_is_one_sequence_at_a_time(options):
    m = hn.GroupedQueryAttention(32, 4, 2, **options)
    lengths = [3, 0, 7, 1]
    cu = torch.tensor([0, 3, 3, 10, 11], dtype=torch.int32)
    x = torch.randn(11, 32)
    parts = [expected(m, options, part[None])[0][0] for part in x.split(lengths)]
    near(m(x, cu_seqlens_q=cu), torch.cat(parts))
    near(m(x, cu_seqlens_q=cu, max_seqlen_q=7), torch.cat(parts))


def test_positions_and_single_entries():
    m = hn.MultiQueryAttention(32, 4, rotary=8, causal=True)
    x = torch.randn(2, 6, 32)
    at = torch.tensor([[0, 1, 2, 0, 1, 2], [5, 6, 7, 8, 9, 10]])
    near(m(x, positions=at), expected(m, {"causal": True}, x, at=at)[0])
    near(m(x[0]), expected(m, {"causal": True}, x[:1])[0][0])
    pad = torch.tensor([False] * 4 + [True] * 2)
    out, weights = m(x[0], key_padding_mask=pad, need_weights=True)
    want, p = expected(m, {"causal": True}, x[:1], pad)
    near(out, want[0])
    near(weights, p.mean(1)[0])


def test_dropout():
    m = hn.MultiHeadAttention(32, 4, dropout=0.4)
    x = torch.randn(2, 30, 32)
    torch.manual_seed(3)
    out, weights = m(x, need_weights=True, average_attn_weights=False)
    torch.manual_seed(3)
    near(m(x), out)
    assert 0.3 < (weights == 0).double().mean() < 0.5
    q, k, v = plain.project(m, x)
    _, p = plain.attend(q, k, v, torch.zeros((), dtype=torch.bool))
    p = p * (weights != 0) / 0.6
    near(weights, p)
    near(out, plain.output(m, torch.einsum("bhij,bjhd->bihd", p, v)))
    m.eval()
    near(m(x), expected(m, {}, x)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_and_autocast(dtype):
    m = hn.MultiHeadAttention(64, 4, 2, causal=True, rotary=16, alibi=True, sinks=True)
    x = torch.randn(2, 20, 64)
    want = m(x)
    with torch.autocast("cpu", dtype):
        out, weights = m(x, need_weights=True, attn_mask=torch.zeros(20, 20))
        assert out.dtype == weights.dtype == dtype
    near(out, want, atol=0.05, rtol=0.05)
    out.float().sum().backward()
    assert m.q_proj.weight.grad.dtype == torch.float32
    near(m.to(dtype)(x.to(dtype)), want, atol=0.05, rtol=0.05)


def test_float64_by_the_reference():
    m = hn.MultiHeadAttention(16, 2, dtype=torch.float64, backend="reference")
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    near(m(x), expected(m, {}, x)[0], atol=1e-12, rtol=1e-12)
    m.backend = None
    with pytest.raises(heed.Error, match="f64"):
        m(x)


def test_compile():
    m = hn.MultiHeadAttention(32, 4, 2, causal=True, rotary=8, alibi=True)
    x = torch.randn(2, 9, 32)
    compiled = torch.compile(m, fullgraph=True, dynamic=True, backend="aot_eager")
    near(compiled(x[:, :5]), m(x[:, :5]))
    pad = torch.arange(9) >= torch.tensor([9, 4])[:, None]
    near(compiled(x, key_padding_mask=pad), m(x, key_padding_mask=pad))


def bad():
    x = torch.randn(2, 5, 16)
    make = hn.MultiHeadAttention
    m = make(16, 2)
    yield lambda: make(0, 1), "embed_dim is 0"
    yield lambda: make(16, 3), "embed_dim is 16 and num_heads is 3"
    yield lambda: make(16, 4, 3), "num_heads is 4 and num_kv_heads is 3"
    yield lambda: make(16, 2.0), "num_heads is a float"
    yield lambda: make(16, 2, rotary=3), "rotary is 3"
    yield lambda: make(16, 2, rotary=10), "rotary is 10"
    yield lambda: make(16, 2, rotary=8, rotary_base=-1.0), "rotary base is -1"
    yield lambda: make(16, 2, dropout=1.0), "dropout is 1"
    yield lambda: make(16, 2, align="left"), 'align is "left"'
    yield lambda: make(16, 2, bias=(True,)), "bias is (True,)"
    yield lambda: make(16, 2, alibi=torch.ones(3)), "alibi has the shape"
    yield lambda: m(torch.randn(2, 5, 15)), "query has the shape"
    yield lambda: m([1.0]), "query is a list"
    yield lambda: m(x.double()), "query is torch.float64 and the weights are torch.float32"
    yield lambda: m(x, torch.randn(3, 5, 16)), "must agree"
    yield lambda: m(x, value=x), "value is given without key"
    yield lambda: m(x, key_padding_mask=torch.zeros(2, 4, dtype=torch.bool)), "key_padding_mask has the shape"
    yield lambda: m(x, key_padding_mask=torch.zeros(2, 5, dtype=torch.int32)), "key_padding_mask is torch.int32"
    yield lambda: m(x, attn_mask=torch.zeros(4, 5)), "attn_mask has the shape"
    yield lambda: m(x, attn_mask=torch.zeros(3, 5, 5)), "attn_mask has the shape"
    yield lambda: m(x, key_lengths=torch.tensor([1, 9])), "key_lengths holds"
    yield lambda: m(x, key_lengths=torch.tensor([1.0, 2.0])), "tensor of integers"
    yield lambda: m(x, positions=torch.arange(5)), "without rotary"
    yield lambda: m(x, cu_seqlens_k=torch.zeros(2, dtype=torch.int32)), "without cu_seqlens_q"
    yield lambda: m(x[0], cu_seqlens_q=torch.tensor([0, 5])), "cu_seqlens_q"
    yield lambda: make(16, 2, rotary=8)(x, x[:, :2]), "5 queries over 2 keys"
    yield lambda: m(torch.nested.nested_tensor([x[0], x[1, :2]])), "nested"
    yield lambda: make(16, 2, softcap=-1.0), "softcap is -1"
    yield lambda: make(16, 2, softcap=float("nan")), "softcap is nan"
    yield lambda: make(16, 2, scale=float("nan")), "scale is nan"
    yield lambda: make(16, 2, window=(-3, 0)), "window[0] is -3"
    yield lambda: make(16, 2, window=4), "window is a int"
    yield lambda: make(16, 2, prefix=-1), "prefix is -1"
    yield lambda: make(16, 2, chunk=0.5), "chunk is a float"
    yield lambda: make(16, 2, threads=0), "threads is 0"
    yield lambda: m(x.to("meta")), "query lives on the device 'meta' and the weights on 'cpu'"
    yield lambda: m(x, cache=[]), "cache is a list: it must be a heed.nn.KVCache"
    yield lambda: hn.KVCache("many"), "max_length is a str"


@pytest.mark.parametrize("call, words", list(bad()), ids=lambda x: x if isinstance(x, str) else "")
def test_errors_are_sentences(call, words):
    with pytest.raises(heed.Error) as raised:
        call()
    assert words in str(raised.value)
