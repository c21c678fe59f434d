# test_nn_torch.py: heed.nn beside torch.nn.MultiheadAttention: the swap in a model, weights from module to
# module. Not here: heed's own module (test_nn.py).
import copy
import importlib
import pickle
import warnings

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")
from test_nn import near  # noqa: E402
from torch import nn  # noqa: E402

import heed  # noqa: E402
import heed.nn as hn  # noqa: E402


@settings(max_examples=50)
@given(st.data())
def test_replaced_module_is_pytorchs(data):
    """Arguments of every kind, outputs, weights and gradients, against PyTorch's module in float64."""
    pick = lambda *x: data.draw(st.sampled_from(x))  # noqa: E731
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    heads, first, cross = pick(1, 2, 3), pick(True, False), pick(True, False)
    kdim, vdim = pick((None, None), (5, 7)) if cross else (None, None)
    mine = nn.MultiheadAttention(12, heads, bias=pick(True, False), kdim=kdim, vdim=vdim, batch_first=first,
                                 add_bias_kv=pick(True, False, False), add_zero_attn=pick(True, False, False))
    for p in mine.parameters():
        nn.init.normal_(p, std=0.4)
    theirs = copy.deepcopy(mine).double()
    assert hn.replace(mine) is mine
    if pick(True, False):
        mine.eval()
        theirs.eval()
    batch, sq = pick(None, 1, 3), pick(1, 6)
    sk = pick(1, 9) if cross else sq
    rows = lambda s, e: (s, e) if batch is None else (batch, s, e) if first else (s, batch, e)  # noqa: E731
    x = torch.randn(rows(sq, 12), requires_grad=pick(True, False))
    key = torch.randn(rows(sk, kdim or 12), requires_grad=True) if cross else x
    value = (torch.randn(rows(sk, vdim or 12), requires_grad=True) if kdim or pick(True, False) else key) if cross else x
    n, options = batch or 1, {}
    pad_kind = pick("none", "end", "any", "float")
    if pad_kind != "none":
        pad = torch.arange(sk) >= torch.randint(1, sk + 1, (n,))[:, None] if pad_kind == "end" else \
            torch.rand(n, sk) < 0.3
        pad[:, 0] = False  # PyTorch gives NaN where nothing is seen
        pad = pad if pad_kind != "float" else torch.randn(n, sk).masked_fill(pad, -torch.inf)
        options["key_padding_mask"] = pad if batch is not None else pad[0]
    causal = False
    mask_kind = pick("none", "bool", "float", "heads", "causal")
    if mask_kind == "causal":
        causal = True
        options["attn_mask"] = torch.ones(sq, sk, dtype=torch.bool).triu(1)
        options["is_causal"] = pick(True, False)
    elif mask_kind != "none":
        mask = torch.randn((sq, sk) if mask_kind != "heads" else (n * heads, sq, sk))
        mask = mask < -0.5 if mask_kind == "bool" else mask
        if mask_kind == "bool":
            mask[:, 0] = False
        options["attn_mask"] = mask
    options["need_weights"] = pick(True, False)
    options["average_attn_weights"] = pick(True, False)
    theirs_options = {k: o.double() if isinstance(o, torch.Tensor) and o.is_floating_point() else o
                      for k, o in options.items()}
    theirs_options.pop("is_causal", None)  # PyTorch drops the mask for it, with which the extra keys go
    inputs = {id(t): t.detach().double().requires_grad_(t.requires_grad) for t in (x, key, value)}
    out, weights = mine(x, key, value, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # masks of two dtypes
        want, p = theirs(*(inputs[id(t)] for t in (x, key, value)), **theirs_options)
    assert causal or "is_causal" not in options
    near(out, want)
    assert (weights is None) == (p is None)
    if p is not None:
        near(weights, p)
    dout = torch.randn_like(want)
    loss, want_loss = (out * dout.float()).sum(), (want * dout).sum()
    if p is not None:
        dp = torch.randn_like(p)
        loss, want_loss = loss + (weights * dp.float()).sum(), want_loss + (p * dp).sum()
    loss.backward()
    want_loss.backward()
    for (name, a), b in zip(mine.named_parameters(), theirs.parameters()):
        near(a.grad, b.grad, atol=2e-4, rtol=2e-4, msg=lambda text, name=name: f"{name}: {text}")
    for t in (x, key, value):
        if t.requires_grad:
            near(t.grad, inputs[id(t)].grad, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_encoder_and_decoder(train, first):
    torch.manual_seed(0)
    model = nn.Transformer(32, 4, 2, 2, 64, dropout=0.0, batch_first=first).train(train)
    other = hn.replace(copy.deepcopy(model))
    assert sum(type(m) is hn.MultiheadAttention for m in other.modules()) == 6
    src, tgt = torch.randn(2, 7, 32), torch.randn(2, 5, 32)
    if not first:
        src, tgt = src.transpose(0, 1), tgt.transpose(0, 1)
    pad = torch.arange(7) >= torch.tensor([7, 4])[:, None]
    options = dict(src_key_padding_mask=pad, memory_key_padding_mask=pad, tgt_is_causal=True,
                   tgt_mask=model.generate_square_subsequent_mask(5))
    near(other(src, tgt, **options), model(src, tgt, **options))
    with torch.no_grad():
        near(other(src, tgt, **options), model(src, tgt, **options))


def test_fast_path_does_not_pass_it_by(monkeypatch):
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2).eval()
    x, pad = torch.randn(2, 7, 32), torch.arange(7) >= torch.tensor([7, 4])[:, None]
    with torch.no_grad():
        want = model(x, src_key_padding_mask=pad)
        hn.replace(model)
        calls = []
        module = importlib.import_module("heed.nn.replace")  # hn.replace is its function
        real = module.attention
        monkeypatch.setattr(module, "attention", lambda *a, **o: calls.append(o) or real(*a, **o))
        out = model(x, src_key_padding_mask=pad)
        assert len(calls) == 2 and all("key_lengths" in o for o in calls)
        near(out[~pad], want[~pad])
        model.layers[0](x)
        assert len(calls) == 3
        hn.restore(model)
        near(model(x, src_key_padding_mask=pad), want)
    assert len(calls) == 3 and type(model.layers[0].self_attn) is nn.MultiheadAttention


def test_parameters_hooks_and_checkpoints_stay():
    model = nn.Sequential(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))
    before, state = list(model.parameters()), copy.deepcopy(model.state_dict())
    seen = []
    model[0].self_attn.register_forward_hook(lambda *a: seen.append(1))
    hn.replace(model, backend="reference")
    assert all(a is b for a, b in zip(model.parameters(), before))
    model.load_state_dict(state)
    model(torch.randn(1, 3, 16))
    assert seen
    again = pickle.loads(pickle.dumps(hn.replace(nn.MultiheadAttention(16, 2, batch_first=True)).eval()))
    assert type(again) is hn.MultiheadAttention
    x = torch.randn(1, 3, 16)
    near(again(x, x, x)[0], hn.restore(copy.deepcopy(again))(x, x, x)[0])


