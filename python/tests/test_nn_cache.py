# test_nn_cache.py: step by step with a KVCache is the whole sequence at once. Not here: the module's own
# mathematics (test_nn.py).
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")
import nn_plain as plain  # noqa: E402
from test_nn import expected, near  # noqa: E402

import heed  # noqa: E402
import heed.nn as hn  # noqa: E402

OPTIONS = [{"causal": True}, {"causal": True, "rotary": 8}, {"window": (5, 0), "rotary": 8, "rotary_interleaved": True},
           {"causal": True, "alibi": True, "softcap": 4.0}, {"causal": True, "sinks": True, "chunk": 6}]


@settings(max_examples=25)
@given(st.sampled_from(OPTIONS), st.sampled_from([None, 40]),
       st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 3))
def test_steps_are_the_whole(options, max_length, steps, batch):
    m = hn.MultiHeadAttention(32, 4, 2, **options).requires_grad_(False)
    total = min(sum(steps), 40)
    x = torch.randn(batch, total, 32)
    want, _ = expected(m, options, x)
    cache, outs, at = hn.KVCache(max_length), [], 0
    for n in steps:
        n = min(n, total - at)
        outs.append(m(x[:, at:at + n], cache=cache))
        at += n
    near(torch.cat(outs, 1), want)
    assert len(cache) == total and cache.lengths.tolist() == [total] * batch


def test_grows_beyond_its_first_rows():
    m = hn.MultiQueryAttention(16, 2, causal=True, rotary=8).requires_grad_(False)
    x = torch.randn(1, 300, 16)
    cache = hn.KVCache()
    outs = [m(x[:, i:i + 50], cache=cache) for i in range(0, 300, 50)]
    near(torch.cat(outs, 1), expected(m, {"causal": True}, x)[0])


@pytest.mark.parametrize("options", OPTIONS[:2] + OPTIONS[3:4])
@pytest.mark.parametrize("said", ["lengths", "mask"])
def test_padding_at_the_end(options, said):
    """Prompts of different lengths, then steps: each entry as if it were alone."""
    m = hn.MultiHeadAttention(32, 4, 2, **options).requires_grad_(False)
    lengths = torch.tensor([7, 2, 5])
    x = torch.randn(3, 10, 32)
    prompt = torch.zeros(3, 7, 32)
    for b, n in enumerate(lengths):
        prompt[b, :n] = x[b, :n]
    cache = hn.KVCache(20)
    pad = torch.arange(7) >= lengths[:, None]
    first = m(prompt, cache=cache, **({"key_lengths": lengths} if said == "lengths" else {"key_padding_mask": pad}))
    assert cache.lengths.tolist() == [7, 2, 5]
    steps = [m(torch.stack([x[b, n + i] for b, n in enumerate(lengths)])[:, None], cache=cache) for i in range(3)]
    for b, n in enumerate(lengths):
        want = expected(m, options, x[b:b + 1, :n + 3])[0][0]
        near(torch.cat([first[b, :n], *(s[b] for s in steps)]), want)


@pytest.mark.parametrize("options", OPTIONS[:2] + OPTIONS[3:4])
def test_padding_at_the_start(options):
    m = hn.MultiHeadAttention(32, 4, 2, **options).requires_grad_(False)
    lengths = torch.tensor([7, 2, 5])
    x = torch.randn(3, 7 + 3, 32)
    pad = (torch.arange(7) >= lengths[:, None]).flip(-1)
    cache = hn.KVCache()
    outs = [m(x[:, :7], cache=cache, key_padding_mask=pad)] + [m(x[:, i:i + 1], cache=cache) for i in (7, 8, 9)]
    for b, n in enumerate(lengths):
        want = expected(m, options, x[b:b + 1, 7 - n:])[0][0]
        near(torch.cat([o[b] for o in outs])[7 - n:], want)


def test_everything_seen_and_masks():
    m = hn.MultiHeadAttention(32, 4, rotary=8).requires_grad_(False)  # not causal
    x = torch.randn(2, 9, 32)
    cache = hn.KVCache()
    near(m(x[:, :5], cache=cache), expected(m, {}, x[:, :5])[0])
    near(m(x[:, 5:], cache=cache), expected(m, {}, x)[0][:, 5:])
    hidden = torch.rand(9, 9) < 0.3
    cache.reset()
    m(x[:, :5], cache=cache)
    near(m(x[:, 5:], cache=cache, attn_mask=hidden[5:]), expected(m, {}, x, hidden)[0][:, 5:])
    cache.crop(5)
    bias = torch.randn(9, 9)
    near(m(x[:, 5:], cache=cache, attn_mask=bias[5:]), expected(m, {}, x, bias=bias)[0][:, 5:])


