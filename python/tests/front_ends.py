# front_ends.py: every front end of heed on tensors of a device, for tests of shapes alone: what is computed of them
# is not looked at. Not here: who calls it, on fake tensors.
import torch

import heed
import heed.nn
from heed import flash_attn, sdpa

INT = torch.int32


def shapes(device="cuda", dtype=torch.float16, grad=False):
    return [torch.empty(2, s, h, 64, device=device, dtype=dtype, requires_grad=grad)
            for s, h in ((9, 4), (13, 2), (13, 2))]


def attention(grad):
    q, k, v = shapes(grad=grad)
    bias = torch.empty(1, 4, 9, 13, device="cuda", requires_grad=grad)
    out, lse = heed.attention(q, k, v, bias=bias, causal=True, return_lse=True, dropout_p=0.1)
    assert lse.device == out.device and tuple(lse.shape) == (2, 4, 9)
    if grad:
        out.sum().backward()
        assert q.grad.shape == q.shape and bias.grad.shape == bias.shape
    return out


def ragged(grad):
    q, k, v = (t.flatten(0, 1) for t in shapes(grad=grad))
    cu = torch.empty(4, dtype=INT, device="cuda")
    out = flash_attn.flash_attn_varlen_func(q, k, v, cu, cu, 9, torch.empty((), dtype=INT, device="cuda"), causal=True)
    if grad:
        out.sum().backward()
    return out.view(2, 9, 4, 64)


def decode(grad):
    q, k, v = shapes()
    table = torch.empty(2, 3, dtype=INT, device="cuda")
    pages = [torch.empty(6, 16, 2, 64, dtype=q.dtype, device="cuda") for _ in "kv"]
    return flash_attn.flash_attn_with_kvcache(q, *pages, k.narrow(1, 0, 1), v.narrow(1, 0, 1), block_table=table,
                                              cache_seqlens=torch.empty(2, dtype=INT, device="cuda"))


def functional(grad):
    q, k, v = (t.transpose(1, 2) for t in shapes(grad=grad))
    out = sdpa.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    if grad:
        out.sum().backward()
    return out.transpose(1, 2)


def module(grad):
    m = heed.nn.MultiHeadAttention(256, 4, 2, causal=True, rotary=16, device="cuda")
    cache = heed.nn.KVCache(32)
    with torch.no_grad():
        m(torch.empty(2, 5, 256, device="cuda"), cache=cache)
        out = m(torch.empty(2, 9, 256, device="cuda"), cache=cache)
    with torch.set_grad_enabled(grad):
        whole = m(torch.empty(2, 9, 256, device="cuda"), key_lengths=torch.empty(2, dtype=INT, device="cuda"))
    if grad:
        whole.sum().backward()
        assert m.q_proj.weight.grad is not None
    return out.half().view(2, 9, 4, 64)


def hook(grad):
    from heed.transformers._attention import attention_forward
    q, k, v = (t.transpose(1, 2) for t in shapes(grad=grad))
    mask = torch.empty(2, 1, 9, 13, dtype=torch.bool, device="cuda")
    out = attention_forward(torch.nn.Module(), q, k, v, mask)[0]
    if grad:
        out.sum().backward()
    return out


ALL = (attention, ragged, decode, functional, module, hook)
# What needs no device of PyTorch's build: the weights of a module are written in place.
WITHOUT_A_DEVICE = tuple(f for f in ALL if f is not module)


def check(front_end, grad):
    out = front_end(grad)
    assert out.device == torch.device("cuda", 0) and tuple(out.shape) == (2, 9, 4, 64) and out.dtype == torch.float16
