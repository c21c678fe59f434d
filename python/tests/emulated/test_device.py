# test_device.py: which device, stream and memory a call on CUDA tensors takes, on which thread, and what it
# leaves as it was; seeds; compiled code. On emulated devices. Not here: numbers (test_calls.py), PyTorch's own
# operators (test_override.py).
import contextlib
import io
import threading

import front_ends
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import heed
from heed import _core, flash_attn, sdpa


def qkv(device="cuda:0", dtype=torch.float16, grad=False, sq=17, sk=23):
    generator = torch.Generator().manual_seed(sq)
    return [torch.randn(2, s, h, 64, generator=generator).to(dtype).to(device).requires_grad_(grad)
            for s, h in ((sq, 4), (sk, 2), (sk, 2))]


def test_the_current_stream_of_every_call(devices, engine):
    q, k, v = qkv()
    cache = torch.zeros(2, 32, 2, 64, dtype=q.dtype, device="cuda")
    used = torch.tensor([3, 9], dtype=torch.int32, device="cuda")
    calls = (lambda: heed.attention(q, k, v), lambda: heed.decode(q[:, :1], cache, cache.clone(), cache_seqlens=used),
             lambda: flash_attn.flash_attn_func(q, k, v),
             lambda: sdpa.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), enable_gqa=True),
             lambda: torch.ops.heed.attention_forward(q, k, v, *(None,) * 10, None, False, "bottom_right", None, -1, -1,
                                                      0, 0, 0.0, 0, 0, None, None, 0.0, None, None, False))
    for number, call in enumerate(calls):
        with devices.stream(0x1000 + number):
            call()
        assert engine.stream == 0x1000 + number
        call()
        assert engine.stream is None, "the default stream is null"


def test_the_backward_on_autograds_thread_takes_the_forwards_stream(devices, engine):
    q, k, v = qkv(grad=True)
    seen = {}

    class Watch(torch.autograd.Function):
        @staticmethod
        def forward(ctx, t):
            return t.clone()

        @staticmethod
        def backward(ctx, grad):
            seen["thread"] = threading.get_ident()
            return grad

    with devices.stream(0x77):
        out = Watch.apply(heed.attention(q, k, v))
    with devices.stream(0x99):
        out.sum().backward()
    assert engine.ran.split()[0] == "prepare"
    assert engine.stream == 0x77
    assert seen["thread"] != threading.get_ident(), "PyTorch's engine has a thread for each device"


def test_the_device_of_the_tensors_is_current_for_the_call_alone(devices, engine, monkeypatch):
    current = []
    ask = torch.cuda.current_stream
    monkeypatch.setattr(torch.cuda, "current_stream",
                        lambda device=None: (current.append((torch.cuda.current_device(), device)), ask(device))[1])
    q, k, v = qkv("cuda:1", grad=True)
    with devices.stream(0x5, device=1), devices.stream(0x6, device=0):
        out = heed.attention(q, k, v)
        assert engine.stream == 0x5
    assert current == [(1, 1)] and torch.cuda.current_device() == 0
    out.sum().backward()
    assert set(current) == {(1, 1)} and q.grad.device == torch.device("cuda", 1)
    with pytest.raises(heed.Error, match="f64"):
        heed.attention(q.double(), k.double(), v.double())
    assert torch.cuda.current_device() == 0, "a refusal leaves it, too"


def test_a_plan_is_kept_for_each_device(engine):
    _core.forget_plans()
    first = heed.attention(*qkv("cuda:0"))
    assert "forward_mma" in engine.ran
    engine.be(750, forget=False)  # what is current now: with the other's plan it would not run
    second = heed.attention(*qkv("cuda:1"))
    assert _core.plans_kept() == 2
    assert (first.cpu().double() - second.cpu().double()).abs().max() < 2.0**-8


def test_without_the_exchange_interface(engine):
    """PyTorch before 2.10: tensors by their attributes, results by torch.empty."""
    q, k, v = qkv("cuda:1")
    expected = heed.attention(q, k, v, return_lse=True)
    _core.use_torch(torch, False)
    try:
        got = heed.attention(q, k, v, return_lse=True)
        with pytest.raises(heed.Error, match="v lives on the device 'cuda:0' and q on 'cuda:1'"):
            heed.attention(q, k, v.to("cuda:0"))
    finally:
        _core.use_torch(torch)
    for a, b in zip(got, expected):
        assert a.device == b.device and torch.equal(a, b)


def test_workspaces_are_pytorchs(devices, engine):
    q, k, v = qkv(sq=1, sk=2000)
    workspace = heed.explain(q, k, v).workspace_bytes
    assert workspace > 0
    sizes = []
    make = torch.empty

    def watch(*size, **options):
        if options.get("dtype") == torch.uint8:
            sizes.append(size[0])
        return make(*size, **options)

    torch.empty = watch
    try:
        heed.attention(q, k, v)
    finally:
        torch.empty = make
    assert sizes == [(workspace,)] and "join" in engine.ran and engine.taken == 0


def test_what_is_not_dense_is_copied_on_the_device(devices, engine):
    q, k, v = qkv()
    lengths = torch.tensor([[23, 0], [11, 0]], dtype=torch.int32, device="cuda")[:, 0]
    slopes = torch.rand(4, 2).to("cuda")[:, 0]
    at = torch.tensor(4, dtype=torch.int32, device="cuda")
    with devices.nothing_waits():
        out = heed.attention(q, k, v, key_lengths=lengths, alibi_slopes=slopes)
        offset = heed.attention(q, k, v, query_offset=at)
    assert torch.equal(out, heed.attention(q, k, v, key_lengths=lengths.clone(), alibi_slopes=slopes.clone()))
    assert torch.equal(offset, heed.attention(q, k, v, query_offset=4))