def test_reorder_and_crop():
    m = hn.MultiHeadAttention(32, 4, causal=True, rotary=8).requires_grad_(False)
    x = torch.randn(3, 6, 32)
    cache = hn.KVCache(6)
    m(x[:, :4], cache=cache)
    cache.reorder(torch.tensor([2, 0]))
    near(m(x[[2, 0], 4:5], cache=cache), expected(m, {"causal": True}, x[[2, 0], :5])[0][:, 4:])
    cache.crop(2)
    near(m(x[[2, 0], 2:], cache=cache), expected(m, {"causal": True}, x[[2, 0]])[0][:, 2:])


def test_sixteen_bits():
    m = hn.MultiHeadAttention(32, 4, 2, causal=True, rotary=8).requires_grad_(False)
    x = torch.randn(2, 6, 32)
    want, _ = expected(m, {"causal": True}, x)
    with torch.autocast("cpu", torch.bfloat16):
        cache = hn.KVCache()
        outs = [m(x[:, i:i + 2], cache=cache) for i in (0, 2, 4)]
    assert cache.k.dtype == torch.bfloat16
    near(torch.cat(outs, 1), want, atol=0.05, rtol=0.05)


def test_compile():
    m = hn.MultiHeadAttention(32, 4, 2, causal=True, rotary=8).requires_grad_(False)
    x = torch.randn(2, 8, 32)
    cache = hn.KVCache(8)
    step = torch.compile(lambda x: m(x, cache=cache), backend="aot_eager")
    near(torch.cat([step(x[:, i:i + 2]) for i in range(0, 8, 2)], 1), expected(m, {"causal": True}, x)[0])


def bad():
    m = hn.MultiHeadAttention(16, 2, causal=True).requires_grad_(False)
    x = torch.randn(2, 5, 16)

    def full(length=4):
        c = hn.KVCache(length)
        m(x[:, :3], cache=c)
        return c

    flag = torch.tensor([[False, True, False, False, False]] * 2)
    yield lambda: hn.KVCache(0), "max_length is 0"
    yield lambda: m(x, cache=full()), "the cache has 4 rows"
    yield lambda: m(x[:1, :1], cache=full()), "one batch"
    yield lambda: m.to(torch.float32)(x, x[:, :2], cache=full()), "keys of another sequence"
    yield lambda: m(x, cache=full(9), need_weights=True), "returns no weights"
    yield lambda: m(x, cache=full(9), key_padding_mask=flag), "other gaps"
    yield lambda: m(x, cache=full(9), key_padding_mask=flag.float()), "must be bool"
    yield lambda: full().crop(5), "crop to 5"
    yield lambda: full().reorder(torch.tensor([2])), "numbers from 0 to 1"
    yield lambda: hn.KVCache().reorder(torch.tensor([0])), "empty"
    yield lambda: hn.MultiHeadAttention(16, 2)(x, cache=hn.KVCache()), "records gradients"
    loose = hn.MultiHeadAttention(16, 2, dropout=0.5).requires_grad_(False)
    yield lambda: loose(x, cache=hn.KVCache()), "call eval()"
    yield lambda: loose.eval()(x, cache=hn.KVCache(), key_lengths=torch.tensor([1, 2])), "not causal"
    top = hn.MultiHeadAttention(16, 2, causal=True, align="top_left").requires_grad_(False)
    yield lambda: top(x, cache=hn.KVCache()), "top_left"


@pytest.mark.parametrize("call, words", list(bad()), ids=lambda x: x if isinstance(x, str) else "")
def test_errors_are_sentences(call, words):
    with pytest.raises(heed.Error) as raised:
        call()
    assert words in str(raised.value)


def test_plain_program_is_independent():
    # The program these tests compare with agrees with PyTorch's own.
    q, k, v = (torch.randn(2, 5, 4, 8, dtype=torch.float64) for _ in range(3))
    o, _ = plain.attend(q, k, v, plain.hidden_by(5, 5, causal=True))
    own = torch.nn.functional.scaled_dot_product_attention(
        *(t.transpose(1, 2) for t in (q, k, v)), is_causal=True)
    torch.testing.assert_close(o, own.transpose(1, 2))
