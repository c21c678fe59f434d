# test_flash_attn_private.py: the names with an underscore as ring attention and others call them, and
# install(). Not here: the public functions (test_flash_attn.py).
import importlib.metadata
import importlib.util
import math
import subprocess
import sys

import arrays
import flash
import numpy as np
import pytest

torch = pytest.importorskip("torch")
import heed  # noqa: E402
import heed.flash_attn as fa  # noqa: E402
from heed.flash_attn import flash_attn_interface as interface  # noqa: E402

SCORE = "dropout_p, softmax_scale, causal, window_size_left, window_size_right, softcap, alibi_slopes"
RAGGED = "cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k"
GRADS = "dout, q, k, v, out, softmax_lse, dq, dk, dv"
SIGNATURES = {
    "_flash_attn_forward": f"q, k, v, {SCORE}, return_softmax",
    "_flash_attn_backward": f"{GRADS}, {SCORE}, deterministic, rng_state=None",
    "_flash_attn_varlen_forward":
        f"q, k, v, {RAGGED}, dropout_p, softmax_scale, causal, window_size_left=-1, window_size_right=-1, "
        "softcap=0.0, alibi_slopes=None, return_softmax=False, block_table=None, leftpad_k=None, "
        "seqused_k=None, zero_tensors=False, num_splits=0",
    "_flash_attn_varlen_backward":
        f"{GRADS}, {RAGGED}, {SCORE}, deterministic, rng_state=None, zero_tensors=False",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    assert flash.signature(getattr(interface, name)) == f"({SIGNATURES[name]})"
    assert getattr(interface, "_wrapped" + name) is getattr(interface, name)


@pytest.mark.parametrize("p", [0.0, 0.25])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("ragged", [False, True])
def test_forward_and_backward(rng, p, dtype, ragged):
    """The pair gives what autograd gives; rows that see nothing and rows of no sequence are among them."""
    lengths = (12, 7) if not ragged else (9, 0)
    shape = (2, *lengths[:1]) if not ragged else (30,)
    q, dout = (arrays.to_torch(flash.rows(rng, (*shape, 4, 16), dtype)) for _ in range(2))
    k, v = (arrays.to_torch(flash.rows(rng, ((2, 7) if not ragged else (20,)) + (2, 16), dtype))
            for _ in range(2))
    slopes = torch.full((2, 4), 0.3)
    cu_q, cu_k = (torch.tensor(x, dtype=torch.int32) for x in ([0, 9, 25], [0, 7, 13]))
    if ragged:
        args = (cu_q, cu_k, 16, 7)
        out, lse, probs, state = interface._flash_attn_varlen_forward(
            q, k, v, *args, p, None, True, 6, 0, 5.0, slopes, p > 0)
    else:
        args = ()
        out, lse, probs, state = interface._flash_attn_forward(q, k, v, p, None, True, 6, 0, 5.0, slopes, p > 0)
    assert state.shape == (2,) and state.dtype == torch.int64 and not out.requires_grad
    assert probs.shape == ((0,) if not p else (2, 4, 128, 128))
    assert torch.isposinf(lse).any() and not torch.isneginf(lse).any()
    dq, dk, dv = torch.full_like(q, 9), torch.full_like(k, 9), torch.full_like(v, 9)
    backward = interface._flash_attn_varlen_backward if ragged else interface._flash_attn_backward
    delta = backward(dout, q, k, v, out, lse, dq, dk, dv, *args, p, None, True, 6, 0, 5.0, slopes, True, state)
    expected = (dout.double() * out.double()).sum(-1)
    if ragged:
        assert delta.shape == (4, 30 + 2 * 128)
        torch.testing.assert_close(delta[:, 9 + 128:25 + 128].double(), expected[9:25].T, rtol=2**-18, atol=2**-18)
    else:
        assert delta.shape == (2, 4, 128) and not delta[..., 12:].any()
        torch.testing.assert_close(delta[..., :12].double(), expected.transpose(1, 2), rtol=2**-18, atol=2**-18)
    seed, offset = (n % 2**64 for n in state.tolist())
    mine = flash.contract(None, True, (6, 0), 5.0, slopes.numpy())
    mine |= {"dropout_p": p, "seed": seed, "offset": offset} if p else {}
    used = (slice(0, 25), slice(0, 13)) if ragged else (slice(None), slice(None))
    if ragged:
        mine |= {"cu_seqlens_q": cu_q.numpy(), "cu_seqlens_k": cu_k.numpy()}
        assert not out[25:].any() and not dq[25:].any() and not dk[13:].any() and not dv[13:].any()
    numpy = [x[s].float().numpy() for x, s in zip((q, k, v, dout), (used[0], used[1], used[1], used[0]))]
    arrays.check_forward(dtype, *numpy[:3], mine, out[used[0]])
    arrays.check_backward(dtype, *numpy, mine, {"dq": dq[used[0]], "dk": dk[used[1]], "dv": dv[used[1]]})


def test_ring_of_two(rng):
    """Partial results over halves of the keys, merged by their lse as ring attention does, and its backward
    with the whole lse."""
    q, k, v, dout = (torch.from_numpy(flash.rows(rng, (1, 24, 2, 16))) for _ in range(4))
    call = (0.0, 1 / 4, False, -1, -1, 0.0, None)
    parts = [interface._flash_attn_forward(q, k[:, s], v[:, s], *call, False) for s in (slice(12), slice(12, 24))]
    lse = torch.logsumexp(torch.stack([p[1].double() for p in parts]), 0)
    out = sum(p[0] * (p[1] - lse).exp().transpose(1, 2)[..., None] for p in parts).float()
    grads = []
    for s in (slice(12), slice(12, 24)):
        g = [torch.empty_like(x) for x in (q, k[:, s], v[:, s])]
        interface._flash_attn_backward(dout, q, k[:, s], v[:, s], out, lse.float(), *g, *call, False)
        grads.append(g)
    numpy = [x.numpy() for x in (q, k, v, dout)]
    mine = {"scale": 1 / 4}
    arrays.check_forward("f32", *numpy[:3], mine, out)
    arrays.check_backward("f32", *numpy, mine, {
        "dq": grads[0][0] + grads[1][0], **{n: torch.cat((grads[0][i], grads[1][i]), 1)
                                            for n, i in (("dk", 1), ("dv", 2))}})


def test_without_buffers_and_without_state(rng):
    q = torch.from_numpy(flash.rows(rng, (1, 4, 1, 8)))
    out, lse, _, _ = interface._flash_attn_forward(q, q, q, 0.0, None, False, -1, -1, 0.0, None, False)
    interface._flash_attn_backward(q, q, q, q, out, lse, None, None, None, 0.0, None, False, -1, -1, 0.0, None, False)
    with pytest.raises(RuntimeError, match="rng_state is None and dropout_p 0.5"):
        interface._flash_attn_backward(q, q, q, q, out, lse, None, None, None, 0.5, None, False, -1, -1, 0.0, None,
                                       False)
    with pytest.raises(RuntimeError, match=r"dk has the shape \(1, 4, 1, 7\): it must be \(1, 4, 1, 8\)"):
        interface._flash_attn_backward(q, q, q, q, out, lse, None, q[..., :7], None, 0.0, None, False, -1, -1, 0.0,
                                       None, False)
    assert interface.maybe_contiguous(None) is None and interface.round_multiple(129, 128) == 256
    assert math.isfinite(lse.sum())


def test_install():
    with pytest.raises(ImportError):
        import flash_attn
    fa.install(flash_attn_3=True)
    try:
        fa.install()
        import flash_attn
        import flash_attn_interface
        from flash_attn.bert_padding import pad_input, unpad_input  # noqa: F401
        from flash_attn.flash_attn_interface import _flash_attn_forward
        from flash_attn.layers.rotary import apply_rotary_emb  # noqa: F401
        from flash_attn.modules.mha import MHA
        assert flash_attn.flash_attn_func is fa.flash_attn_func and _flash_attn_forward is interface._flash_attn_forward
        assert MHA.__module__ == "heed.flash_attn.modules.mha"
        assert flash_attn_interface.flash_attn_func is not fa.flash_attn_func
        assert importlib.util.find_spec("flash_attn") is not None
        assert importlib.metadata.version("flash-attn") == flash_attn.__version__ == "2.8.4"
        assert importlib.metadata.packages_distributions()["flash_attn"] == ["flash_attn"]
        assert importlib.metadata.metadata("flash_attn_3")["Version"] == "3.0.0"
        with pytest.raises(ModuleNotFoundError):
            import flash_attn.ops  # noqa: F401
    finally:
        fa.uninstall()
    fa.uninstall()
    assert not any(name.split(".")[0] in ("flash_attn", "flash_attn_interface") for name in sys.modules)
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("flash_attn")


def test_install_beside_the_real_one(tmp_path):
    """In a process where another flash_attn can be imported."""
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").write_text("real = True\n")
    program = """
import heed.flash_attn as fa, heed
try:
    fa.install()
    raise SystemExit("not refused")
except heed.Error as error:
    assert "replace=True" in str(error), error
import flash_attn
assert flash_attn.real
fa.install(replace=True)
import flash_attn
assert flash_attn.flash_attn_func is fa.flash_attn_func
fa.uninstall()
import flash_attn
assert flash_attn.real
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={
        **__import__("os").environ, "PYTHONPATH": f"{tmp_path}:" + ":".join(sys.path)})


def test_errors_are_of_both_kinds(rng):
    q = torch.from_numpy(flash.rows(rng, (2, 3, 1, 8)))
    for kind in (RuntimeError, ValueError, heed.Error):
        with pytest.raises(kind):
            fa.flash_attn_func(q, q, q, 1.0)
    assert np.isfinite(fa.flash_attn_func(q, q, q, 0.5, softcap=2.0).numpy()).all()  # flash-attn refuses it
