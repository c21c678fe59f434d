"""Attention calls on torch tensors: made at random, run by libheed_gpu.so on the device of their tensors,
and judged a few rows at a time against float64 on the host. Not here: gradients (gradients.py), which calls
(random_calls.py)."""
import random
from dataclasses import dataclass, field

import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
NO_STRIDE = -2**63  # kPacked: the library's default


@dataclass(frozen=True)
class Spec:
    """A call in words. `layout`: bshd, bhsd, padded (rows that begin anywhere), packed (slices of one
    tensor), ragged, cache, paged."""
    sq: int
    sk: int
    heads: int
    kv_heads: int
    dim: int
    dtype: str = "bf16"
    dim_v: int = 0
    batch: int = 1
    layout: str = "bshd"
    causal: bool = False
    window: tuple = (-1, -1)
    align: str = "bottom_right"
    offset: int = 0
    prefix: int = 0
    chunk: int = 0
    scale: float | None = None
    softcap: float = 0.0
    alibi: bool = False
    bias: str = ""          # "full", "keys"
    mask: bool = False
    block_map: tuple = ()   # (rows, keys) of a block
    sinks: bool = False
    key_lengths: bool = False
    dropout: float = 0.0
    page: int = 16
    seed: int = 1
    # Of its backward: dlse is given; gradients of bias and sinks, where they are; gradients in f32.
    dlse: bool = False
    dbias: bool = False
    dsinks: bool = False
    f32_grads: bool = False


@dataclass
class Made:
    """A spec's tensors. Of a ragged call q, k, v have three axes; of a cache, k and v are the cache."""
    spec: Spec
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    arrays: dict = field(default_factory=dict)  # by their names in Buffers
    lengths: list = field(default_factory=list)  # (Sq, Sk) of each entry

    def ragged(self):
        return self.spec.layout == "ragged"

    def slices(self, b):
        """Where entry b's rows and keys lie in a ragged call."""
        first = [sum(pair[n] for pair in self.lengths[:b]) for n in (0, 1)]
        return tuple(slice(at, at + length) for at, length in zip(first, self.lengths[b]))

    def cached(self):
        return self.spec.layout in ("cache", "paged")


def random_rows(shape, layout, dtype, device):
    """(B, S, H, D) numbers that lie as a layout says."""
    batch, rows, heads, dim = shape
    if layout == "bhsd":
        return torch.randn(batch, heads, rows, dim, device=device).to(dtype).transpose(1, 2)
    if layout == "padded":
        return torch.randn(batch, rows + 1, heads, dim + 3, device=device).to(dtype)[:, 1:, :, 2:dim + 2]
    return torch.randn(shape, device=device).to(dtype)


