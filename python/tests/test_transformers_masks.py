# test_transformers_masks.py: what heed keeps of a mask instead of making it: the same attention as under
# the mask itself, and the mask itself to all who look. Not here: whole models (test_transformers.py).
import copy
import os
import pickle

import pytest

torch = pytest.importorskip("torch")
os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", minversion="5.0")

from hypothesis import given, settings, strategies as st  # noqa: E402
from transformers import masking_utils  # noqa: E402

import heed.transformers  # noqa: E402
from heed.transformers import _masks  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def registered():
    before, _masks.SMALL = _masks.SMALL, 0
    with heed.transformers.register():
        yield
    _masks.SMALL = before


class Cache:
    """As much of a cache as masks are made from: so many tokens seen, the first ones dropped."""

    is_compileable = False

    def __init__(self, seen, dropped, room):
        self.seen, self.dropped, self.room = seen, dropped, room

    def get_query_offset(self, layer):
        return self.seen

    def get_mask_sizes(self, queries, layer):
        return self.room or self.seen - self.dropped + queries, self.dropped


def config(**fields):
    made = transformers.LlamaConfig(num_hidden_layers=1)
    made._attn_implementation = "heed"
    for name, value in fields.items():
        setattr(made, name, value)
    return made


KINDS = {
    "causal": masking_utils.create_causal_mask,
    "sliding": masking_utils.create_sliding_window_causal_mask,
    "chunked": masking_utils.create_chunked_causal_mask,
    "full": masking_utils.create_bidirectional_mask,
    "band": masking_utils.create_bidirectional_sliding_window_mask,
}


def masks(kind, batch, queries, padding=None, cache=None, positions=None, window=3):
    """(heed's, transformers' own) of one forward pass."""
    results = []
    for patterns in (True, False):
        arguments = dict(config=config(sliding_window=window, attention_chunk_size=window),
                         inputs_embeds=torch.zeros(batch, queries, 1), attention_mask=padding)
        if kind in ("causal", "sliding", "chunked"):
            arguments |= dict(past_key_values=cache, position_ids=positions, allow_is_causal_skip=False)
        else:
            arguments["allow_is_bidirectional_skip"] = False
        with heed.transformers.register(patterns=patterns):
            results.append(KINDS[kind](**arguments))
    return results


def plain(q, k, v, mask):
    q, k, v = (t.double() for t in (q, k, v))
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    s = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).masked_fill(~mask, -float("inf"))
    p = torch.where(mask, s.softmax(-1), 0.0)
    return (p @ v).transpose(1, 2)


def check(made, wanted, seed):
    """The pattern attends as its mask does, forward and backward, rows without keys included."""
    assert isinstance(made, _masks.Pattern) and type(wanted) is torch.Tensor
    assert made.shape == wanted.shape and made.dtype == torch.bool
    torch.manual_seed(seed)
    batch, _, queries, keys = wanted.shape
    q, k, v = (torch.randn(batch, h, n, 4, requires_grad=True)
               for h, n in ((4, queries), (2, keys), (2, keys)))
    got, _ = heed.transformers.attention_forward(torch.nn.Module(), q, k, v, made)
    want = plain(q, k, v, wanted)
    assert got.is_contiguous() and (got - want).abs().max() < 3e-6
    weight = torch.randn(got.shape)
    for a, b in zip(torch.autograd.grad((got * weight).sum(), (q, k, v)),
                    torch.autograd.grad((want * weight).sum(), (q, k, v))):
        assert (a - b).abs().max() < 2e-5
    assert torch.equal(made & True, wanted)


@settings(max_examples=40)
@given(st.sampled_from(sorted(KINDS)), st.integers(1, 3),
       st.integers(2, 12), st.integers(1, 6), st.data())
def test_square(kind, batch, length, window, data):
    left = kind in ("causal", "sliding", "chunked")
    side = data.draw(st.sampled_from(["none", "right"] + ["left"] * left))
    padding = None
    if side != "none":
        hidden = torch.tensor(data.draw(st.lists(st.integers(0, length), min_size=batch, max_size=batch)))
        padding = torch.arange(length) >= hidden[:, None]
        padding = padding.flip(1) if side == "right" else padding
    made, wanted = masks(kind, batch, length, padding, window=window)
    check(made, wanted, length)


