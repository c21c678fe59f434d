#!/usr/bin/env python3
"""The Python package on CUDA tensors: results and gradients of every front end against float64, PyTorch's
streams, graphs, autograd threads, generator and allocator, and that no call waits for the device. Exit 0: all
passed. 1: something failed. 3: it cannot run here, with the reason.

Needs torch, NumPy and the package with CUDA kernels: a wheel of `make wheel-cuda`, installed, or unpacked into a
folder that --package names. With --rehearse the same calls on the CPU, without what the CPU has not."""
import argparse
import contextlib
import os
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# torch, heed and what is made of them are imported by main(), which says where they are missing.
np = torch = heed = plain = None


class Skip(Exception):
    """Why a check is not run."""


# ---------------------------------------------------------------- judging

NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def host(t):
    return t.detach().double().cpu().numpy()


def near(name, actual, expected, bound):
    """Within the bound that plain.py derives."""
    actual = host(actual) if isinstance(actual, torch.Tensor) else actual
    if actual.shape != expected.shape:
        raise AssertionError(f"{name} has the shape {actual.shape}, expected {expected.shape}")
    with np.errstate(invalid="ignore"):
        wrong = ~((actual == expected) | (abs(actual - expected) <= bound))
    if wrong.any():
        at = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise AssertionError(f"{name}{list(at)} is {actual[at]}, expected {expected[at]} within "
                             f"{np.broadcast_to(bound, actual.shape)[at]}; {int(wrong.sum())} of {wrong.size} are "
                             "wrong")


def on_host(options):
    return {n: host(x).astype(bool) if isinstance(x, torch.Tensor) and x.dtype == torch.bool
            else host(x) if isinstance(x, torch.Tensor) else x for n, x in options.items()}


def entry(q, k, v, b=0, **options):
    return plain.Entry(host(q), host(k), host(v), b, **on_host(options))


def judge(q, k, v, out, lse=None, grads=None, dout=None, dlse=None, **options):
    """A batch (B, S, H, D), entry by entry; grads: dq, dk, dv, and dsinks where sinks are an option."""
    dtype = NAMES[str(q.dtype).rsplit(".", 1)[-1]]
    dsinks = 0
    sinks_bound = 0
    for b in range(q.shape[0]):
        e = entry(q[b], k[b], v[b], b, **options)
        near(f"out[{b}]", out[b], e.o, plain.output_bound(e, dtype))
        if lse is not None:
            near(f"lse[{b}]", lse[b], e.lse, plain.lse_bound(e))
        if grads is None:
            continue
        g = e.gradients(host(dout[b]), None if dlse is None else host(dlse[b]))
        for name, grad in zip(("dq", "dk", "dv"), grads):
            near(f"{name}[{b}]", grad[b], g[name], plain.gradient_bound(e, g, name, dtype))
        if "dsinks" in g:
            dsinks, sinks_bound = dsinks + g["dsinks"], sinks_bound + plain.gradient_bound(e, g, "dsinks", dtype)
    if grads is not None and len(grads) > 3:
        near("dsinks", grads[3], dsinks, sinks_bound)


def tensors(device, dtype, *shapes, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator).to(dtype).to(device) for shape in shapes]
    return [t.requires_grad_(grad) for t in made]


def qkv(device, dtype=None, b=2, sq=33, sk=45, h=4, hk=2, d=64, seed=0, grad=False):
    dtype = dtype or torch.float16
    return tensors(device, dtype, (b, sq, h, d), (b, sk, hk, d), (b, sk, hk, d), seed=seed, grad=grad)


def dtypes(device):
    """Turing has no bf16."""
    turing = device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    return (torch.float16, torch.float32) if turing else (torch.bfloat16, torch.float16, torch.float32)


@contextlib.contextmanager
def nothing_waits(device):
    """PyTorch raises where one of its operators would wait for the device. (What it has no eye on, graphs show:
    a capture allows no waiting at all.)"""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


# ---------------------------------------------------------------- front ends

