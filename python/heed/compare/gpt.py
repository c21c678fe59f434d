# compare/gpt.py: a training step of a small GPT with exchangeable attention. Not here: how it is timed.
import copy
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cases import Case

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
WORDS = 1024


def attention_of(side: str, threads: int) -> Attend:
    """Causal attention of (B, S, H, D) as the side has it; "torch-math" is written out, with the matrix."""
    if side.startswith("heed"):
        import heed
        return lambda q, k, v: heed.attention(q, k, v, causal=True, threads=threads)
    if side == "torch-math":
        return eager
    return lambda q, k, v: F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True).transpose(1, 2)


def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    return (torch.softmax(s, -1) @ v).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, features: int, heads: int):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(features), nn.LayerNorm(features)
        self.qkv, self.out = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in self.qkv(self.first(x)).chunk(3, -1))
        x = x + self.out(attend(q, k, v).flatten(-2))
        return x + self.down(F.gelu(self.up(self.second(x))))


class GPT(nn.Module):
    def __init__(self, layers: int, features: int, heads: int, length: int):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, features), nn.Embedding(length, features)
        self.blocks = nn.ModuleList(Block(features, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(features)

    def forward(self, tokens: Tensor, attend: Attend) -> Tensor:
        """The loss of the next word."""
        x = self.words(tokens) + self.places.weight[:tokens.shape[1]]
        for block in self.blocks:
            x = block(x, attend)
        logits = F.linear(self.norm(x), self.words.weight)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def prepare(side: str, case: Case, threads: int):
    """(a training step, gradients of its first call by name, the same in float64), as functions."""
    torch.manual_seed(5)
    model = GPT(case.layers, case.heads * case.d, case.heads, case.sq)
    tokens = torch.randint(WORDS, (case.batch, case.sq))
    first, attend = copy.deepcopy(model), attention_of(side, threads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=case.dtype == "bf16"):
            loss = model(tokens, attend)
        loss.backward()
        optimizer.step()
        return loss

    def numbers(_) -> dict[str, np.ndarray]:
        return {n: p.grad.double().numpy() for n, p in model.named_parameters() if "qkv.weight" in n}

    def truth() -> dict[str, np.ndarray]:
        wide = first.double()
        wide(tokens, eager).backward()
        return {n: p.grad.numpy() for n, p in wide.named_parameters() if "qkv.weight" in n}

    return step, numbers, truth
