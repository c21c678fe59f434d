# test_flash_attn_modules.py: bert_padding, layers.rotary and modules.mha against plain PyTorch in float64.
# Not here: the functions (test_flash_attn.py).
import math

import flash
import numpy as np
import pytest

torch = pytest.importorskip("torch")
import heed  # noqa: E402
from heed.flash_attn import bert_padding as padding  # noqa: E402
from heed.flash_attn.layers import rotary  # noqa: E402
from heed.flash_attn.modules import mha  # noqa: E402
from heed.flash_attn.utils.generation import InferenceParams  # noqa: E402


def close(actual, expected, bits=17):
    """Sums of some hundred products of f32 and as many roundings: 2⁻¹⁷ of a result of size one."""
    torch.testing.assert_close(actual.double(), expected.double(), rtol=2.0**-bits, atol=2.0**-bits)


def test_padding_and_back(rng):
    x = torch.from_numpy(flash.rows(rng, (3, 7, 2, 4))).requires_grad_()
    mask = torch.tensor([[1, 1, 0, 0, 0, 0, 0], [0] * 7, [1, 0, 1, 1, 1, 1, 1]])
    rows, indices, cu, longest, used = padding.unpad_input(x, mask)
    assert torch.equal(rows, x[mask.bool()]) and torch.equal(indices, mask.flatten().nonzero().flatten())
    assert cu.tolist() == [0, 2, 2, 8] and cu.dtype == torch.int32 and longest == 6 and type(longest) is int
    assert used.tolist() == [2, 0, 6] and used.dtype == torch.int32
    back = padding.pad_input(rows, indices, 3, 7)
    assert torch.equal(back, x * mask[..., None, None])
    grad, = torch.autograd.grad(back.square().sum(), x)
    assert torch.equal(grad, 2 * x * mask[..., None, None])
    unused = torch.zeros_like(mask)
    unused[0, 2] = 1
    rows, _, cu, longest, used = padding.unpad_input(x, mask.bool(), unused.bool())
    assert len(rows) == 9 and cu.tolist() == [0, 3, 3, 9] and used.tolist() == [2, 0, 6]
    values, kept = padding.index_first_axis_residual(x, torch.tensor([2, 0]))
    assert torch.equal(values, x[[2, 0]]) and not kept.requires_grad
    with pytest.raises(heed.Error, match=r"attention_mask has the shape \(2, 7\): it must be \(3, 7\)"):
        padding.unpad_input(x, mask[:2])


def test_rows_that_hold_several_sequences(rng):
    x = torch.from_numpy(flash.rows(rng, (3, 6, 4)))
    lengths = torch.tensor([[2, 3, 0, 0, 0, 0], [3, 2, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]])
    rows, indices, cu, longest = padding.unpad_input_for_concatenated_sequences(x, lengths)
    assert torch.equal(rows, torch.cat((x[0, :5], x[1, :5], x[2]))) and cu.tolist() == [0, 2, 5, 8, 10, 16]
    assert longest == 6 and indices[5] == 6 and cu.dtype == torch.int32
    with pytest.raises(heed.Error, match="a row of 12 tokens in all: a row of hidden_states holds 6"):
        padding.unpad_input_for_concatenated_sequences(x, 2 * lengths)