def check_attention(device):
    """Forward and gradients through autograd, every dtype, options of each kind."""
    calls = 0
    for dtype in dtypes(device):
        for options in ({}, {"causal": True, "softcap": 20.0}, {"window": (9, 3), "align": "top_left"},
                        {"mask": torch.rand(2, 1, 33, 45) > 0.4, "sinks": torch.randn(4)},
                        {"alibi_slopes": torch.rand(4), "prefix": 3, "causal": True},
                        {"key_lengths": torch.tensor([45, 20], dtype=torch.int32)},
                        {"dropout_p": 0.3, "seed": 11, "offset": 5}):
            options = {n: x.to(device) if isinstance(x, torch.Tensor) else x for n, x in options.items()}
            q, k, v = qkv(device, dtype, grad=True)
            leaves = [q, k, v]
            if "sinks" in options:
                leaves.append(options["sinks"].requires_grad_())
            dout, = tensors(device, dtype, q.shape, seed=7)
            with nothing_waits(device):
                out, lse = heed.attention(q, k, v, return_lse=True, **options)
                grads = torch.autograd.grad(out, leaves, dout)
            assert out.device == q.device and lse.device == q.device
            lengths = options.pop("key_lengths", None)
            if lengths is None:
                judge(q, k, v, out, lse, grads, dout, **options)
            else:
                for b, n in enumerate(lengths.tolist()):
                    cut = slice(b, b + 1)
                    judge(q[cut], k[cut, :n], v[cut, :n], out[cut], lse[cut],
                          (grads[0][cut], grads[1][cut, :n], grads[2][cut, :n]), dout[cut], **options)
                    assert not grads[1][b, n:].any() and not grads[2][b, n:].any()
            calls += 1
    return f"{calls} calls with their gradients"


def check_layouts(device):
    """Strides as they come: heads first, packed, a slice; results join autograd through views."""
    for dtype in dtypes(device)[:2]:
        packed, = tensors(device, dtype, (2, 40, 3, 4, 64), grad=True)
        q, k, v = packed.unbind(2)
        out = heed.attention(q, k, v, causal=True)
        dout, = tensors(device, dtype, out.shape, seed=3)
        grad, = torch.autograd.grad(out, packed, dout)
        judge(q, k, v, out, None, grad.unbind(2), dout, causal=True)
        heads_first = [t.transpose(1, 2).contiguous() for t in qkv(device, dtype)]
        out = heed.attention(*(t.transpose(1, 2) for t in heads_first))
        assert torch.equal(out, heed.attention(*qkv(device, dtype)))
    for empty in ((0, 5, 7), (2, 0, 7), (2, 5, 0)):
        q, k, v = qkv(device, b=empty[0], sq=empty[1], sk=empty[2], grad=True)
        out = heed.attention(q, k, v)
        out.sum().backward()
        assert not out.any() and not k.grad.any(), "where there is nothing to see, everything is 0"
    return "packed, heads first, empty"


def ragged(device, dtype=None, lengths=((5, 9), (0, 3), (17, 30)), rest=(0, 0), grad=False):
    totals = [sum(n[i] for n in lengths) + rest[i] for i in (0, 1)]
    keys = (totals[1], 2, 64)
    q, k, v = tensors(device, dtype or torch.float16, (totals[0], 4, 64), keys, keys, grad=grad)
    cu = [torch.tensor([0, *np.cumsum([n[i] for n in lengths]).tolist()], dtype=torch.int32, device=device)
          for i in (0, 1)]
    return q, k, v, cu, lengths


