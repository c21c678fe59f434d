# test_transformers_call.py: the attention function as transformers calls it, option by option, against a
# plain float64 program. Not here: whole models (test_transformers.py), masks (test_transformers_masks.py).
import os

import pytest

torch = pytest.importorskip("torch")
os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", minversion="5.0")

from hypothesis import given, settings, strategies as st  # noqa: E402

import heed  # noqa: E402
from heed.transformers import attention_forward  # noqa: E402


class Module(torch.nn.Module):
    is_causal = True
    layer_idx = 0


def plain(q, k, v, mask=None, bias=None, scaling=None, softcap=None, sinks=None):
    """Everything in float64 and in memory; masks are bool. Rows without keys give 0."""
    q, k, v = (t.double() for t in (q, k, v))
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    s = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    s = s if softcap is None else softcap * torch.tanh(s / softcap)
    s = s if bias is None else s + bias.double()
    mask = torch.ones_like(s, dtype=torch.bool) if mask is None else mask.expand_as(s)
    s = s.masked_fill(~mask, -float("inf"))
    if sinks is not None:
        s = torch.cat([s, sinks.double().expand(*s.shape[:3], 1)], -1)
    p = torch.nan_to_num(s.softmax(-1))[..., :k.shape[2]]
    return (p @ v).transpose(1, 2), p


def tensors(seed, batch=2, heads=4, groups=2, queries=7, keys=7, d=8, dv=8):
    g = torch.Generator().manual_seed(seed)
    few = heads // groups
    shapes = ((batch, heads, queries, d), (batch, few, keys, d), (batch, few, keys, dv))
    return [torch.randn(s, generator=g, requires_grad=True) for s in shapes]


def check(got, want, inputs, tolerance=2e-5):
    assert got.shape == want.shape and got.is_contiguous()
    assert (got - want).abs().max() < tolerance
    weight = torch.randn(want.shape, generator=torch.Generator().manual_seed(9))
    ours = torch.autograd.grad((got * weight).sum(), inputs)
    theirs = torch.autograd.grad((want * weight).sum(), inputs)
    for a, b in zip(ours, theirs):
        assert a.dtype == b.dtype and (a - b).abs().max() < 5 * tolerance * max(1, b.abs().max())


def at(queries, keys):
    return torch.arange(queries)[:, None], torch.arange(keys)[None, :]


@settings(max_examples=60)
@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, True, False]),
       st.sampled_from([None, 1, 3]), st.sampled_from([None, 0.7]), st.sampled_from([None, 1.5]),
       st.booleans(), st.booleans(), st.sampled_from([5, 8]))
def test_without_a_mask(seed, queries, keys, is_causal, window,
                        scaling, softcap, with_sinks, with_bias, dv):
    """Causal means top-left, for a prefill into a static cache has room behind it; one query sees all keys."""
    q, k, v = tensors(seed, queries=queries, keys=keys, dv=dv)
    sinks = torch.randn(4, requires_grad=True) if with_sinks else None
    bias = torch.randn(1, 4, queries, keys, requires_grad=True) if with_bias else None
    got, nothing = attention_forward(Module(), q, k, v, None, scaling=scaling, is_causal=is_causal, softcap=softcap,
                                     sliding_window=window, s_aux=sinks, position_bias=bias, position_ids=None)
    i, j = at(queries, keys)
    i = i if queries > 1 else i + keys - 1
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if queries > 1 and is_causal is not False:
        seen &= j <= i
    if window is not None and keys > window:
        seen &= (i - j < window) & (j - i < window)
    want, _ = plain(q, k, v, seen, bias, scaling, softcap,
                    None if sinks is None else sinks[:, None, None])
    assert nothing is None
    check(got, want, [t for t in (q, k, v, sinks, bias) if t is not None])


@settings(max_examples=40)
@given(st.integers(0, 99), st.sampled_from(["bool", "float", "lowest", "half"]), st.sampled_from([1, 2]),
       st.sampled_from([1, 4]), st.booleans(), st.booleans())