def test_dropout_and_compile():
    m = hn.replace(nn.MultiheadAttention(32, 4, dropout=0.5, batch_first=True))
    x = torch.randn(2, 20, 32, requires_grad=True)
    out, weights = m(x, x, x, average_attn_weights=False)
    assert 0.4 < (weights == 0).double().mean() < 0.6
    assert torch.autograd.grad(out.sum(), x)[0].isfinite().all()
    m.eval()
    compiled = torch.compile(m, fullgraph=True, backend="aot_eager")
    near(compiled(x, x, x, need_weights=False)[0], m(x, x, x)[0])


def test_refusals():
    class Own(nn.MultiheadAttention):
        pass

    model = nn.ModuleList([Own(8, 2), nn.MultiheadAttention(8, 2)])
    with pytest.raises(heed.Error, match=r"0 \(Own\)"):
        hn.replace(model)
    assert type(model[1]) is nn.MultiheadAttention, "before anything is changed"
    hn.replace(model, strict=False)
    assert type(model[0]) is Own and type(model[1]) is hn.MultiheadAttention
    with pytest.raises(heed.Error, match="holds no torch.nn.MultiheadAttention"):
        hn.replace(nn.Linear(2, 2))
    with pytest.raises(heed.ArgumentTypeError, match="model is a list"):
        hn.replace([])
    m, x = model[1], torch.randn(3, 2, 8)
    for call, words in ((lambda: m(x, x, x, is_causal=True), "is_causal is True without attn_mask"),
                        (lambda: m(x, x[:, :1], x[:, :1]), "query has 2 entries and key 1"),
                        (lambda: m(x, x, x[0]), "must have a batch or none"),
                        (lambda: m(x[..., :7], x, x), "query has the shape"),
                        (lambda: m(x, x, x, attn_mask=torch.zeros(3, 4)), "attn_mask has the shape")):
        with pytest.raises(heed.Error, match=words):
            call()


