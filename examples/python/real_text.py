"""What a real model computed on real text, through heed.flash_attn: outputs beside float64 and beside the
model's own, and gradients beside autograd of the plain formula. Needs PyTorch. Run it from the repository."""
import json
import sys
import time

import numpy as np
import torch

from heed.flash_attn import flash_attn_func, flash_attn_varlen_func


def read(path):
    """(tensors, metadata) of a .safetensors file of float32 and int32 tensors."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        body = file.read()
    dtypes = {"F32": np.float32, "I32": np.int32}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            array = np.frombuffer(bytearray(body[first:last]), dtypes[entry["dtype"]])
            tensors[name] = torch.from_numpy(array.reshape(entry["shape"]))
    return tensors, header["__metadata__"]


def plain(q, k, v, scale):
    """Attention as the books write it; (S, H, D)."""
    scores = torch.einsum("ihd,jhd->hij", q, k) * scale
    return torch.einsum("hij,jhd->ihd", scores.softmax(-1), v)


def errors(call, data, sequences, scale):
    """Seconds, and the worst differences: of o from float64, of o from the model's own, of gradients."""
    leaves = [data[name].clone().requires_grad_() for name in "qkv"]
    with torch.no_grad():
        call(*leaves)
        start = time.perf_counter()
        call(*leaves)
        seconds = time.perf_counter() - start
    out = call(*leaves)
    out.square().sum().backward()
    exact = [data[name].double().requires_grad_() for name in "qkv"]
    want = torch.cat([plain(*(x.flatten(0, -3)[first:last] for x in exact), scale) for first, last in sequences])
    want.square().sum().backward()
    gradients = max(((x.grad - y.grad).abs().max() / y.grad.abs().max()).item() for x, y in zip(leaves, exact))
    return (seconds, (out.flatten(0, -3) - want).abs().max().item(), (out - data["o"]).abs().max().item(), gradients)


def main():
    passage, meta = read("data/minilm.safetensors")
    packed, _ = read("data/minilm_varlen.safetensors")
    ends = packed["cu_seqlens"]
    longest = int(ends.diff().max())
    rows = [
        (f"flash_attn_func, {passage['q'].shape[1]} tokens",
         errors(lambda q, k, v: flash_attn_func(q, k, v, softmax_scale=float(meta["scale"])),
                passage, [(0, passage["q"].shape[1])], float(meta["scale"]))),
        (f"flash_attn_varlen_func, {len(ends) - 1} passages",
         errors(lambda q, k, v: flash_attn_varlen_func(q, k, v, ends, ends, longest, longest),
                packed, list(zip(ends.tolist(), ends[1:].tolist())), float(meta["scale"]))),
    ]
    print(f"{'heed.flash_attn on ' + meta['model']:40} {'time':>9}  {'o, float64':>10}  {'o, model':>8}  {'gradients':>9}")
    good = True
    for name, (seconds, exact, own, gradients) in rows:
        print(f"{name:40} {seconds * 1e6:6.0f} µs  {exact:10.1e}  {own:8.1e}  {gradients:9.1e}")
        # Sums of a few hundred float32 products and of the model's own rounding; gradients of the largest one.
        good &= exact < 2e-5 and own < 2e-5 and gradients < 2e-5
    print("as exact as float32 is" if good else "WRONG: further from float64 than float32 explains")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