def check_ragged(device):
    from heed import flash_attn  # pylint: disable=import-outside-toplevel
    for dtype in dtypes(device):
        q, k, v, (cu_q, cu_k), lengths = ragged(device, dtype, grad=True)
        dout, = tensors(device, dtype, q.shape, seed=5)
        with nothing_waits(device):
            out, lse = heed.attention(q, k, v, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, max_seqlen_q=17, max_seqlen_k=30,
                                      causal=True, return_lse=True)
            grads = torch.autograd.grad(out, (q, k, v), dout)
            theirs = flash_attn.flash_attn_varlen_func(q, k, v, cu_q, cu_k, 17, 30, causal=True)
        assert torch.equal(theirs, out)
        at_q = at_k = 0
        for n_q, n_k in lengths:
            rows, keys = slice(at_q, at_q + n_q), slice(at_k, at_k + n_k)
            judge(q[None, rows], k[None, keys], v[None, keys], out[None, rows], lse[None, :, rows],
                  (grads[0][None, rows], grads[1][None, keys], grads[2][None, keys]), dout[None, rows], causal=True)
            at_q, at_k = at_q + n_q, at_k + n_k
    return "sequences of several lengths"


def check_rows_of_none(device):
    """What the ends leave out: 0, its gradients, too."""
    from heed import flash_attn  # pylint: disable=import-outside-toplevel
    q, k, v, (cu_q, cu_k), _ = ragged(device, rest=(6, 4), grad=True)
    with nothing_waits(device):
        out = flash_attn.flash_attn_varlen_func(q, k, v, cu_q, cu_k, 17, 30)
        grads = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
    assert not out[-6:].any() and not grads[0][-6:].any() and not grads[1][-4:].any() and not grads[2][-4:].any()
    assert out[:5].any() and grads[1][:9].any()
    return "behind the last end"


def check_decode(device):
    """Caches of rows and of pages, appended in place, with rotary embedding."""
    from heed import flash_attn  # pylint: disable=import-outside-toplevel
    for dtype in dtypes(device)[:2]:
        q, k_new, v_new = tensors(device, dtype, (3, 2, 8, 64), (3, 2, 2, 64), (3, 2, 2, 64))
        caches = tensors(device, dtype, (3, 40, 2, 64), (3, 40, 2, 64), seed=2)
        used = torch.tensor([0, 7, 38], dtype=torch.int32, device=device)
        rows = [t.clone() for t in caches]
        with nothing_waits(device):
            out, lse = heed.decode(q, *rows, k_new=k_new, v_new=v_new, cache_seqlens=used, causal=True, return_lse=True)
        for b, n in enumerate(used.tolist()):
            assert torch.equal(rows[0][b, n:n + 2], k_new[b]) and torch.equal(rows[1][b, n:n + 2], v_new[b])
            assert torch.equal(rows[0][b, :n], caches[0][b, :n])
            assert torch.equal(rows[0][b, n + 2:], caches[0][b, n + 2:])
            cut = slice(b, b + 1)
            judge(q[cut], rows[0][cut, :n + 2], rows[1][cut, :n + 2], out[cut], lse[cut], causal=True)
        # The same rows in pages of 8, in any order.
        order = torch.randperm(15, generator=torch.Generator().manual_seed(1)).to(torch.int32)
        pages = [torch.empty_like(t).view(15, 8, 2, 64) for t in caches]
        for page, t in zip(pages, caches):
            page[order.long().to(device)] = t.view(15, 8, 2, 64)
        table = order.view(3, 5).to(device)
        with nothing_waits(device):
            paged = flash_attn.flash_attn_with_kvcache(q, *pages, k_new, v_new, cache_seqlens=used, block_table=table,
                                                       causal=True)
        assert torch.equal(paged, out), "pages give the bits of rows"
        # A number, a number on the device, and tables of angles.
        for length in (5, torch.tensor(5, dtype=torch.int32, device=device)):
            with nothing_waits(device):
                one = heed.decode(q, *rows, cache_seqlens=length)
            judge(q, rows[0][:, :5], rows[1][:, :5], one)
        angles = torch.outer(torch.arange(64.0), torch.rand(16)).to(device)
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        turned = [t.clone() for t in caches]
        with nothing_waits(device):
            flash_attn.flash_attn_with_kvcache(q, *turned, k_new, v_new, rotary_cos=cos, rotary_sin=sin,
                                               cache_seqlens=used, causal=True, rotary_interleaved=False)
            expected = flash_attn.layers.rotary.apply_rotary_emb(k_new, cos, sin, False, False, used)
        for b, n in enumerate(used.tolist()):
            assert (turned[0][b, n:n + 2].double() - expected[b].double()).abs().max() < 2.0**-6
    return "rows, pages, appended in place, turned"