@pytest.mark.parametrize("dims", [(None, None), (5, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_there_and_back(dims, bias):
    theirs = nn.MultiheadAttention(12, 3, bias=bias, kdim=dims[0], vdim=dims[1], batch_first=True)
    for p in theirs.parameters():
        nn.init.normal_(p)
    mine = hn.from_torch(theirs)
    x, key, value = torch.randn(2, 4, 12), torch.randn(2, 6, dims[0] or 12), torch.randn(2, 6, dims[1] or 12)
    near(mine(x, key, value), theirs(x, key, value)[0], atol=1e-4)
    again = hn.to_torch(mine)
    for name, t in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], t)
    assert again.state_dict().keys() == theirs.state_dict().keys()
    fresh = hn.MultiHeadAttention(12, 3, kdim=dims[0], vdim=dims[1], bias=bias)
    nn.ModuleDict({"a": fresh}).load_state_dict({f"a.{n}": t for n, t in theirs.state_dict().items()})
    near(fresh(x, key, value), theirs(x, key, value)[0], atol=1e-4)


@pytest.mark.parametrize("names", [("q_proj", "k_proj", "v_proj", "o_proj"), ("query", "key", "value", "dense"),
                                   ("to_q", "to_k", "to_v", "to_out.0"), ("wq", "wk", "wv", "wo")])
def test_separate_projections(names):
    m = hn.GroupedQueryAttention(12, 4, 2)
    there = hn.convert_state_dict(m.state_dict(), "plain", names=names)
    assert set(there) == {f"{n}.{kind}" for n in names for kind in ("weight", "bias")}
    back = hn.convert_state_dict({**there, "norm.weight": torch.ones(1)})
    assert back.pop("norm.weight") is not None
    assert all(torch.equal(back[n], t) for n, t in m.state_dict().items()) and len(back) == 8
    packed = hn.convert_state_dict(m.state_dict(), "packed")
    assert packed["Wqkv.weight"].shape == (24, 12)
    fresh = hn.GroupedQueryAttention(12, 4, 2)
    fresh.load_state_dict(packed)
    near(fresh(torch.ones(1, 2, 12)), m(torch.ones(1, 2, 12)))


def test_conversions_refused():
    m = hn.GroupedQueryAttention(12, 4, 2, rotary=2, causal=True)
    with pytest.raises(heed.Error, match="num_kv_heads, rotary, causal"):
        hn.to_torch(m)
    with pytest.raises(heed.Error, match="as many kv heads as heads"):
        hn.convert_state_dict(m.state_dict(), "torch")
    with pytest.raises(heed.Error, match="no projections of attention"):
        hn.convert_state_dict({"a.weight": torch.ones(1)})
    with pytest.raises(heed.Error, match='to is "llama"'):
        hn.convert_state_dict(m.state_dict(), "llama")
    with pytest.raises(heed.Error, match="are needed"):
        hn.convert_state_dict({"Wqkv.weight": torch.ones(8, 4), "out_proj.weight": torch.ones(4, 4)})
    with pytest.raises(heed.Error, match="heed.nn.replace"):
        hn.from_torch(nn.MultiheadAttention(4, 2, add_zero_attn=True))
    with pytest.raises(RuntimeError, match="Missing key"):
        m.load_state_dict({})