def test_with_a_mask(seed, kind, batch, heads, with_bias, longer):
    """The mask says everything: is_causal and sliding_window have no say beside it."""
    q, k, v = tensors(seed)
    g = torch.Generator().manual_seed(seed)
    seen = torch.rand(batch, heads, 7, 7 + 2 * longer, generator=g) < 0.6
    seen[..., 0] = True
    bias = torch.randn(2, 4, 7, 7, requires_grad=True) if with_bias else None
    mask, added = seen, bias
    if kind != "bool":
        hidden = -float("inf") if kind == "float" else torch.finfo(torch.float32).min
        mask = torch.where(seen, 0.0, hidden)
        mask = mask + torch.randn(mask.shape, generator=g).where(seen, torch.zeros(()))
        mask = mask.half() if kind == "half" else mask
        extra = mask[..., :7].where(seen[..., :7], torch.zeros((), dtype=mask.dtype))
        added = extra if bias is None else bias + extra
    got, _ = attention_forward(Module(), q, k, v, mask, is_causal=True,
                               sliding_window=2, position_bias=bias)
    want, _ = plain(q, k, v, seen[..., :7], added)
    check(got, want, [t for t in (q, k, v, bias) if t is not None])


def test_lowest_floats_in_a_whole_row_are_uniform():
    q, k, v = tensors(1)
    mask = torch.full((2, 1, 7, 7), torch.finfo(torch.float32).min)
    got, _ = attention_forward(Module(), q, k, v, mask)
    assert (got - v.mean(2).repeat_interleave(2, 1)[:, None]).abs().max() < 1e-6


def test_a_row_without_keys_is_zero():
    q, k, v = tensors(1)
    mask = torch.ones(2, 1, 7, 7, dtype=torch.bool)
    mask[0, 0, 3] = False
    got, _ = attention_forward(Module(), q, k, v, mask)
    assert (got[0, 3] == 0).all()
    check(got, plain(q, k, v, mask)[0], (q, k, v))


def test_a_sink_for_each_query():
    for queries in (1, 7):
        q, k, v = tensors(2, queries=queries)
        sinks = torch.randn(2, 4, queries, 1, requires_grad=True)
        got, p = attention_forward(Module(), q, k, v, None, is_causal=False,
                                   sinks=sinks, output_attentions=True)
        want, probs = plain(q, k, v, sinks=sinks)
        assert (p - probs).abs().max() < 1e-6
        check(got, want, (q, k, v, sinks))


def test_sequences_end_to_end():
    lengths = (3, 0, 4, 7)
    q, k, v = tensors(3)
    cu = torch.tensor([0, *lengths]).cumsum(0)  # int64, as users hold them
    seen = torch.block_diag(*(torch.ones(n, n) for n in lengths if n)).bool()
    for causal, window, longest in ((True, None, 7), (False, None, torch.tensor(7)), (True, 2, None)):
        i, j = at(14, 14)
        mask = seen & (j <= i) if causal else seen
        mask = mask & (i - j < window) if window else mask
        got, _ = attention_forward(Module(), q, k, v, None, is_causal=causal, sliding_window=window,
                                   cu_seq_lens_q=cu, cu_seq_lens_k=cu, max_length_q=longest, max_length_k=longest)
        flat = [t.transpose(1, 2).flatten(0, 1)[None].transpose(1, 2) for t in (q, k, v)]
        want = plain(*flat, mask)[0].reshape(2, 7, 4, 8)
        check(got, want, (q, k, v))


def test_keys_that_an_indexer_chose():
    q, k, v = tensors(4)
    indices = torch.rand(2, 7, 7, generator=torch.Generator().manual_seed(4)).argsort(-1)[..., :3].int()
    chosen = torch.zeros(2, 1, 7, 7, dtype=torch.bool).scatter(-1, indices.long()[:, None], True)
    i, j = at(7, 7)
    for mask in (None, (j <= i)[None, None]):
        got, _ = attention_forward(Module(), q, k, v, mask, indices=indices)
        check(got, plain(q, k, v, chosen & (j <= i))[0], (q, k, v))


