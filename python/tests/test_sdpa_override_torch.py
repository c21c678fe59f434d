# test_sdpa_override_torch.py: override_torch beside the rest of PyTorch: modules, torch.compile, transforms,
# inference mode, checkpoints, threads. Not here: numbers of every option (test_sdpa_override.py).
import os
import subprocess
import sys
import threading

import pytest

torch = pytest.importorskip("torch")
if not hasattr(torch.library, "get_kernel"):
    pytest.skip("override_torch needs torch.library.get_kernel (PyTorch 2.13 has it)", allow_module_level=True)

import torch.nn.functional as F  # noqa: E402

from heed import sdpa  # noqa: E402
from sdpa_plain import plain  # noqa: E402
from test_sdpa_override import near, nothing_stays, tensors  # noqa: E402, F401


def gradients(module, *args, **options):
    module.zero_grad()
    out = module(*args, **options)
    out = out[0] if isinstance(out, tuple) else out
    out.sin().sum().backward()
    return [out.detach(), *(p.grad.clone() for p in module.parameters())]


@pytest.mark.parametrize("batch_first", [False, True])
def test_multihead_attention(batch_first):
    torch.manual_seed(1)
    module = torch.nn.MultiheadAttention(32, 4, batch_first=batch_first)
    x = torch.randn(3, 6, 32)
    padding = torch.zeros(x.shape[0 if batch_first else 1], x.shape[1 if batch_first else 0], dtype=torch.bool)
    padding[0, -2:] = True
    options = dict(key_padding_mask=padding, need_weights=False)
    theirs = gradients(module, x, x, x, **options)
    with sdpa.override_torch(strict=True) as handle:
        ours = gradients(module, x, x, x, **options)
        module.eval()
        with torch.no_grad():
            module(x, x, x, **options)
    assert handle.served == 2
    for a, b in zip(ours, theirs):
        assert torch.allclose(a, b, atol=2e-5, rtol=1e-4)


def test_transformer_encoder():
    torch.manual_seed(1)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 2)
    x, padding = torch.randn(2, 6, 32), torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    theirs = gradients(model, x, src_key_padding_mask=padding)
    with sdpa.override_torch(strict=True) as handle:
        ours = gradients(model, x, src_key_padding_mask=padding)
        assert handle.served == 2
        for a, b in zip(ours, theirs):
            assert torch.allclose(a, b, atol=5e-5, rtol=1e-3)
        with torch.inference_mode():
            eager = model.eval()(x, src_key_padding_mask=padding)
        assert handle.served == 4  # the fused layer is off
        model.train()(x)
        assert handle.served == 6
    with torch.inference_mode():
        fused = model.eval()(x, src_key_padding_mask=padding)
    assert torch.allclose(eager[0], fused[0], atol=2e-5) and torch.allclose(eager[1, :4], fused[1, :4], atol=2e-5)
    with sdpa.override_torch(fast_path=True) as handle, torch.inference_mode():
        model(x, src_key_padding_mask=padding)
        assert handle.served == 0 and torch.backends.mha.get_fastpath_enabled()
        with sdpa.override_torch() as inner:
            model(x, src_key_padding_mask=padding)
            assert inner.served == 2
        assert torch.backends.mha.get_fastpath_enabled()


def test_modes():
    q, k, v = tensors()
    exact = plain(*(t.detach().double() for t in (q, k, v)))
    with sdpa.override_torch(strict=True) as handle:
        with torch.inference_mode():
            near(F.scaled_dot_product_attention(q, k, v), exact, q.dtype)
            near(F.scaled_dot_product_attention(*(torch.empty_like(t).copy_(t) for t in (q, k, v))), exact, q.dtype)
        with torch.no_grad():
            assert not F.scaled_dot_product_attention(q, k, v).requires_grad
        with torch.autocast("cpu", torch.bfloat16):
            low = F.scaled_dot_product_attention(q, k, v, torch.zeros(5, 7))
        assert handle.served == 4 and low.dtype == torch.bfloat16
        near(low, exact, low.dtype)
        low.sum().backward()
        torch.manual_seed(0)
        out = torch.utils.checkpoint.checkpoint(
            lambda *t: F.scaled_dot_product_attention(*t, dropout_p=0.5), q, k, v, use_reentrant=False)
        again = torch.autograd.grad(out.sin().sum(), q)[0]
        torch.manual_seed(0)
        plainly = F.scaled_dot_product_attention(q, k, v, dropout_p=0.5)
        assert torch.equal(out, plainly) and torch.equal(again, torch.autograd.grad(plainly.sin().sum(), q)[0])


