# test_flash_attn_cache.py: flash_attn_with_kvcache, and pages, used lengths and left padding of ragged
# calls, against plain.py on the keys that count. Not here: the other functions (test_flash_attn.py).
import math

import arrays
import flash
import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import heed.flash_attn as fa  # noqa: E402
from heed.flash_attn.flash_attn_interface import _flash_attn_varlen_forward  # noqa: E402


def rotated(x, positions, cos, sin, interleaved):
    """float64 rotation of x (S, H, D) by the table's rows, rounded to x's own dtype as a cache holds it."""
    ro = 2 * cos.shape[-1]
    out = x.astype(np.float64)
    a, b = (slice(0, ro, 2), slice(1, ro, 2)) if interleaved else (slice(0, ro // 2), slice(ro // 2, ro))
    c, s = cos[positions][:, None].astype(np.float64), sin[positions][:, None].astype(np.float64)
    first, second = out[..., a].copy(), out[..., b].copy()
    out[..., a], out[..., b] = first * c - second * s, first * s + second * c
    return out.astype(np.float32)


def check_entry(dtype, b, q, k, v, options, out, lse=None):
    e = plain.Entry(q, k, v, b, **flash.contract(**options))
    # A rotation in f32 is off by a rounding of each product, as the score's own sum is.
    arrays.near("out", out, e.o, 2 * plain.output_bound(e, dtype))
    if lse is not None:
        expected = np.where(np.isneginf(e.lse), np.inf, e.lse)
        arrays.near("lse", lse, expected, 2 * plain.lse_bound(e) + 2.0**-18)


@st.composite
def caches(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    b, sq, hk, d = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 2)), 16
    new = draw(st.integers(0, 4))
    rows_in_use = [draw(st.integers(0, 30)) for _ in range(b)]
    kind = draw(st.sampled_from(["rows", "slots", "pages"]))
    options = draw(flash.scores(b, 2 * hk))
    rotary = new > 0 and draw(st.booleans())
    leftpad = kind == "rows" and not rotary and draw(st.booleans())
    return dict(rng=rng, b=b, sq=sq, hk=hk, d=d, new=new, used=rows_in_use, kind=kind, options=options,
                rotary=rotary, leftpad=leftpad, interleaved=draw(st.booleans()))


@settings(max_examples=60)
@given(caches())
def test_cache(c):
    rng, b, sq, hk, d, new = (c[n] for n in ("rng", "b", "sq", "hk", "d", "new"))
    logical = [flash.rows(rng, (34, 2, hk, d)) for _ in range(b)]
    q = flash.rows(rng, (b, sq, 2 * hk, d))
    given_options = {"cache_seqlens": torch.tensor(c["used"], dtype=torch.int32), **flash.torch_options(c["options"])}
    if c["kind"] == "pages":
        page = int(rng.integers(1, 8))
        blocks = -(-34 // page)
        table = rng.permutation(b * blocks + 3)[:b * blocks].reshape(b, blocks).astype(np.int32)
        cache = flash.rows(rng, (b * blocks + 3, page, 2, hk, d))
        for i in range(b):
            cache[table[i]] = np.pad(logical[i], ((0, blocks * page - 34), (0, 0), (0, 0), (0, 0))).reshape(
                blocks, page, 2, hk, d)
        given_options["block_table"] = torch.from_numpy(table)
    else:
        slots = rng.permutation(b + 2)[:b] if c["kind"] == "slots" else np.arange(b)
        cache = flash.rows(rng, (b + 2 if c["kind"] == "slots" else b, 34, 2, hk, d))
        cache[slots] = np.stack(logical)
        if c["kind"] == "slots":
            given_options["cache_batch_idx"] = torch.from_numpy(slots.astype(np.int32))
    left = [int(rng.integers(0, n + 1)) if c["leftpad"] else 0 for n in c["used"]]
    if c["leftpad"]:
        given_options["cache_leftpad"] = torch.tensor(left, dtype=torch.int32)
    fresh = flash.rows(rng, (b, new, 2, hk, d))
    cos, sin = (f(rng.uniform(0, 6, (40, 4))).astype(np.float32) for f in (np.cos, np.sin))
    if new:
        given_options |= {"k": torch.from_numpy(fresh[:, :, 0]), "v": torch.from_numpy(fresh[:, :, 1])}
    if c["rotary"]:
        given_options |= {"rotary_cos": torch.from_numpy(cos), "rotary_sin": torch.from_numpy(sin),
                          "rotary_interleaved": c["interleaved"]}
    mine = torch.from_numpy(cache)
    out, lse = fa.flash_attn_with_kvcache(torch.from_numpy(q), mine[:, :, 0], mine[:, :, 1],
                                          return_softmax_lse=True, **given_options)
    left_right = flash.contract(**c["options"])["window"]
    moving = c["options"]["causal"] or left_right != (-1, -1)
    for i, used in enumerate(c["used"]):
        row, query = fresh[i], q[i]
        if c["rotary"]:
            at = used + np.arange(sq) if moving else np.full(sq, used)
            query = rotated(query, at, cos, sin, c["interleaved"])
            row = np.stack((rotated(row[:, 0], used + np.arange(new), cos, sin, c["interleaved"]), row[:, 1]), 1)
        keys = np.concatenate((logical[i][:used], row))
        check_entry("f32", i, query, keys[left[i]:, 0], keys[left[i]:, 1], c["options"], out[i], lse[i])
        if c["kind"] == "pages":
            stored = mine[torch.from_numpy(table[i])].flatten(0, 1)[:used + new]
        else:
            stored = mine[slots[i], :used + new]
        arrays.near("the cache", stored, keys, 2.0**-20 * (1 + abs(keys)))
    assert given_options["cache_seqlens"].tolist() == c["used"]


def test_whole_cache_and_splits(rng):
    q, cache = (torch.from_numpy(flash.rows(rng, (2, n, 2, 8))) for n in (1, 20))
    out = fa.flash_attn_with_kvcache(q, cache, cache)
    assert torch.equal(out, fa.flash_attn_func(q, cache, cache))
    assert torch.equal(out, fa.flash_attn_with_kvcache(q, cache, cache, cache_seqlens=20, num_splits=8))


def test_forward_only(rng):
    """As in flash-attn: parameters that want gradients may come in, no gradient comes out."""
    q, cache = (torch.from_numpy(flash.rows(rng, (2, n, 2, 8))).requires_grad_() for n in (1, 20))
    assert not fa.flash_attn_with_kvcache(q, cache, cache).requires_grad


def test_cache_compiles_in_one_graph(rng):
    q, k, cache = (torch.from_numpy(flash.rows(rng, (2, n, 2, 8))) for n in (1, 1, 20))
    used = torch.tensor([3, 7], dtype=torch.int32)

    def step(q, k, cache):
        return fa.flash_attn_with_kvcache(q, cache, cache.clone(), k, k, cache_seqlens=used, causal=True)
    mine = cache.clone()
    out = torch.compile(step, fullgraph=True, backend="aot_eager")(q, k, mine)
    assert torch.equal(out, step(q, k, cache)) and torch.equal(mine, cache)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), min_size=1, max_size=3), st.data())