def turned(x, cos, sin, interleaved, positions):
    """float64: each pair as a complex number times the table's."""
    x, ro = x.double(), 2 * cos.shape[-1]
    pairs = x[..., :ro].unflatten(-1, (ro // 2, 2)) if interleaved else torch.stack(x[..., :ro].chunk(2, -1), -1)
    product = torch.view_as_complex(pairs.contiguous()) * torch.complex(cos, sin).to(torch.complex128)[positions][
        ..., None, :]
    pairs = torch.view_as_real(product)
    pairs = pairs.flatten(-2) if interleaved else torch.cat(pairs.unbind(-1), -1)
    return torch.cat((pairs, x[..., ro:]), -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("offset", [0, 3, "each", "ragged"])
def test_rotation(rng, interleaved, inplace, offset, dtype):
    angle = torch.from_numpy(rng.uniform(0, 6, (20, 5)).astype(np.float32))
    cos, sin = angle.cos(), angle.sin()
    x = torch.from_numpy(flash.rows(rng, (2, 7, 3, 16))).to(dtype).requires_grad_()
    given, positions = {"seqlen_offsets": offset}, torch.arange(7)
    if offset == "each":
        given = {"seqlen_offsets": torch.tensor([4, 9], dtype=torch.int32)}
        positions = positions + torch.tensor([[4], [9]])
    elif offset == "ragged":
        x = x.detach().flatten(0, 1).requires_grad_()
        given = {"cu_seqlens": torch.tensor([0, 5, 5, 14], dtype=torch.int32), "max_seqlen": 9}
        positions = torch.cat((torch.arange(5), torch.arange(9)))
    else:
        positions = positions + offset
    source = x * 1  # not a leaf, so that it may be written
    out = rotary.apply_rotary_emb(source, cos, sin, interleaved, inplace, **given)
    assert (out is source) == inplace and out.dtype == dtype
    wide = x.detach().double().requires_grad_()
    expected = turned(wide, cos, sin, interleaved, positions)
    close(out.detach(), expected.detach(), 20 if dtype == torch.float32 else 7)
    weight = torch.from_numpy(flash.rows(rng, x.shape))
    mine, = torch.autograd.grad((out * weight.to(dtype)).sum(), x)
    theirs, = torch.autograd.grad((expected * weight.to(dtype)).sum(), wide)
    close(mine, theirs, 18 if dtype == torch.float32 else 6)


@pytest.mark.parametrize("scale_base", [None, 64.0])
@pytest.mark.parametrize("grouped", [False, True])
def test_rotary_module(rng, grouped, scale_base):
    module = rotary.RotaryEmbedding(8, base=100.0, scale_base=scale_base)
    assert not module.state_dict()
    qkv = torch.from_numpy(flash.rows(rng, (1, 12, 6, 16) if grouped else (1, 12, 3, 2, 16)))
    q, k, v = (x.clone() for x in (qkv.split((2, 2, 2), 2) if grouped else qkv.unbind(2)))
    out = module(qkv, num_heads_q=2 if grouped else None)
    assert out is qkv
    q2, k2, v2 = qkv.split((2, 2, 2), 2) if grouped else qkv.unbind(2)
    assert torch.equal(v, v2)
    angle = torch.outer(torch.arange(12).double(), 100.0 ** (-torch.arange(0, 8, 2).double() / 8))
    expected = [turned(x, angle.cos(), angle.sin(), False, torch.arange(12)) for x in (q, k)]
    s, mine = (torch.einsum("bihd,bjhd->bhij", *x) for x in (expected, (q2.double(), k2.double())))
    if scale_base is None:
        close(mine, s)
    else:
        zeta = (torch.arange(0, 8, 2).double() + 0.4 * 8) / (1.4 * 8)
        far = (torch.arange(12)[:, None] - torch.arange(12)).double() / scale_base
        decay = zeta ** far[..., None]  # of every pair, by how far query and key are apart
        pairs = [torch.view_as_complex(torch.stack(x[..., :8].chunk(2, -1), -1).contiguous()) for x in expected]
        part = torch.einsum("bihd,bjhd,ijd->bhij", pairs[0], pairs[1].conj(), decay.to(torch.complex128)).real
        close(mine, part + torch.einsum("bihd,bjhd->bhij", expected[0][..., 8:], expected[1][..., 8:]), 15)
    q3, kv = module(q.clone(), torch.stack((k, v), 2), seqlen_offset=torch.tensor([5]), max_seqlen=17)
    assert torch.equal(kv[:, :, 1], v) and q3.shape == q.shape
    if scale_base is None:
        close(torch.einsum("bihd,bjhd->bhij", q3.double(), kv[:, :, 0].double()), s)  # only distances count


def attention(module, x, x_kv=None, mask=None, cos_sin=None):
    """MHA by its definition, float64: x (B, S, C)."""
    w = {n: p.detach().double() for n, p in module.state_dict().items()}
    x = x.double()
    h, hk, d = module.num_heads, module.num_heads_kv, module.head_dim

    def linear(x, name):
        return torch.nn.functional.linear(x, w[name + ".weight"], w.get(name + ".bias"))
    if module.cross_attn:
        q, kv = linear(x, "Wq"), linear(x if x_kv is None else x_kv.double(), "Wkv")
    else:
        q, kv = linear(x, "Wqkv").split((h * d, 2 * hk * d), -1)
    q, k, v = q.unflatten(-1, (h, d)), *kv.unflatten(-1, (2, hk, d)).unbind(2)
    if cos_sin is not None:
        q, k = (turned(t, *cos_sin, False, torch.arange(t.shape[1])) for t in (q, k))
    k, v = (t.repeat_interleave(h // hk, 2) for t in (k, v))
    s = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(d)
    sq, sk = s.shape[-2:]
    i, j = torch.arange(sq)[:, None] + sk - sq, torch.arange(sk)
    slopes = module.inner_cross_attn.alibi_slopes
    if slopes is not None:
        s = s - slopes.double()[:, None, None] * (i - j).abs()
    hidden = (j > i) & module.causal
    left, right = module.inner_cross_attn.window_size
    hidden = hidden | (left >= 0) & (j < i - left) | (right >= 0) & (j > i + right)
    hidden = hidden.expand(s.shape) if mask is None else hidden | ~mask[:, None, None]
    p = s.masked_fill(hidden, -math.inf).softmax(-1).nan_to_num(0.0)
    return linear(torch.einsum("bhij,bjhd->bihd", p, v).flatten(-2), "out_proj")


@pytest.mark.parametrize("options", [
    {}, {"causal": True, "num_heads_kv": 2}, {"num_heads_kv": 1, "window_size": (3, 2)},
    {"use_alibi": True, "causal": True}, {"cross_attn": True, "num_heads_kv": 2}, {"checkpointing": True},
    {"rotary_emb_dim": 8, "num_heads_kv": 2, "use_flash_attn": True}, {"qkv_proj_bias": False, "out_proj_bias": False},
])
@pytest.mark.parametrize("padded", [False, True])
def test_mha(rng, options, padded):
    torch.manual_seed(3)
    module = mha.MHA(64, 4, **options)
    x = torch.from_numpy(flash.rows(rng, (2, 9, 64)))
    x_kv = torch.from_numpy(flash.rows(rng, (2, 13, 64))) if "cross_attn" in options else None
    mask = torch.arange(9 if x_kv is None else 13) < torch.tensor([[9], [4]]) if padded else None
    out = module(x, x_kv, key_padding_mask=mask) if x_kv is not None else module(x, key_padding_mask=mask)
    angle = torch.outer(torch.arange(9).double(), 10000.0 ** (-torch.arange(0, 8, 2).double() / 8))
    close(out, attention(module, x, x_kv, mask,
                         (angle.cos(), angle.sin()) if "rotary_emb_dim" in options else None))
    out.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_mha_packed(rng):
    """Ragged rows: each sequence as it is by itself, rotation included."""
    module = mha.MHA(32, 4, num_heads_kv=2, rotary_emb_dim=4, causal=True, return_residual=True)
    x = torch.from_numpy(flash.rows(rng, (11, 32)))
    cu = torch.tensor([0, 4, 11], dtype=torch.int32)
    out, same = module(x, cu_seqlens=cu, max_seqlen=7)
    assert same is x
    close(out, torch.cat([module(part[None])[0][0] for part in (x[:4], x[4:])]))


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("options", [{}, {"rotary_emb_dim": 8}, {"use_alibi": True}, {"window_size": (2, 0)}])
def test_mha_step_by_step(rng, options, lengths):
    module = mha.MHA(32, 4, num_heads_kv=2, causal=True, layer_idx=5, **options)
    x = torch.from_numpy(flash.rows(rng, (2, 9, 32)))
    params = InferenceParams(max_seqlen=9, max_batch_size=3, batch_size_offset=1)
    params.key_value_memory_dict[5] = module.allocate_inference_cache(3, 9)
    with torch.no_grad():
        steps = [module(x[:, :4], inference_params=params)]
        for at, end in ((4, 5), (5, 8), (8, 9)):
            params.seqlen_offset = at
            if lengths:
                params.lengths_per_sample = torch.full((3,), at, dtype=torch.int32)
            steps.append(module(x[:, at:end], inference_params=params))
        close(torch.cat(steps, 1), module(x))
    params.reset(9, 3)
    assert params.seqlen_offset == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mha_compiles_and_casts(rng, dtype):
    module = mha.MHA(32, 4, num_heads_kv=2, rotary_emb_dim=4, use_alibi=True, causal=True).to(dtype)
    x = torch.from_numpy(flash.rows(rng, (2, 5, 32))).to(dtype)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for mask in (None, torch.ones(2, 5, dtype=torch.bool)):
        assert torch.equal(compiled(x, key_padding_mask=mask), module(x, key_padding_mask=mask))
    compiled(x).sum().backward()
    assert torch.isfinite(module.Wqkv.weight.grad).all()


def test_convolution_is_causal(rng):
    module = mha.MHA(32, 4, causal=True, dwconv=True)
    x = torch.from_numpy(flash.rows(rng, (1, 8, 32)))
    changed = x.clone()
    changed[:, 5:] += 1
    assert torch.equal(module(x)[:, :5], module(changed)[:, :5])
    weight = module.dwconv_qkv.weight.detach()
    assert weight.shape == (96, 1, 3)
    row = module.dwconv_qkv(x.repeat(1, 1, 3))[0, 4] - module.dwconv_qkv.bias
    close(row, (x[0, 2:5].repeat(1, 3).T * weight[:, 0]).sum(-1))


def test_alibi_slopes():
    assert mha.get_alibi_slopes(8) == [2.0**-n for n in range(1, 9)]
    assert mha.get_alibi_slopes(6) == [2.0**-n for n in (2, 4, 6, 8, 1, 3)]


@pytest.mark.parametrize("call, words", [
    (lambda: mha.MHA(30, 4), "embed_dim is 30 and num_heads 4"),
    (lambda: mha.MHA(32, 4, num_heads_kv=3), "num_heads_kv 3"),
    (lambda: mha.MHA(32, 4)(torch.ones(1, 3, 32), inference_params=InferenceParams(4, 1)), "layer_idx is None"),
    (lambda: mha.MHA(32, 4)(torch.ones(3, 32), cu_seqlens=torch.tensor([0, 3])), "max_seqlen"),
    (lambda: mha.MHA(32, 4)(torch.ones(1, 3, 32), torch.ones(1, 3, 32)), "x_kv is given without cross_attn"),
    (lambda: mha.MHA(32, 4)(torch.ones(1, 3, 32), key_padding_mask=torch.ones(1, 3)), "key_padding_mask is"),
    (lambda: mha.MHA(32, 4)(torch.ones(1, 3, 32), flash=1), "MHA has no option flash"),
    (lambda: rotary.RotaryEmbedding(7), "dim is 7"),
    (lambda: rotary.apply_rotary_emb(torch.ones(1, 9, 1, 8), torch.ones(5, 4), torch.ones(5, 4)),
     "cos has 5 positions"),
    (lambda: rotary.apply_rotary_emb(torch.ones(1, 3, 1, 8), torch.ones(5, 6), torch.ones(5, 6)),
     "cos rotates 12 entries"),
])
def test_refused(call, words):
    with pytest.raises(heed.Error, match=words):
        call()


def test_no_tensor_parallel_layers():
    with pytest.raises(ImportError, match="no tensor parallel layers"):
        from heed.flash_attn.modules.mha import ParallelMHA  # noqa: F401