@settings(max_examples=25)
@given(st.sampled_from(["causal", "sliding"]), st.lists(st.integers(1, 6), min_size=2, max_size=5),
       st.integers(1, 4), st.integers(1, 2))
def test_packed(kind, lengths, window, batch):
    positions = torch.cat([torch.arange(n) for n in lengths])[None].expand(batch, -1).contiguous()
    if batch == 2:
        positions[1] = torch.cat([torch.arange(n) for n in reversed(lengths)])
    made, wanted = masks(kind, batch, positions.shape[1], positions=positions, window=window)
    if len(set(positions.diff().reshape(-1).tolist())) > 1:
        assert made.geometry.cu_seqlens is not None
    check(made, wanted, sum(lengths))


@settings(max_examples=25)
@given(st.sampled_from(["causal", "sliding"]), st.integers(2, 6), st.integers(0, 9), st.integers(0, 4),
       st.integers(1, 5), st.data())
def test_with_a_cache(kind, queries, seen, dropped, window, data):
    """Later chunks of a prefill, windows that dropped their first rows, static caches with room to spare."""
    dropped = min(dropped, seen)
    room = data.draw(st.sampled_from([None, seen - dropped + queries + 3]))
    padding = None
    if data.draw(st.booleans()):
        padding = torch.ones(2, seen + queries, dtype=torch.bool)
    made, wanted = masks(kind, 2, queries, padding, Cache(seen, dropped, room), window=window)
    check(made, wanted, queries)


def test_what_is_no_pattern_is_made():
    padding = torch.tensor([[True, False, True, True]])  # a hole
    for given_, kind in ((padding, "causal"), (torch.tensor([[False, False, True, True]]), "full")):
        made, wanted = masks(kind, 1, 4, given_)
        assert type(made) is torch.Tensor and torch.equal(made, wanted)
    overlay = masking_utils.create_causal_mask(
        config(), torch.zeros(1, 5, 1), None, None, or_mask_function=lambda b, h, i, j: j < 2)
    assert type(overlay) is torch.Tensor and bool(overlay[0, 0, 0, 1])
    four = torch.rand(2, 1, 5, 5) < 0.5
    assert masking_utils.create_causal_mask(config(), torch.zeros(2, 5, 1), four, None) is four


def test_where_none_is_needed_there_is_none():
    assert masking_utils.create_causal_mask(config(), torch.zeros(1, 5, 1), None, None) is None
    full = torch.ones(1, 5)
    assert masking_utils.create_bidirectional_mask(config(), torch.zeros(1, 5, 1), full) is None


def test_everyone_else_sees_a_mask():
    made, wanted = masks("sliding", 2, 7)
    for look in (lambda m: m[:, :, 2:, :3], lambda m: ~m, lambda m: m.to(torch.float32), lambda m: m.clone(),
                 lambda m: torch.cat([m, m]), lambda m: torch.where(m, 0.0, -1.0),
                 lambda m: m.expand(2, 4, 7, 7),
                 copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: m.sum((1, 2, 3))):
        assert type(look(made)) is torch.Tensor and torch.equal(look(made), look(wanted))
    assert made.dense() is made.dense() and "left=2" in repr(made)


def test_memory_of_a_long_window_is_linear():
    """32768² pairs would take 1 GiB as a mask."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(t, torch.Tensor) and type(t) is not _masks.Pattern:
                    self.bytes = max(self.bytes, t.untyped_storage().nbytes())
            return out

    length = 32768
    with Largest() as largest:
        made = masking_utils.create_sliding_window_causal_mask(
            config(sliding_window=16), torch.zeros(1, length, 1), None, None)
        q = torch.ones(1, 1, length, 4)
        out, _ = heed.transformers.attention_forward(torch.nn.Module(), q, q, q, made)
    assert isinstance(made, _masks.Pattern) and torch.allclose(out, torch.ones_like(out))
    assert 0 < largest.bytes <= 16 * length