def check_flash_attn(device):
    """The functions, their gradients, pages under a ragged batch, helpers that stay on the device."""
    from heed import flash_attn  # pylint: disable=import-outside-toplevel
    from heed.flash_attn import bert_padding  # pylint: disable=import-outside-toplevel
    q, k, v = qkv(device, sq=33, sk=33, h=2, grad=True)
    dout, = tensors(device, q.dtype, q.shape, seed=4)
    with nothing_waits(device):
        out = flash_attn.flash_attn_qkvpacked_func(torch.stack((q, k, v), 2), causal=True)
        grads = torch.autograd.grad(out, (q, k, v), dout)
    judge(q, k, v, out, None, grads, dout, causal=True)
    # A ragged batch over pages: alike in queries, and not.
    pages = tensors(device, q.dtype, (12, 16, 2, 64), (12, 16, 2, 64), seed=6)
    table = torch.arange(12, dtype=torch.int32, device=device).flip(0).view(3, 4)
    used = (50, 3, 64)
    cu_k = torch.tensor([0, 50, 53, 117], dtype=torch.int32, device=device)
    for lengths in ((1, 1, 1), (4, 1, 20)):
        rows, = tensors(device, q.dtype, (sum(lengths), 4, 64), seed=8)
        cu_q = torch.tensor([0, *np.cumsum(lengths).tolist()], dtype=torch.int32, device=device)
        with nothing_waits(device):
            out = flash_attn.flash_attn_varlen_func(rows, *pages, cu_q, cu_k, max(lengths), max(used), causal=True,
                                                    block_table=table)
        at = 0
        for b, (n, keys) in enumerate(zip(lengths, used)):
            k_rows, v_rows = (t[table[b].long()].flatten(0, 1)[None, :keys] for t in pages)
            judge(rows[None, at:at + n], k_rows, v_rows, out[None, at:at + n], causal=True)
            at += n
    padded, = tensors(device, q.dtype, (2, 9, 4))
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5], device=device)
    packed, indices, cu, longest, _ = bert_padding.unpad_input(padded, mask)
    assert packed.device == padded.device and cu.device == padded.device and longest == 9
    assert torch.equal(bert_padding.pad_input(packed, indices, 2, 9), padded * mask[..., None])
    return "qkvpacked with gradients, varlen over pages, bert_padding"


def check_sdpa(device):
    from heed import sdpa  # pylint: disable=import-outside-toplevel
    for dtype in dtypes(device):
        q, k, v = (t.transpose(1, 2) for t in qkv(device, dtype, grad=True))
        mask, = tensors(device, dtype, (2, 1, 33, 45), seed=9)
        with nothing_waits(device):
            out = sdpa.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
            grads = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
        judge(*(t.transpose(1, 2) for t in (q, k, v, out)), None, [t.transpose(1, 2) for t in grads],
              torch.ones_like(out).transpose(1, 2), bias=mask)
    assert sdpa.can_use(q, k, v, enable_gqa=True)
    assert not sdpa.can_use(q, k, v, enable_gqa=True, backend="cpu" if device.type == "cuda" else "cuda")
    return "with a mask and grouped heads, every dtype"


