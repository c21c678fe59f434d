# test_torch_cuda.py: CUDA tensors where there is no device and no CUDA kernel: registration, fake tensors through
# every front end, sentences, plans for a GPU that is not here. Not here: computing on devices, which are emulated
# (emulated/) or real (tests/gpu/python_calls.py).
import contextlib
import io
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

import front_ends  # noqa: E402
from front_ends import INT, shapes  # noqa: E402

import heed  # noqa: E402
from heed import _core, _torch, _torch_values, flash_attn, sdpa  # noqa: E402
from heed.nn import _step  # noqa: E402

pytestmark = pytest.mark.skipif(_core.has_cuda_kernels(), reason="this build has CUDA kernels")


@pytest.mark.parametrize("name", ["attention_forward", "attention_backward", "decode", "decode_append"])
def test_operators_have_a_kernel_for_cuda(name):
    for key in ("CPU", "CUDA", "Meta"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"heed::{name}", key)


@pytest.mark.parametrize("front_end", front_ends.WITHOUT_A_DEVICE, ids=lambda f: f.__name__)
def test_fake_tensors(front_end):
    """Without gradients: PyTorch's build for CPUs ends the process where autograd meets a device."""
    with FakeTensorMode():
        front_ends.check(front_end, grad=False)


def test_a_graph_of_fake_cuda_tensors():
    """As torch.export and a compiler without a device look at a model."""
    from torch.fx.experimental.proxy_tensor import make_fx
    with FakeTensorMode(allow_non_fake_inputs=True):
        q, k, v = shapes()
        graph = make_fx(lambda q, k, v: heed.attention(q, k, v, causal=True), tracing_mode="real")(q, k, v)
    operators = [n.target for n in graph.graph.nodes if "heed" in str(n.target)]
    assert operators == [torch.ops.heed.attention_forward.default]


REFUSALS = {
    "v lives on the device 'cpu' and q on 'cuda:0': all arrays of a call must be on one device":
        lambda q, k, v: heed.attention(q, k, torch.empty(2, 13, 2, 64, dtype=q.dtype)),
    "k lives on the device 'cuda:1' and q on 'cuda:0'": lambda q, k, v: heed.attention(q, k.to("cuda:1"), v),
    "mask lives on the device 'cpu' and q on 'cuda:0'":
        lambda q, k, v: heed.attention(q, k, v, mask=torch.ones(9, 13, dtype=torch.bool)),
    "v lives on the device 'cuda:0' and q on 'meta'": lambda q, k, v: heed.attention(q.to("meta"), k.to("meta"), v),
    "cache_seqlens|block_table lives on the device 'cpu'": lambda q, k, v: heed.decode(
        q, k, v, cache_seqlens=torch.empty(2, dtype=INT, device="cuda"), block_table=torch.zeros(2, 1, dtype=INT)),
    "seed lives on the device 'cuda:0': it must be a number or a CPU tensor": lambda q, k, v: heed.attention(
        q, k, v, dropout_p=0.5, seed=torch.empty(2, dtype=torch.int64, device="cuda")),
    "window_size lives on the device 'cuda:0'": lambda q, k, v: flash_attn.flash_attn_func(
        q, k, v, window_size=torch.empty(2, dtype=INT, device="cuda")),
    "seqused_q is given and q lives on the device 'cuda:0'": lambda q, k, v: flash_attn_3().flash_attn_varlen_func(
        *(t.flatten(0, 1) for t in (q, k, v)), *(torch.empty(2, dtype=INT, device="cuda"),) * 2, 9, 13,
        seqused_q=torch.empty(1, dtype=INT, device="cuda")),
    "cu_seqlens_q or cu_seqlens_k_new is given and q lives": lambda q, k, v: flash_attn_3().flash_attn_with_kvcache(
        q.flatten(0, 1), k, v, cu_seqlens_q=torch.empty(3, dtype=INT, device="cuda")),
    "query lives on 'cuda:0', key lives on 'cpu'": lambda q, k, v: sdpa.scaled_dot_product_attention(
        q, torch.empty(k.shape, dtype=q.dtype), v),
    "query lives on 'cuda:0': the cpu backend computes on the CPU alone": lambda q, k, v: refuse(
        sdpa.reasons(*(t.transpose(1, 2) for t in (q, k, v)), enable_gqa=True)["cpu"]),
    "max_seqlen is None: give max_seqlen": lambda q, k, v: flash_attn.layers.rotary.RotaryEmbedding(16)(
        torch.empty(2, 9, 3, 4, 64, device="cuda"), seqlen_offset=torch.empty(2, dtype=INT, device="cuda")),
    "key_padding_mask with a cache lives on the device 'cuda:0'": lambda q, k, v: _step._padding(
        heed.nn.KVCache(), torch.empty(2, 5, dtype=torch.bool, device="cuda"), None, 2, 5),
}