def test_probabilities_after_dropout():
    q, k, v = tensors(5, queries=40, keys=50)
    torch.manual_seed(1)
    got, p = attention_forward(Module(), q, k, v, None, dropout=0.4,
                               is_causal=False, output_attentions=True)
    want, whole = plain(q, k, v)
    kept = p != 0
    assert 0.5 < kept.float().mean() < 0.7 and not p.requires_grad
    assert (p - kept * whole / 0.6).abs().max() < 1e-5
    values = v.double().repeat_interleave(2, dim=1)
    assert (got - (p.double() @ values).transpose(1, 2)).abs().max() < 1e-5


def test_one_row_of_learned_queries():
    q, k, v = tensors(6)
    q = q[:1].detach().requires_grad_()
    got, _ = attention_forward(Module(), q, k, v, None, is_causal=False)
    check(got, plain(q.expand(2, -1, -1, -1), k, v)[0], (q, k, v))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_and_autocast(dtype):
    q, k, v = tensors(7)
    bias = torch.randn(1, 4, 7, 7)
    want, _ = plain(q, k, v, bias=bias, sinks=torch.zeros(4, 1, 1))
    halves = [t.detach().to(dtype) for t in (q, k, v)]
    got, _ = attention_forward(Module(), *halves, None, is_causal=False, position_bias=bias,
                               s_aux=torch.zeros(4, dtype=dtype))
    assert got.dtype == dtype and (got - want).abs().max() < 0.03
    with torch.autocast("cpu", dtype=dtype):
        got, _ = attention_forward(Module(), q, k, v, bias.half(), is_causal=False, s_aux=torch.zeros(4))
    assert got.dtype == dtype and (got - want).abs().max() < 0.03


def test_what_cannot_be_done_is_said():
    q, k, v = tensors(8)
    for words, call in (
        ("int64", lambda: attention_forward(Module(), q, k, v, torch.ones(2, 1, 7, 7, dtype=torch.long))),
        ("s_aux has the shape", lambda: attention_forward(Module(), q, k, v, None, s_aux=torch.zeros(3))),
        ("sliding_window is 0", lambda: attention_forward(Module(), q, k, v, None, sliding_window=0)),
        ("query has the shape", lambda: attention_forward(Module(), q[0], k, v, None)),
        ("from 0 to 6", lambda: attention_forward(Module(), q, k, v, None, indices=torch.full((2, 7, 1), 7))),
        ("cu_seq_lens_k is None", lambda: attention_forward(Module(), q, k, v, None,
                                                            cu_seq_lens_q=torch.tensor([0, 14]))),
        ("attention_mask is a list", lambda: attention_forward(Module(), q, k, v, [1])),
        ("block_indices", lambda: attention_forward(Module(), q, k, v, None, block_indices=torch.zeros(1))),
        ("cu_seq_lens_q", lambda: attention_forward(Module(), q, k, v, None, output_attentions=True,
                                                   cu_seq_lens_q=torch.tensor([0, 14]),
                                                   cu_seq_lens_k=torch.tensor([0, 14]))),
        ("mask", lambda: attention_forward(Module(), q, k, v, torch.ones(2, 1, 7, 5, dtype=torch.bool))),
        ("f64", lambda: attention_forward(Module(), q.double(), k.double(), v.double(), None)),
    ):
        with pytest.raises(heed.Error, match=words):
            call()
    for name in ("flash_heed", "a/b", "eager", "paged|heed", "a:b", "", 3, "flex_attention"):
        with pytest.raises(heed.Error, match="name is"):
            heed.transformers.register(name)


def test_registrations_come_and_go():
    tables = [interface._global_mapping
              for interface in (transformers.AttentionInterface, transformers.AttentionMaskInterface)]
    before = [dict(t) for t in tables]
    with heed.transformers.register("sdpa", backend="reference") as outer:
        with heed.transformers.register() as inner:
            assert inner.name == "heed" and "removed" not in repr(inner)
            assert all("heed" in t for t in tables)
        assert "removed" in repr(inner)
        q, k, v = (t.double() for t in tensors(9))
        out, _ = transformers.AttentionInterface()["sdpa"](Module(), q, k, v, None)
        i, j = at(7, 7)
        assert (out - plain(q, k, v, j <= i)[0]).abs().max() < 1e-12
    outer.remove()
    assert [dict(t) for t in tables] == before