def check_override(device):
    """PyTorch's own function, by the kernels that it chooses itself."""
    if device.type != "cuda" or not torch._C._dispatch_has_kernel_for_dispatch_key(  # pylint: disable=protected-access
            "aten::_scaled_dot_product_flash_attention", "CUDA"):
        raise Skip("this PyTorch has no CUDA kernels to stand in for")
    from torch.nn.attention import SDPBackend, sdpa_kernel  # pylint: disable=import-outside-toplevel
    from heed import sdpa  # pylint: disable=import-outside-toplevel
    attention = torch.nn.functional.scaled_dot_product_attention
    ampere = torch.cuda.get_device_capability(device) >= (8, 0)
    kinds = [SDPBackend.EFFICIENT_ATTENTION] + ([SDPBackend.FLASH_ATTENTION] if ampere else [])
    for kind in kinds:
        q, k, v = (t.transpose(1, 2).detach().requires_grad_() for t in qkv(device, torch.float16, sq=45, hk=4))
        bias = None
        if kind == SDPBackend.EFFICIENT_ATTENTION:
            bias, = tensors(device, torch.float16, (2, 4, 45, 45), seed=3, grad=True)
        own = attention(q, k, v, bias, is_causal=bias is None)
        with sdpa_kernel(kind), sdpa.override_torch(strict=True) as handle:
            with nothing_waits(device):
                out = attention(q, k, v, bias, is_causal=bias is None)
                wanted = (q, k, v) if bias is None else (q, k, v, bias)
                grads = torch.autograd.grad(out, wanted, torch.ones_like(out))
            assert handle.served == 2, f"{kind}: served {handle.served}, kept {dict(handle.kept_because)}"
        judge(*(t.transpose(1, 2) for t in (q, k, v, out)), None, [t.transpose(1, 2) for t in grads[:3]],
              torch.ones_like(out).transpose(1, 2), causal=bias is None, bias=bias)
        assert torch.equal(attention(q, k, v, bias, is_causal=bias is None), own), "removed, PyTorch's own are back"
        # Dropout stays PyTorch's, and neither calls the other for ever.
        with sdpa_kernel(kind), sdpa.override_torch() as handle:
            attention(q, k, v, bias, 0.2, is_causal=bias is None).sum().backward()
            assert handle.served == 0 and handle.kept == 2, repr(handle)
    return f"{len(kinds)} of PyTorch's backends"


def check_nn(device):
    """A causal module over a prompt and then token by token gives what it gives at once."""
    m = heed.nn.MultiHeadAttention(128, 4, 2, causal=True, rotary=16, window=(30, 0), sinks=True)
    m.to(device, torch.float16)
    x, = tensors(device, torch.float16, (2, 24, 128))
    with torch.no_grad(), nothing_waits(device):
        whole = m(x)
        cache = heed.nn.KVCache(64)
        steps = [m(x[:, :20], cache=cache), *(m(x[:, n:n + 1], cache=cache) for n in range(20, 24))]
    assert (torch.cat(steps, 1).double() - whole.double()).abs().max() < 2.0**-7
    lengths = torch.tensor([24, 10], dtype=torch.int32, device=device)
    with nothing_waits(device):
        out = m(x, key_lengths=lengths)
        out.sum().backward()
    assert m.q_proj.weight.grad.any() and m.sinks.grad.any() and cache.lengths.device.type == device.type
    # Entries of different lengths, counted on the device.
    cache, lengths = heed.nn.KVCache(), torch.tensor([10, 6], device=device)
    with torch.no_grad(), nothing_waits(device):
        m(x[:, :10], cache=cache, key_lengths=lengths)
        step = m(x[:, 10:11], cache=cache)
        alone = m(torch.cat((x[1:, :6], x[1:, 10:11]), 1))
    assert (step[1].double() - alone[0, -1:].double()).abs().max() < 2.0**-7
    return "prompt and steps, lengths, gradients"


def check_transformers_hook(device):
    """The function that Hugging Face's models call."""
    try:
        from heed.transformers._attention import attention_forward  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise Skip(str(error)) from error
    module = torch.nn.Module()
    q, k, v = (t.transpose(1, 2) for t in qkv(device, sq=45, grad=True))
    mask = torch.ones(2, 1, 45, 45, dtype=torch.bool, device=device).tril()
    with nothing_waits(device):
        masked, _ = attention_forward(module, q, k, v, mask)
        out, _ = attention_forward(module, q, k, v, None, is_causal=True)
        out.sum().backward()
    judge(*(t.transpose(1, 2) for t in (q, k, v)), out, causal=True)
    judge(*(t.transpose(1, 2) for t in (q, k, v)), masked, causal=True)
    # Sequences laid end to end, their longest lengths on the device.
    cu = torch.tensor([0, 20, 45], dtype=torch.int32, device=device)
    longest = torch.tensor(25, device=device)
    with nothing_waits(device):
        flat, _ = attention_forward(module, q[:1], k[:1], v[:1], None, is_causal=True, cu_seq_lens_q=cu,
                                    cu_seq_lens_k=cu, max_length_q=longest, max_length_k=longest)
    judge(*(t[:1, :, 20:].transpose(1, 2) for t in (q, k, v)), flat[:, 20:], causal=True)
    return "mask, causal, packed"