def flash_attn_3():
    from heed.flash_attn import flash_attn_3 as module
    return module


def refuse(reasons):
    raise heed.Error(reasons[0])


@pytest.mark.parametrize("words", REFUSALS)
def test_refusals(words):
    import heed.flash_attn.layers.rotary  # noqa: F401
    with FakeTensorMode(), pytest.raises(heed.Error, match=words):
        REFUSALS[words](*shapes())


@pytest.fixture
def cuda_tensors(monkeypatch):
    """Tensors that PyTorch takes for a device's; their memory is the host's, and nothing computes on them."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "emulated"))
    import stand_in
    sys.path.pop(0)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    return lambda *shapes: [stand_in.alias(torch.zeros(shape), stand_in.CUDA) for shape in shapes]


def test_a_build_without_cuda_kernels_says_so(cuda_tensors):
    q, k, v = cuda_tensors((2, 9, 4, 64), (2, 13, 2, 64), (2, 13, 2, 64))
    sentence = (r"q lives on the device 'cuda:0' and this build of heed has no CUDA kernels: install a wheel of "
                "`make wheel-cuda`, or make it a CPU tensor")
    cache = k, v
    for call in (lambda: heed.attention(q, k, v), lambda: heed.attention(q, k, v, dropout_p=0.1, seed=1),
                 lambda: heed.decode(q, *cache), lambda: flash_attn.flash_attn_func(q, k, v),
                 lambda: heed.attention_backward(q, q, k, v, q, torch.zeros(2, 4, 9))):
        with pytest.raises(heed.Error, match=sentence):
            call()
    with FakeTensorMode():
        found = sdpa.reasons(*(t.transpose(1, 2) for t in shapes()), enable_gqa=True)
        assert not sdpa.can_use(*(t.transpose(1, 2) for t in shapes()), enable_gqa=True)
    assert "no CUDA kernels: install a wheel of `make wheel-cuda`" in found["cuda"][0]
    with pytest.raises(heed.Error, match="v lives on the device 'cuda:0' and q on 'cpu'"):
        heed.attention(torch.zeros(2, 9, 4, 64), torch.zeros(2, 13, 2, 64), v)
    _core.use_torch(torch, False)  # by attributes
    try:
        with pytest.raises(heed.Error, match=sentence):
            heed.attention(q, k, v)
    finally:
        _core.use_torch(torch)


def test_override_leaves_cuda_alone_where_it_could_serve_nothing():
    with sdpa.override_torch():
        assert not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_scaled_dot_product_flash_attention", "CUDA")


def test_plans_for_a_gpu_that_is_not_here():
    q, k, v = shapes("cpu")
    plan = heed.explain(q, k, v, causal=True, backend="cuda:sm_80")
    assert (plan.backend, plan.arch, plan.isa) == ("cuda", "sm_80", "") and plan.launches == 1
    assert plan.block_threads == 128 and plan.block_shared_bytes > 0 and plan.expected_seconds > 0
    assert plan.expected_limit in ("compute", "memory") and "not here: assumed" in plan.assumes
    with pytest.raises(heed.Error, match="sm_70"):
        heed.explain(q, k, v, backend="cuda:sm_70")
    with pytest.raises(heed.Error, match="no CUDA kernels"):
        heed.explain(q, k, v, backend="cuda")
    with FakeTensorMode(), pytest.raises(heed.Error, match="no CUDA kernels"):
        heed.explain(*shapes())
    with FakeTensorMode():
        assert heed.explain(*shapes(), backend="cuda:sm_90").arch == "sm_90"


def test_imports_ask_for_no_device():
    """A look at devices would spoil them for processes that fork from here."""
    code = """if True:
        from heed import _core
        def ask():
            raise AssertionError("looked for devices")
        _core.backends = ask
        import torch, heed, heed.nn, heed.sdpa, heed.flash_attn, heed.transformers
        q = torch.zeros(1, 2, 3, 8)
        heed.sdpa.scaled_dot_product_attention(q, q, q)
        with heed.sdpa.override_torch():
            torch.nn.functional.scaled_dot_product_attention(q, q, q)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_show_config_says_that_it_is_not_built_in():
    with contextlib.redirect_stdout(io.StringIO()) as said:
        heed.show_config()
    assert "cuda      this build has no CUDA kernels\n" in said.getvalue()


def test_seeds_beside_fake_and_cpu_tensors_are_the_cpus():
    torch.manual_seed(3)
    first = _torch_values.draw_rng(torch.empty(1))
    torch.manual_seed(3)
    assert torch.equal(_torch.draw_rng(torch.empty(1, device="meta")), first)
    with FakeTensorMode():
        assert _torch_values.draw_rng(torch.empty(1, device="cuda")).device.type == "cpu"