def test_varlen_keys_that_count(sizes, data):
    """seqused_k, leftpad_k and block_table of the private forward: the same as the keys by themselves."""
    rng = np.random.default_rng(len(sizes))
    b, h, page = len(sizes), 4, data.draw(st.integers(1, 9))
    options = data.draw(flash.scores(b, h))
    paged, used_given, padded = (data.draw(st.booleans()) for _ in range(3))
    if data.draw(st.booleans()):
        sizes = [(sizes[0][0], k) for _, k in sizes]  # alike in queries, as in decoding
    ends = np.cumsum([(0, 0), *sizes], axis=0).astype(np.int32)
    q = flash.rows(rng, (ends[-1, 0], h, 16))
    kv = flash.rows(rng, (ends[-1, 1], 2, 2, 16))
    used = [data.draw(st.integers(0, n)) if used_given else n for _, n in sizes]
    left = [data.draw(st.integers(0, n)) if padded else 0 for n in used]
    keys = torch.from_numpy(kv)
    given_options = {}
    if paged:
        blocks = -(-max(n for _, n in sizes) // page) + 1
        table = rng.permutation(b * blocks).reshape(b, blocks).astype(np.int32)
        pages = np.zeros((b * blocks, page, 2, 2, 16), np.float32)
        for i, (_, n) in enumerate(sizes):
            rows = np.pad(kv[ends[i, 1]:ends[i + 1, 1]], ((0, blocks * page - n), (0, 0), (0, 0), (0, 0)))
            pages[table[i]] = rows.reshape(blocks, page, 2, 2, 16)
        keys, given_options["block_table"] = torch.from_numpy(pages), torch.from_numpy(table)
    if used_given:
        given_options["seqused_k"] = torch.tensor(used, dtype=torch.int32)
    if padded:
        given_options["leftpad_k"] = torch.tensor(left, dtype=torch.int32)
    cu_q, cu_k = (torch.from_numpy(ends[:, i].copy()) for i in (0, 1))
    theirs = flash.torch_options(options)
    scale, causal = theirs.pop("softmax_scale", None), theirs.pop("causal")
    window = theirs.pop("window_size", (-1, -1))
    k, v = (keys.select(-3, i) for i in (0, 1))
    out, lse, _, _ = _flash_attn_varlen_forward(
        torch.from_numpy(q), k, v, cu_q, cu_k, max(n for n, _ in sizes), max(n for _, n in sizes), 0.0, scale,
        causal, int(window[0]), int(window[1]), **theirs, **given_options)
    for i in range(b):
        rows = slice(ends[i, 0], ends[i + 1, 0])
        first = ends[i, 1]
        mine = kv[first + left[i]:first + used[i]]
        check_entry("f32", i, q[rows], mine[:, 0], mine[:, 1], options, out[rows], lse[:, rows])


def test_pages_have_gradients(rng):
    """What flash-attn has not: pages are copied into rows, and their gradient comes back to the pages."""
    q = torch.from_numpy(flash.rows(rng, (5, 2, 8)))
    pages = torch.from_numpy(flash.rows(rng, (4, 4, 2, 8))).requires_grad_()
    table = torch.tensor([[2, 0]], dtype=torch.int32)
    cu_q, cu_k = (torch.tensor([0, n], dtype=torch.int32) for n in (5, 7))
    out = fa.flash_attn_varlen_func(q, pages, pages, cu_q, cu_k, 5, 7, block_table=table)
    grad, = torch.autograd.grad(out.sum(), pages)
    wide = pages.detach().double().requires_grad_()
    keys = torch.cat((wide[2], wide[0]))[:7]
    s = torch.einsum("ihd,jhd->hij", q.double(), keys) / math.sqrt(8)
    expected, = torch.autograd.grad(torch.einsum("hij,jhd->ihd", s.softmax(-1), keys).sum(), wide)
    torch.testing.assert_close(grad.double(), expected, rtol=2**-16, atol=2**-16)