def check_merge(device):
    q, k, v = qkv(device, torch.float32)
    parts = [heed.attention(q, k[:, keys], v[:, keys], return_lse=True) for keys in (slice(0, 20), slice(20, 45))]
    with nothing_waits(device):
        out, lse = heed.merge(*zip(*parts))
    judge(q, k, v, out, lse)
    return "two halves of the keys"


def check_explain(device):
    q, k, v = qkv(device)
    plan = heed.explain(q, k, v, causal=True)
    assert plan.backend == ("cuda" if device.type == "cuda" else "cpu"), plan
    backward = heed.explain(q, k, v, backward=True)
    if device.type == "cuda":
        assert plan.arch.startswith("sm_") and plan.launches >= 1 and backward.launches >= 2
    return str(plan).splitlines()[0].replace("plan", "").strip()


# ---------------------------------------------------------------- PyTorch's device

def only_on_a_device(device):
    if device.type != "cuda":
        raise Skip("there is none on the CPU")


def check_streams(device):
    """Behind what is queued on the current stream, whichever that is, and before what follows there."""
    only_on_a_device(device)
    q, k, v = qkv(device, b=4, sq=512, sk=512, h=16, hk=16)
    expected = heed.attention(q, k, v)
    big = torch.randn(2048, 2048, device=device)
    for _ in range(3):
        stream = torch.cuda.Stream(device)
        torch.cuda.synchronize(device)
        with torch.cuda.stream(stream):
            late = torch.zeros_like(q)
            for _ in range(20):
                big = big @ big * 1e-3  # keeps the stream busy
            late.copy_(q)
            late.requires_grad_()
            out = heed.attention(late, k, v)
            kept = out.detach().clone()
            out.sum().backward()  # autograd takes the forward's stream
        torch.cuda.current_stream(device).wait_stream(stream)
        assert torch.equal(kept, expected) and late.grad.any()
    return "late inputs on streams of their own"


def check_graphs(device):
    """A capture allows no waiting and no allocation but PyTorch's; replays see new data."""
    only_on_a_device(device)
    from heed import flash_attn  # pylint: disable=import-outside-toplevel
    captured = 0

    def capture(run, refill):
        nonlocal captured
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            run()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = run()
        refill()
        graph.replay()
        torch.cuda.synchronize(device)
        got = [t.clone() for t in results]
        refill()
        for mine, expected in zip(got, run()):
            assert torch.equal(mine, expected), "a replay gave other bits than a call"
        captured += 1

    q, k, v = qkv(device, sq=100, sk=200, grad=True)
    dout, = tensors(device, q.dtype, q.shape, seed=1)
    fresh, = tensors(device, q.dtype, q.shape, seed=2)

    def train():
        out = heed.attention(q, k, v, causal=True, dropout_p=0.1, seed=3)
        return out, *torch.autograd.grad(out, (q, k, v), dout)
    capture(train, lambda: q.data.copy_(fresh))

    rows, keys, values, (cu_q, cu_k), _ = ragged(device)
    capture(lambda: (flash_attn.flash_attn_varlen_func(rows, keys, values, cu_q, cu_k, 17, 30, causal=True),),
            lambda: cu_q.copy_(torch.tensor([0, 2, 9, 22], dtype=torch.int32)))

    step, k_new, v_new = tensors(device, torch.float16, (2, 1, 8, 64), (2, 1, 2, 64), (2, 1, 2, 64))
    caches = tensors(device, torch.float16, (2, 64, 2, 64), (2, 64, 2, 64))
    used = torch.tensor([3, 40], dtype=torch.int32, device=device)
    capture(lambda: (heed.decode(step, *caches, k_new=k_new, v_new=v_new, cache_seqlens=used), *caches),
            lambda: used.copy_(torch.tensor([9, 22], dtype=torch.int32)))

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            heed.attention(q, k, v, dropout_p=0.1)
    except heed.Error as refused:
        assert "every replay would drop the same" in str(refused)
    else:
        raise AssertionError("dropout without a seed was captured")
    return f"{captured} captured and replayed, one refused"