def _lengths(spec, rng):
    longest = (spec.sq, spec.sk)
    some = lambda most: rng.randint(max(1, most // 3), most)
    if spec.layout == "ragged":
        return [longest] + [(some(spec.sq), some(spec.sk)) for _ in range(spec.batch - 1)]
    if spec.key_lengths or spec.layout in ("cache", "paged"):
        return [(spec.sq, spec.sk if b == 0 else some(spec.sk)) for b in range(spec.batch)]
    return [longest] * spec.batch


def make(spec, device):
    """Made, from the spec's seed."""
    torch.manual_seed(spec.seed)
    rng = random.Random(spec.seed)
    dtype, dv = DTYPES[spec.dtype], spec.dim_v or spec.dim
    lengths = _lengths(spec, rng)
    ints = lambda values: torch.tensor(values, dtype=torch.int32, device=device)
    total = [sum(pair[n] for pair in lengths) for n in (0, 1)]
    arrays = {}
    if spec.layout == "ragged":
        q = random_rows((1, total[0], spec.heads, spec.dim), "bshd", dtype, device)[0]
        k = random_rows((1, total[1], spec.kv_heads, spec.dim), "bshd", dtype, device)[0]
        v = random_rows((1, total[1], spec.kv_heads, dv), "bshd", dtype, device)[0]
        for name, n in (("cu_seqlens_q", 0), ("cu_seqlens_k", 1)):
            ends = [0]
            for pair in lengths:
                ends.append(ends[-1] + pair[n])
            arrays[name] = ints(ends)
    elif spec.layout == "packed" and spec.heads == spec.kv_heads and spec.sq == spec.sk and dv == spec.dim:
        q, k, v = random_rows((spec.batch, spec.sq, 3 * spec.heads, spec.dim), "bshd", dtype, device).chunk(3, dim=2)
    else:
        q = random_rows((spec.batch, spec.sq, spec.heads, spec.dim), spec.layout, dtype, device)
        shape = (spec.batch, spec.sk, spec.kv_heads)
        if spec.layout == "paged":
            blocks = -(-spec.sk // spec.page)
            pages = list(range(spec.batch * blocks + 3))
            rng.shuffle(pages)
            arrays["block_table"] = ints(pages[:spec.batch * blocks]).reshape(spec.batch, blocks)
            shape = (len(pages), spec.page, spec.kv_heads)
        layout = "bshd" if spec.layout in ("cache", "paged") else spec.layout
        k, v = (random_rows((*shape, width), layout, dtype, device) for width in (spec.dim, dv))
    if spec.layout in ("cache", "paged"):
        arrays["cache_seqlens"] = ints([pair[1] for pair in lengths])
    elif spec.key_lengths and spec.layout != "ragged":
        arrays["key_lengths"] = ints([pair[1] for pair in lengths])
    uniform = lambda *shape: torch.rand(shape, device=device)
    if spec.alibi:
        arrays["alibi_slopes"] = uniform(spec.heads) / 8
    if spec.bias:
        rows = spec.sq if spec.bias == "full" else 1
        arrays["bias"] = torch.randn(1, spec.heads, rows, spec.sk, device=device)
    if spec.mask:
        arrays["mask"] = (uniform(spec.batch, 1, spec.sq, spec.sk) < 0.7).to(torch.uint8)
    if spec.block_map:
        shape = (-(-spec.sq // spec.block_map[0]), -(-spec.sk // spec.block_map[1]))
        arrays["block_map"] = (uniform(1, spec.heads, *shape) < 0.6).to(torch.uint8)
    if spec.sinks:
        arrays["sinks"] = torch.randn(spec.heads, device=device)
    return Made(spec, q, k, v, arrays, lengths)


def alone(made, b):
    """Entry b as a call of its own, in the same memory."""
    spec, arrays = made.spec, dict(made.arrays)
    sq, sk = made.lengths[b]
    own = {**spec.__dict__, "batch": 1}
    q, k, v = made.q, made.k, made.v
    if made.ragged():
        rows, keys = made.slices(b)
        q, k, v = q[rows], k[keys], v[keys]
        for name, length in (("cu_seqlens_q", sq), ("cu_seqlens_k", sk)):
            arrays[name] = torch.tensor([0, length], dtype=torch.int32, device=q.device)
        own.update(sq=sq, sk=sk)
        for name, rows, keys in (("bias", sq, sk), ("mask", sq, sk),
                                 ("block_map", *(-(-n // size) for n, size in zip((sq, sk), spec.block_map)))
                                 if spec.block_map else ("block_map", 0, 0)):
            if name in arrays:
                arrays[name] = arrays[name][:, :, :rows, :keys]
    else:
        q = q[b:b + 1]
        if "block_table" not in arrays:
            k, v = k[b:b + 1], v[b:b + 1]
    for name in ("cache_seqlens", "key_lengths", "block_table", "mask"):
        if name in arrays and arrays[name].shape[0] > 1:
            arrays[name] = arrays[name][b:b + 1].contiguous() if name != "mask" else arrays[name][b:b + 1]
    return Made(Spec(**own), q, k, v, arrays, [made.lengths[b]])


def fields(made):
    """The problem's fields of request.h, without pointers."""
    s = made.spec
    dim_v = made.v.shape[-1]
    out = {"batch": s.batch, "q_len": s.sq, "q_heads": s.heads, "k_heads": s.kv_heads, "dim": s.dim,
           "dim_v": dim_v, "dtype": s.dtype, "causal": s.causal, "window_left": s.window[0],
           "window_right": s.window[1], "align": s.align, "prefix": s.prefix, "chunk": s.chunk,
           "softcap": s.softcap, "sinks": s.sinks, "want_lse": True, "dropout_p": s.dropout, "seed": s.seed}
    if s.scale is not None:
        out["scale"] = s.scale
    if s.align == "offset":
        out["query_offset"] = s.offset
    if made.ragged():
        out.update(ragged=True, total_q=made.q.shape[0], total_k=made.k.shape[0], k_len=s.sk)
    elif made.cached():
        out.update({"cache.slots": made.k.shape[0], "cache.rows": made.k.shape[1]})
        if "block_table" in made.arrays:
            out["cache.blocks"] = made.arrays["block_table"].shape[1]
    else:
        out["k_len"] = s.sk
    if s.alibi:
        out["alibi"] = "per_head"
    out["key_lengths"] = "key_lengths" in made.arrays
    for name in ("bias", "mask", "block_map"):
        if name in made.arrays:
            out[name] = [*made.arrays[name].shape, *made.arrays[name].stride()]
    if s.block_map:
        out.update(block_rows=s.block_map[0], block_cols=s.block_map[1])
    return {**out, **strides({"q": made.q, "k": made.k, "v": made.v})}


def strides(tensors):
    """The fields that say where the rows of (B, S, H, D) or (T, H, D) tensors lie."""
    return {name + "_strides": [*([NO_STRIDE] if tensor.dim() == 3 else []), *tensor.stride()[:-1]]
            for name, tensor in tensors.items()}


class Planned:
    """A call planned on a backend; `results`: the tensors that it writes, by their names in Buffers."""

    def __init__(self, engine, backend, wanted, inputs, results):
        at = {**inputs, **results}
        self.results = results
        self.call = engine.prepare({**wanted, "plan.backend": backend,
                                    **{f"at.{name}": tensor.data_ptr() for name, tensor in at.items()}})
        device = next(iter(results.values())).device
        self.workspace = torch.empty(max(1, self.call.workspace_bytes()), dtype=torch.uint8, device=device)

    def poison(self):
        for tensor in self.results.values():
            tensor.fill_(float("nan"))
        self.workspace.fill_(255)

    def run(self):
        """On torch's current stream."""
        cuda = self.workspace.device.type == "cuda"
        stream = torch.cuda.current_stream().cuda_stream if cuda else 0
        self.call.use(self.workspace.data_ptr(), self.call.workspace_bytes(), stream)
        self.call.run()
        return self

    def run_twice(self):
        """From poisoned results each time; whether both runs gave the same bits."""
        self.poison()
        self.run()
        first = {name: tensor.clone() for name, tensor in self.results.items()}
        self.poison()
        self.run()
        return all(same(tensor, first[name]) for name, tensor in self.results.items())


class Runner(Planned):
    """The forward of one Made; o and lse are its results."""

    def __init__(self, engine, made, backend):
        self.made = made
        q, cache = made.q, made.cached()
        self.o = torch.empty((*q.shape[:-1], made.v.shape[-1]), dtype=q.dtype, device=q.device)
        rows = (q.shape[1], q.shape[0]) if made.ragged() else (q.shape[0], q.shape[2], q.shape[1])
        self.lse = torch.empty(rows, dtype=torch.float32, device=q.device)
        inputs = {"q": q, "k_cache" if cache else "k": made.k, "v_cache" if cache else "v": made.v, **made.arrays}
        super().__init__(engine, backend, fields(made), inputs, {"o": self.o, "lse": self.lse})

    def entry(self, b):
        """(q, k, v, o, lse) of one entry, dense: (Sq,H,D), (Sk,Hk,D), (Sk,Hk,Dv), (Sq,H,Dv), (H,Sq)."""
        made = self.made
        sq, sk = made.lengths[b]
        if made.ragged():
            rows, keys = made.slices(b)
            return made.q[rows], made.k[keys], made.v[keys], self.o[rows], self.lse[:, rows]
        k, v = made.k, made.v
        if "block_table" in made.arrays:
            pages = made.arrays["block_table"][b].long()
            k, v = (x[pages].flatten(0, 1) for x in (k, v))
        else:
            k, v = k[b], v[b]
        return made.q[b], k[:sk], v[:sk], self.o[b], self.lse[b]


def bits(tensor):
    """Of 16-bit and f32 tensors, as integers: NaN equals itself."""
    return tensor.contiguous().view(torch.int16 if tensor.element_size() == 2 else torch.int32)


def same(a, b):
    return torch.equal(bits(a), bits(b))


def shift_of(spec, sq, sk):
    """The place of query 0 among the keys."""
    return {"bottom_right": sk - sq, "top_left": 0, "offset": spec.offset}[spec.align]


def judge(engine, runner, b, first, count, kv_head):
    """Queries `first` .. of entry b and one kv head's group: (right, words). As a call of their own that
    stands where these queries stood. Not with dropout, which knows where it was."""
    made = runner.made
    spec, arrays = made.spec, made.arrays
    q, k, v, o, lse = runner.entry(b)
    sq, sk = made.lengths[b]
    count = min(count, sq - first)
    rows, group = slice(first, first + count), spec.heads // spec.kv_heads
    heads = slice(kv_head * group, (kv_head + 1) * group)
    host = lambda x: x.detach().cpu().contiguous()
    shift = shift_of(spec, sq, sk)
    at = {"q": host(q[rows, heads]), "k": host(k[:, kv_head:kv_head + 1]), "v": host(v[:, kv_head:kv_head + 1]),
          "o": host(o[rows, heads]), "lse": host(lse[heads, rows])}
    out = {"batch": 1, "q_len": count, "k_len": sk, "q_heads": group, "k_heads": 1, "dim": spec.dim,
           "dim_v": v.shape[-1], "dtype": spec.dtype, "causal": spec.causal, "window_left": spec.window[0],
           "window_right": spec.window[1], "align": "offset", "query_offset": first + shift,
           "prefix": spec.prefix, "chunk": spec.chunk, "softcap": spec.softcap, "sinks": spec.sinks,
           "want_lse": True, "scale": spec.scale if spec.scale is not None else spec.dim ** -0.5}
    spread = lambda x: x[b if x.shape[0] > 1 else 0, heads if x.shape[1] > 1 else slice(0, 1)]
    visible = None
    if "mask" in arrays:
        visible = spread(arrays["mask"])[:, rows, :sk]
    if "block_map" in arrays:
        device = arrays["block_map"].device
        i, j = torch.arange(first, first + count, device=device), torch.arange(sk, device=device)
        blocks = spread(arrays["block_map"])[:, i // spec.block_map[0]][:, :, j // spec.block_map[1]]
        visible = blocks if visible is None else visible & blocks
    if visible is not None:
        at["mask"] = host(visible)[None]
    if "bias" in arrays:
        bias = spread(arrays["bias"])
        at["bias"] = host(bias[:, rows if bias.shape[1] > 1 else slice(0, 1), :sk])[None]
    for name in ("alibi_slopes", "sinks"):
        if name in arrays:
            at[name] = host(arrays[name][heads])
    if spec.alibi:
        out["alibi"] = "per_head"
    for name in ("bias", "mask"):
        if name in at:
            out[name] = [*at[name].shape, *at[name].stride()]
    return engine.judge({**out, **{f"at.{name}": tensor.data_ptr() for name, tensor in at.items()}})
