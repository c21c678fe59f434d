# test_flash_attn_3.py: flash-attn 3's functions by its signatures against plain.py. Not here: flash-attn 2's
# (test_flash_attn.py).
import arrays
import flash
import numpy as np
import plain
import pytest

torch = pytest.importorskip("torch")
import heed  # noqa: E402
from heed.flash_attn import flash_attn_3 as fa  # noqa: E402

TAIL = ("softmax_scale=None, causal=False, qv=None, q_descale=None, k_descale=None, v_descale=None, "
        "window_size=(-1, -1), attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False, "
        "sm_margin=0, return_attn_probs=False, s_aux=None")
SIGNATURES = {
    "flash_attn_func": f"q, k, v, {TAIL}",
    "flash_attn_qkvpacked_func":
        "qkv, softmax_scale=None, causal=False, q_descale=None, k_descale=None, v_descale=None, "
        "window_size=(-1, -1), attention_chunk=0, softcap=0.0, deterministic=False, num_heads_q=None, sm_margin=0, "
        "return_attn_probs=False, s_aux=None",
    "flash_attn_varlen_func": "q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_q=None, "
                              f"seqused_k=None, {TAIL}",
    "flash_attn_with_kvcache":
        "q, k_cache, v_cache, k=None, v=None, qv=None, rotary_cos=None, rotary_sin=None, cache_seqlens=None, "
        "cache_batch_idx=None, cache_leftpad=None, page_table=None, cu_seqlens_q=None, cu_seqlens_k_new=None, "
        "max_seqlen_q=None, rotary_seqlens=None, q_descale=None, k_descale=None, v_descale=None, "
        "softmax_scale=None, causal=False, window_size=(-1, -1), attention_chunk=0, softcap=0.0, "
        "rotary_interleaved=True, scheduler_metadata=None, num_splits=0, pack_gqa=None, sm_margin=0, "
        "return_softmax_lse=False, s_aux=None",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    """flash-attn 3's, and s_aux behind."""
    assert flash.signature(getattr(fa, name)) == f"({SIGNATURES[name]})"


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("options", [
    {}, {"causal": True, "s_aux": True}, {"attention_chunk": 5, "causal": True}, {"window_size": (3, 2), "softcap": 2.0}])
def test_dense(rng, dtype, options):
    q, dout = (arrays.to_torch(flash.rows(rng, (2, 13, 4, 16), dtype)).requires_grad_() for _ in range(2))
    k, v = (arrays.to_torch(flash.rows(rng, (2, 11, 2, 16), dtype)).requires_grad_() for _ in range(2))
    leaves, options = {"dq": q, "dk": k, "dv": v}, dict(options)
    mine = {n: x for n, x in options.items() if n in ("causal", "softcap")}
    mine |= {"window": options.get("window_size", (-1, -1)), "chunk": options.get("attention_chunk", 0)}
    if options.get("s_aux"):
        options["s_aux"] = arrays.to_torch(flash.rows(rng, (4,), dtype)).requires_grad_()
        mine["sinks"] = options["s_aux"].detach().float().numpy()
    out, lse = fa.flash_attn_func(q, k, v, **options, return_attn_probs=True)
    grads = dict(zip(leaves, torch.autograd.grad(out, leaves.values(), dout, retain_graph=True)))
    numpy = [x.detach().float().numpy() for x in (q, k, v, dout)]
    arrays.check_forward(dtype, *numpy[:3], mine, out, lse)
    arrays.check_backward(dtype, *numpy, mine, grads)
    if options.get("s_aux") is not None and dtype == "f32":
        grad, = torch.autograd.grad(out, options["s_aux"], dout)
        arrays.check_backward(dtype, *numpy, mine, grads | {"dsinks": grad})
    assert torch.equal(out, fa.flash_attn_func(q, k, v, **options))


def test_qkvpacked_with_groups(rng):
    qkv = torch.from_numpy(flash.rows(rng, (2, 9, 8, 16)))
    out = fa.flash_attn_qkvpacked_func(qkv, causal=True, num_heads_q=4)
    q, k, v = (x.numpy() for x in qkv.split((4, 2, 2), 2))
    arrays.check_forward("f32", q, k, v, {"causal": True}, out)
    three = qkv[:, :, :6].unflatten(2, (3, 2))
    arrays.check_forward("f32", *(x.numpy() for x in three.unbind(2)), {}, fa.flash_attn_qkvpacked_func(three))


@pytest.mark.parametrize("used_q", [None, [2, 0, 7]])
@pytest.mark.parametrize("used_k", [None, [9, 2, 0]])
def test_varlen_rows_that_count(rng, used_q, used_k):
    ends_q, ends_k = (np.array(x, np.int32) for x in ([0, 4, 4, 12], [0, 9, 13, 20]))
    q, dout = (torch.from_numpy(flash.rows(rng, (14, 4, 8))).requires_grad_() for _ in range(2))
    k, v = (torch.from_numpy(flash.rows(rng, (22, 2, 8))).requires_grad_() for _ in range(2))
    seqused = {n: None if u is None else torch.tensor(u, dtype=torch.int32)
               for n, u in (("seqused_q", used_q), ("seqused_k", used_k))}
    sinks = torch.from_numpy(flash.rows(rng, (4,)))
    out, lse = fa.flash_attn_varlen_func(q, k, v, torch.from_numpy(ends_q), torch.from_numpy(ends_k), 8, 9, **seqused,
                                         causal=True, return_attn_probs=True, s_aux=sinks)
    grads = torch.autograd.grad(out, (q, k, v), dout)
    wrong = [x.detach().numpy().copy() for x in (out, *grads)]
    for b in range(3):
        nq = (used_q or np.diff(ends_q))[b]
        nk = (used_k or np.diff(ends_k))[b]
        rows, keys = slice(ends_q[b], ends_q[b] + nq), slice(ends_k[b], ends_k[b] + nk)
        mine = {"causal": True, "sinks": sinks.numpy()}
        numpy = [x.detach().numpy()[s][None] for x, s in ((q, rows), (k, keys), (v, keys), (dout, rows))]
        arrays.check_forward("f32", *numpy[:3], mine, out[rows][None], lse[:, rows][None])
        arrays.check_backward("f32", *numpy, mine, {"dq": grads[0][rows][None], "dk": grads[1][keys][None],
                                                    "dv": grads[2][keys][None]})
        for x, s in zip(wrong, (rows, rows, keys, keys)):
            x[s] = 0
    assert not any(x.any() for x in wrong), "rows that do not count: 0, and gradient 0"


def test_second_query_against_the_values(rng):
    """s = scale · (q·k + qv·v), scale 1/√(D + Dv)."""
    q, qv, k, v = (torch.from_numpy(flash.rows(rng, s)).requires_grad_() for s in (
        (2, 5, 4, 8), (2, 5, 4, 32), (2, 9, 1, 8), (2, 9, 1, 32)))
    wide = [x.detach().double().requires_grad_() for x in (q, qv, k, v)]
    out = fa.flash_attn_func(q, k, v, qv=qv)
    s = (torch.einsum("bihd,bjd->bhij", wide[0], wide[2][:, :, 0])
         + torch.einsum("bihd,bjd->bhij", wide[1], wide[3][:, :, 0])) / 40**0.5
    expected = torch.einsum("bhij,bjd->bihd", s.softmax(-1), wide[3][:, :, 0])
    torch.testing.assert_close(out.double(), expected, rtol=2**-17, atol=2**-17)
    for mine, theirs in zip(torch.autograd.grad(out.sum(), (q, qv, k, v)), torch.autograd.grad(expected.sum(), wide)):
        torch.testing.assert_close(mine.double(), theirs, rtol=2**-15, atol=2**-15)


@pytest.mark.parametrize("ragged", [False, True])
def test_eight_bits(rng, ragged):
    q, k, v = (torch.from_numpy(flash.rows(rng, s)).to(torch.float8_e4m3fn) for s in (
        (2, 6, 4, 16), (2, 7, 2, 16), (2, 7, 2, 16)))
    scales = [torch.from_numpy(rng.uniform(0.5, 2, (2, 2)).astype(np.float32)) for _ in range(3)]
    wide = [x.float() * s.repeat_interleave(x.shape[2] // 2, 1)[:, None, :, None] for x, s in zip((q, k, v), scales)]
    named = dict(zip(("q_descale", "k_descale", "v_descale"), scales))
    if ragged:
        cu = [torch.tensor([0, n, 2 * n], dtype=torch.int32) for n in (6, 7)]
        out = fa.flash_attn_varlen_func(*(x.flatten(0, 1) for x in (q, k, v)), *cu, 6, 7, **named).unflatten(0, (2, 6))
    else:
        out = fa.flash_attn_func(q, k, v, **named)
    assert out.dtype == torch.bfloat16
    # Computed in f32 and rounded once: the bound of bf16 holds.
    arrays.check_forward("bf16", *(x.numpy() for x in wide), {"scale": 0.25}, out)


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_ragged_queries_against_a_cache(rng, paged, causal):
    """cu_seqlens_q, cu_seqlens_k_new, page_table, rotary_seqlens and s_aux, each entry by itself in plain.py."""
    cu_q, cu_k = (np.array(x, np.int32) for x in ([0, 3, 3, 8], [0, 2, 3, 3]))
    used, starts = [4, 6, 9], [1, 0, 2]
    q, k, v = (flash.rows(rng, (n, h, 16)) for n, h in ((8, 4), (3, 2), (3, 2)))
    cache = flash.rows(rng, (12, 4, 2, 2, 16) if paged else (3, 16, 2, 2, 16))
    table = rng.permutation(12).reshape(3, 4).astype(np.int32)
    before = cache[table].reshape(3, 16, 2, 2, 16) if paged else cache.copy()
    angle = rng.uniform(0, 6, (30, 4)).astype(np.float32)
    sinks = flash.rows(rng, (4,))
    mine = torch.from_numpy(cache)
    ints = {"cache_seqlens": used, "rotary_seqlens": starts, "cu_seqlens_q": cu_q, "cu_seqlens_k_new": cu_k}
    if paged:
        ints["page_table"] = table
    out, lse, *rest = fa.flash_attn_with_kvcache(
        torch.from_numpy(q), mine[..., 0, :, :], mine[..., 1, :, :], torch.from_numpy(k), torch.from_numpy(v),
        rotary_cos=torch.from_numpy(np.cos(angle)), rotary_sin=torch.from_numpy(np.sin(angle)),
        **{n: torch.tensor(x, dtype=torch.int32) for n, x in ints.items()}, max_seqlen_q=5, causal=causal,
        s_aux=torch.from_numpy(sinks), return_softmax_lse=True)
    assert [x.shape for x in rest] == [(0,), (0,)]
    for b in range(3):
        rows, new = slice(cu_q[b], cu_q[b + 1]), slice(cu_k[b], cu_k[b + 1])

        def turned(x, at):
            z = x[..., :8:2].astype(np.complex128) + 1j * x[..., 1:8:2]
            z = z * np.exp(1j * angle[at].astype(np.float64))[:, None]
            wide = x.astype(np.float64)
            wide[..., :8:2], wide[..., 1:8:2] = z.real, z.imag
            return wide
        n = q[rows].shape[0]
        query = turned(q[rows], starts[b] + np.arange(n) * causal)
        keys = np.concatenate((before[b, :used[b], 0], turned(k[new], starts[b] + np.arange(len(k[new])))))
        values = np.concatenate((before[b, :used[b], 1], v[new]))
        e = plain.Entry(query, keys, values, causal=causal, sinks=sinks)
        arrays.near("out", out[rows], e.o, 2 * plain.output_bound(e, "f32"))
        arrays.near("lse", lse[:, rows], e.lse, 2 * plain.lse_bound(e) + 2.0**-18)


def test_cache_is_flash_attn_2s(rng):
    from heed.flash_attn import flash_attn_with_kvcache
    q, cache = (torch.from_numpy(flash.rows(rng, (2, n, 2, 8))) for n in (1, 20))
    call = dict(cache_seqlens=7, causal=True, window_size=(3, 0))
    assert torch.equal(fa.flash_attn_with_kvcache(q, cache, cache, **call, num_splits=200),
                       flash_attn_with_kvcache(q, cache, cache, **call))


def test_combine(rng):
    q, k, v = (torch.from_numpy(flash.rows(rng, (2, n, 2, 8))) for n in (5, 12, 12))
    parts = [fa.flash_attn_func(q, k[:, s], v[:, s], return_attn_probs=True) for s in (slice(4), slice(4, 12))]
    out, lse = fa.flash_attn_combine(torch.stack([p[0] for p in parts]),
                                     torch.stack([p[1].transpose(1, 2) for p in parts]))
    arrays.check_forward("f32", *(x.numpy() for x in (q, k, v)), {}, out, lse.transpose(1, 2))
    into = torch.empty(2, 5, 2, 8, dtype=torch.bfloat16)
    half, _ = fa.flash_attn_combine(torch.stack([p[0] for p in parts]),
                                    torch.stack([p[1].transpose(1, 2) for p in parts]), into)
    assert half is into and torch.equal(into, out.bfloat16())
    with pytest.raises(heed.Error, match=r"lse_partial \(2, 2, 2, 5\)"):
        fa.flash_attn_combine(torch.stack([p[0] for p in parts]), torch.stack([p[1] for p in parts]))
    metadata = fa.get_scheduler_metadata(2, 5, 12, 2, 2, 8, torch.tensor([12, 12], dtype=torch.int32))
    assert torch.equal(fa.flash_attn_with_kvcache(q, k, v, scheduler_metadata=metadata), fa.flash_attn_func(q, k, v))