def check_dropout(device):
    """Seeds come from the device's generator: repeated by torch.manual_seed, other ones in every call."""
    q, k, v = qkv(device, grad=True)
    torch.manual_seed(5)
    with nothing_waits(device):
        first = heed.attention(q, k, v, dropout_p=0.4)
        second = heed.attention(q, k, v, dropout_p=0.4)
        first.sum().backward()
    torch.manual_seed(5)
    assert torch.equal(heed.attention(q, k, v, dropout_p=0.4), first) and not torch.equal(first, second)
    return "repeated by torch.manual_seed"


def check_threads(device):
    """Backwards of several threads at once."""
    expected = []
    q, k, v = qkv(device, grad=True)
    for n in range(4):
        expected.append(torch.autograd.grad((heed.attention(q, k, v, causal=True) * (n + 1)).sum(), (q, k, v)))
    wrong = []

    def work(n):
        for _ in range(10):
            got = torch.autograd.grad((heed.attention(q, k, v, causal=True) * (n + 1)).sum(), (q, k, v))
            if not all(torch.equal(a, b) for a, b in zip(got, expected[n])):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, f"threads {sorted(set(wrong))} got other gradients"
    return "4 threads, 10 backwards each"


def check_memory(device):
    """Results and workspaces are PyTorch's memory: nothing is lost, nothing is taken elsewhere."""
    only_on_a_device(device)
    q, k, v = qkv(device, b=1, sq=1, sk=8192, h=8)
    heed.attention(q, k, v)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    for _ in range(20):
        heed.attention(q, k, v)
    assert torch.cuda.memory_allocated(device) == before, "memory is held after the calls"
    torch.cuda.reset_peak_memory_stats(device)
    heed.attention(q, k, v)
    workspace = heed.explain(q, k, v).workspace_bytes
    peak = torch.cuda.max_memory_allocated(device) - before
    assert workspace and peak >= workspace, f"a workspace of {workspace} bytes, and PyTorch's peak rose by {peak}"
    return f"a workspace of {workspace} bytes"


def check_refusals(device):
    q, k, v = qkv(device)
    cu = torch.tensor([0, 33], dtype=torch.int32, device=device)
    number = torch.tensor(0.5, device=device)
    cases = [(lambda: heed.attention(q, k, v.to("meta")), "v lives on the device 'meta'")]
    if device.type == "cuda":
        cases += [
            (lambda: heed.attention(q, k, v.cpu()), "v lives on the device 'cpu' and q on 'cuda"),
            (lambda: heed.attention(q.cpu(), k, v.cpu()), "k lives on the device 'cuda"),
            (lambda: heed.attention(q, k, v, mask=torch.ones(33, 45, dtype=torch.bool)),
             "mask lives on the device 'cpu'"),
            (lambda: heed.attention(q, k, v, backend="cpu"), 'backend is "cpu" and the tensors live on'),
            (lambda: heed.attention(q, k, v, scale=number), "scale is a tensor on the device"),
            (lambda: heed.attention(q[0], k[0], v[0], cu_seqlens_q=cu, cu_seqlens_k=cu), "max_seqlen_q is None"),
            (lambda: heed.attention(q, k, v, dropout_p=0.1, seed=torch.zeros(2, dtype=torch.int64, device=device)),
             "seed lives on the device"),
            (lambda: heed.attention(q.double(), k.double(), v.double()), "f64"),
        ]
    for call, words in cases:
        try:
            call()
        except heed.Error as refused:
            assert words in str(refused), f"{refused}\n        does not say: {words}"
        else:
            raise AssertionError(f"was not refused: {words}")
    return f"{len(cases)} sentences"