OPTIONS = [{}, {"is_causal": True}, {"attn_mask": torch.rand(5, 7) > 0.3}, {"enable_gqa": True},
           {"attn_mask": torch.randn(5, 7, requires_grad=True)}]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=["full", "causal", "bool", "grouped", "mask gradient"])
def test_compile(options, dynamic):
    torch.compiler.reset()
    q, k, v = tensors(hk=2 if "enable_gqa" in options else 4, dv=3)
    compiled = torch.compile(lambda *t: F.scaled_dot_product_attention(*t, **options), fullgraph=True,
                             dynamic=dynamic, backend="aot_eager")
    with sdpa.override_torch(strict=True) as handle:
        out = compiled(q, k, v)
        traced = handle.served
        eager = F.scaled_dot_product_attention(q, k, v, **options)
        assert traced >= 1 and torch.equal(out, eager) and out.stride() == eager.stride()
        wanted = (q, k, v, options["attn_mask"]) if options.get("attn_mask") is not None and options[
            "attn_mask"].requires_grad else (q, k, v)
        for a, b in zip(torch.autograd.grad(out.sin().sum(), wanted), torch.autograd.grad(eager.sin().sum(), wanted)):
            assert torch.equal(a, b)
    # It computes as it was compiled, until torch.compiler.reset().
    assert torch.equal(compiled(q, k, v), eager)
    torch.compiler.reset()


def test_code_compiled_before():
    """Its flash calls run on heed while the override is in force: they are calls of PyTorch's operator."""
    torch.compiler.reset()
    q, k, v = tensors()
    compiled = torch.compile(F.scaled_dot_product_attention, fullgraph=True, backend="aot_eager")
    theirs = compiled(q, k, v, is_causal=True)
    with sdpa.override_torch(strict=True) as handle:
        ours = compiled(q, k, v, is_causal=True)
        grads = torch.autograd.grad(ours.sin().sum(), (q, k, v))
    assert handle.served == 2 and torch.allclose(ours, theirs, atol=1e-5)
    for a, b in zip(grads, torch.autograd.grad(theirs.sin().sum(), (q, k, v))):
        assert torch.allclose(a, b, atol=1e-5)
    torch.compiler.reset()


def test_tracing_follows_the_override():
    """PyTorch remembers, where it traces, which kernel serves a key: with gradients lost if it is not told."""
    q, k, v = tensors(dv=3)
    leaves = [t.detach().double().requires_grad_() for t in (q, k, v)]
    exact = plain(*leaves)
    wanted = torch.autograd.grad(exact.sin().sum(), leaves)
    for within in (False, True, False, True, False):
        torch.compiler.reset()
        handle = sdpa.override_torch(strict=True) if within else None
        compiled = torch.compile(lambda *t: F.scaled_dot_product_attention(*t), fullgraph=True, backend="aot_eager")
        out = compiled(q, k, v)
        near(out.detach(), exact.detach(), q.dtype)
        for a, b in zip(torch.autograd.grad(out.sin().sum(), (q, k, v)), wanted):
            near(a, b, q.dtype)
        if within:
            assert handle.served >= 1
            handle.remove()
    torch.compiler.reset()


def test_transforms():
    """Under torch.func only PyTorch's flash kernel is reached: the docs say so."""
    q, k, v = (t.detach() for t in tensors())
    with sdpa.override_torch() as handle:
        grad = torch.func.grad(lambda *t: F.scaled_dot_product_attention(*t).sin().sum())(q, k, v)
        assert handle.served == 2 and handle.kept == 1
        mapped = torch.func.vmap(F.scaled_dot_product_attention)(q, k, v)
    leaves = [t.double().requires_grad_() for t in (q, k, v)]
    exact = plain(*leaves)
    near(mapped, exact.detach(), q.dtype)
    exact.sin().sum().backward()
    near(grad, leaves[0].grad, q.dtype)
    with sdpa.override_torch() as handle:
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(q, torch.ones_like(q))
            out = F.scaled_dot_product_attention(dual, k, v[..., :3])
            assert torch.autograd.forward_ad.unpack_dual(out).tangent is not None
    assert handle.kept == 1