def test_arrays_that_are_wrong_reach_no_foreign_memory(engine):
    engine.arrays_are_wrong(True)
    q, k, v = (t.flatten(0, 1) for t in qkv(grad=True))
    for ends in ([0, 1000, -5], [2**31 - 1, -2**31, 7], [0, 0, 0]):
        cu = torch.tensor(ends, dtype=torch.int32, device="cuda")
        out = heed.attention(q, k, v, cu_seqlens_q=cu, cu_seqlens_k=cu, max_seqlen_q=17, max_seqlen_k=23)
        out.sum().backward()
    cache = torch.zeros(4, 8, 2, 64, dtype=q.dtype, device="cuda")
    table = torch.tensor([[9, -1], [3, 10**6]], dtype=torch.int32, device="cuda")
    used = torch.tensor([10**9, -3], dtype=torch.int32, device="cuda")
    flash_attn.flash_attn_with_kvcache(qkv()[0], cache, cache.clone(), cache_seqlens=used, block_table=table)


def test_seeds_are_the_devices_generators(devices, engine):
    q, k, v = qkv("cuda:1", grad=True)
    torch.cuda.manual_seed_all(41)
    with devices.nothing_waits():
        first = heed.attention(q, k, v, dropout_p=0.5)
        second = heed.attention(q, k, v, dropout_p=0.5)
        first.sum().backward()
    assert [g.get_offset() for g in torch.cuda.default_generators] == [0, 8]
    assert torch.equal(first, heed.attention(q, k, v, dropout_p=0.5, seed=41, offset=0))
    assert torch.equal(second, heed.attention(q, k, v, dropout_p=0.5, seed=41, offset=4))
    assert not torch.equal(first, second)
    *_, probs = flash_attn.flash_attn_func(q, k, v, dropout_p=0.5, return_attn_probs=True)
    assert torch.cuda.default_generators[1].get_offset() == 12 and probs.signbit().any()


def test_a_capture_takes_no_seed_that_every_replay_would_repeat(devices, engine):
    q, k, v = qkv()
    devices.capturing = True
    try:
        with devices.nothing_waits():
            heed.attention(q, k, v)
            heed.attention(q, k, v, dropout_p=0.5, seed=3)  # said, so it is meant
            with pytest.raises(heed.Error, match="every replay would drop the same; give a seed"):
                heed.attention(q, k, v, dropout_p=0.5)
            rng = torch.tensor([3, 0])
            with pytest.raises(heed.Error, match="capture heed.attention itself with a seed"):
                torch.ops.heed.attention_forward(q, k, v, *(None,) * 9, rng, None, False, "bottom_right", None, -1, -1,
                                                 0, 0, 0.0, 0, 0, None, None, 0.5, None, None, False)
    finally:
        devices.capturing = False


def test_autocast(engine):
    q, k, v = qkv(dtype=torch.float32)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert heed.attention(q, k, v).dtype == torch.bfloat16
        assert sdpa.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)),
                                                 enable_gqa=True).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert heed.attention(q, k, v).dtype == torch.float32, "the CPU's autocast is not the device's"


def test_compiled(engine):
    q, k, v = qkv(grad=True)
    step = torch.compile(lambda q, k, v: heed.attention(q, k, v, causal=True) * 2, fullgraph=True, backend="aot_eager")
    out = step(q, k, v)
    assert torch.equal(out, heed.attention(q, k, v, causal=True) * 2)
    out.sum().backward()
    mine = [t.grad.clone() for t in (q, k, v)]
    for t in (q, k, v):
        t.grad = None
    (heed.attention(q, k, v, causal=True) * 2).sum().backward()
    assert all(torch.equal(a, t.grad) for a, t in zip(mine, (q, k, v)))


def test_opcheck(engine):
    arguments = (*(None,) * 10, 0.3, True, "bottom_right", None, -1, -1, 0, 0, 0.0, 0, 0, None, None, 0.0, None, None)
    torch.library.opcheck(torch.ops.heed.attention_forward.default, (*qkv(grad=True), *arguments, False))
    q, k, v = qkv()
    out, lse, _ = torch.ops.heed.attention_forward(q, k, v, *arguments, False)
    torch.library.opcheck(torch.ops.heed.attention_backward.default,
                          (torch.ones_like(out), None, q, k, v, out, lse, *arguments, False, False))


def test_modes_and_transforms(engine):
    q, k, v = qkv()
    mapped = torch.func.vmap(heed.attention)(*(t[:, None] for t in (q, k, v)))
    assert torch.equal(mapped[:, 0], heed.attention(q, k, v))
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        heed.attention(q, k, v)
    assert counter.get_total_flops() == 4 * 64 * 2 * 4 * 17 * 23


@pytest.mark.parametrize("front_end", front_ends.ALL, ids=lambda f: f.__name__)
def test_fake_tensors_with_gradients(front_end):
    with FakeTensorMode():
        front_ends.check(front_end, grad=True)


def test_show_config_names_the_devices(engine):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        heed.show_config()
    assert "cuda      built in; cuda:0 stand-in (sm_80), cuda:1 stand-in (sm_80)\n" in said.getvalue()
    engine.be(0)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        heed.show_config()
    assert "cuda      built in; no CUDA device\n" in said.getvalue()
    with pytest.raises(heed.Error, match="the cuda backend refuses: no CUDA device"):
        heed.attention(*qkv())


def test_numpy_and_the_cpu_beside_it(engine):
    q, k, v = qkv("cpu", torch.float32)
    assert torch.equal(heed.attention(q, k, v), torch.from_numpy(heed.attention(*(t.numpy() for t in (q, k, v)))))
    assert heed.explain(q, k, v).backend == "cpu"