def check_two_devices(device):
    """Each call on the device of its tensors, whichever is current."""
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        raise Skip("there are not two here")
    other = torch.device("cuda", 1 - (device.index or 0))
    q, k, v = qkv(device, grad=True)
    expected = heed.attention(q, k, v, causal=True)
    moved = [t.detach().to(other).requires_grad_() for t in (q, k, v)]
    out = heed.attention(*moved, causal=True)
    out.sum().backward()
    assert out.device == other and moved[0].grad.device == other
    assert torch.cuda.current_device() == (device.index or 0)
    if torch.cuda.get_device_capability(other) == torch.cuda.get_device_capability(device):
        assert torch.equal(out.to(device), expected)
    judge(*moved, out, causal=True)
    try:
        heed.attention(q, moved[1], v)
    except heed.Error as refused:
        assert "all arrays of a call must be on one device" in str(refused)
    else:
        raise AssertionError("tensors of two devices were taken")
    return "forward and backward on the second"


CHECKS = (check_attention, check_layouts, check_ragged, check_rows_of_none, check_decode, check_flash_attn, check_sdpa,
          check_override, check_nn, check_transformers_hook, check_merge, check_explain, check_streams, check_graphs, check_dropout,
          check_threads, check_memory, check_refusals, check_two_devices)


def run(device, only=""):
    """(passed, failed names) of the checks whose name has `only` in it."""
    passed, failed = 0, []
    for check in CHECKS:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        if only not in name:
            continue
        began = time.monotonic()
        try:
            words = check(device)
        except Skip as skip:
            print(f"skipped {name}: {skip}", flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed.append(name)
            print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
        else:
            passed += 1
            print(f"passed  {name}: {words} ({time.monotonic() - began:.1f} s)", flush=True)
    return passed, failed


def load(package=None):
    """torch, NumPy, heed and plain.py as this module's own; ImportError where one is missing."""
    global np, torch, heed, plain  # pylint: disable=global-statement
    sys.path[:0] = [os.path.join(ROOT, "python", "tests"), *([package] if package else [])]
    import numpy  # pylint: disable=import-outside-toplevel
    import torch as a_torch  # pylint: disable=import-outside-toplevel
    import heed as a_heed  # pylint: disable=import-outside-toplevel
    import heed.nn  # pylint: disable=import-outside-toplevel
    import heed.flash_attn.layers.rotary  # pylint: disable=import-outside-toplevel
    import plain as a_plain  # pylint: disable=import-outside-toplevel
    np, torch, heed, plain = numpy, a_torch, a_heed, a_plain
    # On a device probabilities are rounded to f16 before their product, too; the CPU keeps them in f32.
    plain.P_ROUNDING = {**plain.P_ROUNDING, "f16": 2.0**-11}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rehearse", action="store_true", help="on the CPU: everything but the device")
    parser.add_argument("--package", help="the folder that holds the package heed, if it is not installed")
    parser.add_argument("--only", default="", help="the checks with this in their name")
    args = parser.parse_args(arguments)
    try:
        load(args.package)
    except ImportError as error:
        print(f"not run: {error} (`make wheel-cuda` builds the package; --package names a folder with it)")
        return 3
    from heed import _core  # pylint: disable=import-outside-toplevel
    if not args.rehearse and not _core.has_cuda_kernels():
        print(f"not run: {os.path.dirname(heed.__file__)} was built without CUDA kernels (`make wheel-cuda`)")
        return 3
    if not args.rehearse and not torch.cuda.is_available():
        print(f"not run: PyTorch {torch.__version__} sees no CUDA device here")
        return 3
    passed, failed = run(torch.device("cpu") if args.rehearse else torch.device("cuda", 0), args.only)
    print(f"{passed} checks passed, {len(failed)} failed" + (f" ({', '.join(failed)})" if failed else ""), flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