def test_fake_meta_and_wrapped_tensors():
    q, k, v = (t.detach() for t in tensors())
    theirs = F.scaled_dot_product_attention(q, k, v)
    with sdpa.override_torch() as handle:
        with torch._subclasses.FakeTensorMode() as mode:
            out = F.scaled_dot_product_attention(*(mode.from_tensor(t) for t in (q, k, v)))
        assert out.shape == theirs.shape and out.stride() == theirs.stride() and handle.served == 1
        assert F.scaled_dot_product_attention(*(t.to("meta") for t in (q, k, v))).shape == theirs.shape
        ragged = torch.nested.nested_tensor(
            [torch.randn(s, 4, 8) for s in (3, 5)], layout=torch.jagged).transpose(1, 2)
        parts = F.scaled_dot_product_attention(ragged, ragged, ragged).unbind()
        whole = [F.scaled_dot_product_attention(t, t, t) for t in (r.unsqueeze(0) for r in ragged.unbind())]
        for a, b in zip(parts, whole):
            assert torch.allclose(a, b[0], atol=1e-5)


def test_threads():
    """Calls while overrides come and go: every result is right, whoever computed it."""
    q, k, v = (t.detach() for t in tensors(sq=33, sk=47))
    exact = plain(*(t.double() for t in (q, k, v)))
    stop, wrong, calls = threading.Event(), [], [0] * 3

    def compute(n):
        while not stop.is_set():
            leaves = [t.clone().requires_grad_() for t in (q, k, v)]
            out = F.scaled_dot_product_attention(*leaves)
            out.sum().backward()
            calls[n] += 1
            if (out.double() - exact).abs().max() > 1e-4 or leaves[2].grad.isnan().any():
                wrong.append(out)

    handle = sdpa.override_torch()  # stays: what comes and goes is nested
    workers = [threading.Thread(target=compute, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(200):
        with sdpa.override_torch(threads=1), sdpa.override_torch():
            F.scaled_dot_product_attention(q, k, v)
    stop.set()
    for worker in workers:
        worker.join()
    handle.remove()
    assert not wrong and min(calls) > 0


def run(program, **environment):
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_kernels_come_and_go_beside_calls():
    """The dispatcher's table changes while other threads call: each call is one or the other's, none is lost."""
    program = """
import threading, time, torch, torch.nn.functional as F
from heed import sdpa
q, k, v = (torch.randn(1, 2, 20, 8) for _ in range(3))
exact, wrong, stop, calls = F.scaled_dot_product_attention(q, k, v), [], threading.Event(), [0, 0, 0]
def compute(n):
    while not stop.is_set():
        leaf = q.clone().requires_grad_()
        try:
            out = F.scaled_dot_product_attention(leaf, k, v)
            out.sum().backward()
            if not torch.allclose(out, exact, atol=1e-5) or leaf.grad is None:
                wrong.append("numbers")
        except Exception as error:
            wrong.append(error)
        calls[n] += 1
threads = [threading.Thread(target=compute, args=(n,)) for n in range(3)]
for t in threads:
    t.start()
for _ in range(2000):
    with sdpa.override_torch():
        F.scaled_dot_product_attention(q, k, v)
stop.set()
for t in threads:
    t.join()
print(len(wrong), min(calls) > 0, wrong[:3])
"""
    assert run(program).startswith("0 True"), "a call beside a coming or going override"


@pytest.mark.slow
def test_memory_stays_linear():
    """Dropout and a mask over 16384 keys: a matrix of scores would take 1 GiB in each head."""
    program = """
import resource, torch, torch.nn.functional as F
from heed import sdpa
q, k, v = (torch.randn(1, 2, 16384, 16, requires_grad=True) for _ in range(3))
mask = torch.ones(1, 1, 1, 16384, dtype=torch.bool)
with sdpa.override_torch(strict=True):
    F.scaled_dot_product_attention(q[:, :, :64], k, v, mask, dropout_p=0.1).sum().backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    F.scaled_dot_product_attention(q, k, v, mask, dropout_p=0.1).sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    assert int(run(program)) < 256  # MiB


@pytest.mark.slow
def test_the_cache_of_compiled_code(tmp_path):
    """On disk, what was compiled under the override is found again under it and nowhere else."""
    program = """
import torch, torch.nn.functional as F
{0}
f = torch.compile(lambda q, k, v: F.scaled_dot_product_attention(q, k, v), fullgraph=True)
torch.manual_seed(0)
q = torch.randn(1, 2, 40, 8)
v = torch.randn(1, 2, 40, 4)
from torch._dynamo.utils import counters
f(q, q, v)
print("heed" if {1} else "torch", counters["aot_autograd"]["autograd_cache_hit"])
"""
    here = dict(TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    ours = program.format("from heed import sdpa; h = sdpa.override_torch()", "h.served")
    bare = program.format("", "False")
    assert run(ours, **here).split() == ["heed", "0"]
    assert run(bare, **here).split() == ["torch", "0"]
    assert run(bare, **here).split() == ["torch", "1"]
