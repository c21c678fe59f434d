"""The other sides of gpu_bench.py: PyTorch's flash, efficient, cuDNN and plain attention and flash-attn's, on
the tensors of a call, forward and backward, and the memory that they take. Not here: timing."""
import contextlib
import importlib.util

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
            "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}
FLASH_ATTN = "flash-attn"
PEERS = ("cudnn", "flash", "efficient", FLASH_ATTN)


def _flash_attn(made):
    """(flash-attn's call on (q, k, v), its tensors)"""
    import flash_attn  # pylint: disable=import-outside-toplevel,import-error
    spec = made.spec
    if made.cached():
        more = {"cache_seqlens": made.arrays["cache_seqlens"], "block_table": made.arrays["block_table"]}
        return lambda q, k, v: flash_attn.flash_attn_with_kvcache(q, k, v, **more), (made.q, made.k, made.v)
    return lambda q, k, v: flash_attn.flash_attn_func(q, k, v, causal=spec.causal), (made.q, made.k, made.v)


def _pytorch(made):
    spec = made.spec
    q, k, v = made.q, made.k, made.v
    if made.cached():  # the same numbers without pages: PyTorch has none
        pages = made.arrays["block_table"].long()
        k, v = (x[pages].flatten(1, 2)[:, :spec.sk].contiguous() for x in (k, v))
    more = {"enable_gqa": True} if spec.heads != spec.kv_heads else {}
    attend = torch.nn.functional.scaled_dot_product_attention
    return (lambda q, k, v: attend(q, k, v, is_causal=spec.causal, **more)), tuple(x.transpose(1, 2) for x in (q, k, v))


def sentence(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def peer(name, made, dout=None):
    """(context, the call within it), or the sentence with which it refuses. With `dout` (B, S, H, D) the
    gradients of a forward that is computed here, once."""
    if name == FLASH_ATTN and importlib.util.find_spec("flash_attn") is None:
        return "flash_attn is not installed"
    attend, tensors = (_flash_attn if name == FLASH_ATTN else _pytorch)(made)
    # The choice of a backend is made outside of what is timed.
    choice = contextlib.nullcontext if name == FLASH_ATTN else lambda: sdpa_kernel(BACKENDS[name])
    try:
        with choice():
            if dout is None:
                attend(*tensors)
                return choice, lambda: attend(*tensors)
            leaves = tuple(x.detach().requires_grad_() for x in tensors)
            out = attend(*leaves)
            dout = dout if name == FLASH_ATTN else dout.transpose(1, 2)
            gradients = lambda: torch.autograd.grad(out, leaves, dout, retain_graph=True)
            gradients()
            return choice, gradients
    except (RuntimeError, ImportError, AssertionError) as error:
        return sentence(error)


def memory(side):
    """Bytes that a call takes beyond what is there before it, its results among them; None on a CPU."""
    choice, call = side
    if not torch.cuda.is_available():
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with choice():
        results = call()
    torch.cuda.synchronize()
    del results
    return torch.cuda.max_memory_allocated() - before
