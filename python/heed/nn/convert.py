# nn/convert.py: weights of attention under the names and shapes of other modules. Not here: the module
# (attention.py), modules swapped in place (replace.py).
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .._core import ArgumentTypeError, Error
from .attention import MultiHeadAttention

HEED = ("q_proj", "k_proj", "v_proj", "out_proj")
# What other modules call the same four.
PLAIN = (
    HEED,
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "dense"),
    ("query", "key", "value", "out"),
    ("query", "key", "value", "dense"),
    ("to_q", "to_k", "to_v", "to_out.0"),
    ("to_q", "to_k", "to_v", "to_out"),
    ("wq", "wk", "wv", "wo"),
    ("q_lin", "k_lin", "v_lin", "out_lin"),
    ("q", "k", "v", "o"),
)
PACKED = (("Wqkv", "out_proj"), ("qkv_proj", "o_proj"), ("qkv", "proj"), ("in_proj", "out_proj"))
FORMATS = ("heed", "torch", "plain", "packed")


def _take(state, out, old, new):
    for kind in ("weight", "bias"):
        if f"{old}.{kind}" in state:
            out[f"{new}.{kind}"] = state.pop(f"{old}.{kind}")


def _thirds(packed, sizes, name):
    if packed.shape[0] != sum(sizes):
        raise Error(f"{name} has {packed.shape[0]} rows: {' + '.join(map(str, sizes))} for q, k and v are "
                    "needed; give num_heads and num_kv_heads where they differ")
    return packed.split(sizes)


def _to_heed(state, num_heads, num_kv_heads):
    """The four projections out of whatever `state` holds; what is not of them stays."""
    state, out = dict(state), {}
    if "in_proj_weight" in state or "q_proj_weight" in state:  # torch.nn.MultiheadAttention
        if state.get("bias_k") is not None:
            raise Error("bias_k and bias_v (add_bias_kv) have no place in heed.nn.MultiHeadAttention: "
                        "heed.nn.replace keeps them")
        if "in_proj_weight" in state:
            packed = state.pop("in_proj_weight")
            weights = packed.chunk(3)
        else:
            weights = [state.pop(f"{n}_proj_weight") for n in "qkv"]
        for n, weight in zip(HEED, weights):
            out[f"{n}.weight"] = weight
        if "in_proj_bias" in state:
            for n, bias in zip(HEED, state.pop("in_proj_bias").chunk(3)):
                out[f"{n}.bias"] = bias
        _take(state, out, "out_proj", "out_proj")
        return out, state
    for names in PLAIN:
        if all(f"{n}.weight" in state for n in names):
            for old, new in zip(names, HEED):
                _take(state, out, old, new)
            return out, state
    for qkv, last in PACKED:
        if f"{qkv}.weight" in state and f"{last}.weight" in state:
            rows = state[f"{qkv}.weight"].shape[0]
            if num_heads is not None:
                kv = num_heads if num_kv_heads is None else num_kv_heads
                head = rows // (num_heads + 2 * kv)
                sizes = [num_heads * head, kv * head, kv * head]
            else:
                sizes = [rows // 3] * 3
            for kind in ("weight", "bias"):
                name = f"{qkv}.{kind}"
                if name in state:
                    for n, part in zip(HEED, _thirds(state.pop(name), sizes, name)):
                        out[f"{n}.{kind}"] = part
            _take(state, out, last, "out_proj")
            return out, state
    raise Error(f"no projections of attention in a state_dict with {sorted(state)[:12]}: expected "
                "in_proj_weight and out_proj (torch), one of "
                + ", ".join("/".join(n) for n in PLAIN) + ", or packed "
                + ", ".join("/".join(n) for n in PACKED))


def _torch_biases(out, state):
    """Zeros where only some of the projections have a bias, for torch has all or none."""
    sizes = [state[f"{n}.weight"].shape[0] for n in HEED]
    biases = [state.pop(f"{n}.bias", None) for n in HEED]
    if any(b is not None for b in biases):
        like = state["q_proj.weight"]
        biases = [like.new_zeros(size) if b is None else b for b, size in zip(biases, sizes)]
        out["in_proj_bias"], out["out_proj.bias"] = torch.cat(biases[:3]), biases[3]


def convert_state_dict(
    state: Mapping[str, Tensor], to: str = "heed", *, num_heads: int | None = None,
    num_kv_heads: int | None = None, names: tuple[str, ...] | None = None, prefix: str = "",
) -> dict[str, Tensor]:
    """The four projections of an attention module, renamed and cut or joined. Values do not change.

    Parameters
    ----------
    state : a state_dict: of torch.nn.MultiheadAttention (in_proj_weight, or q_proj_weight, … where kdim or
        vdim differ), of separate projections (q_proj k_proj v_proj with out_proj, o_proj; query key value;
        to_q to_k to_v to_out; wq wk wv wo; …), packed (Wqkv, qkv_proj, qkv), or of heed.
    to : "heed", "torch", "plain" (separate projections called ``names``) or "packed" (two, called ``names``).
    num_heads, num_kv_heads : where ``state`` is packed and they differ: the rows are cut by heads.
    names : four for "plain", by default q_proj k_proj v_proj o_proj; two for "packed", by default Wqkv
        out_proj.
    prefix : only keys that begin with it are taken; it is kept.

    Returns
    -------
    dict; tensors are views of those given where nothing is joined. What is no projection (a norm in the
    same module) stays as it is.

    Raises
    ------
    heed.Error where nothing fits, or the form asked for cannot hold the weights.
    """
    if to not in FORMATS:
        raise Error(f'to is "{to}": it must be one of {", ".join(FORMATS)}')
    mine = {n[len(prefix):]: t for n, t in state.items() if n.startswith(prefix)}
    found, rest = _to_heed(mine, num_heads, num_kv_heads)
    out: dict[str, Tensor] = {}
    if to == "heed":
        out = found
    elif to == "plain":
        names = PLAIN[1] if names is None else names
        if len(names) != 4:
            raise Error(f"names has {len(names)} words: plain projections are four, q, k, v and out")
        for old, new in zip(HEED, names):
            _take(found, out, old, new)
    elif to == "packed":
        names = PACKED[0] if names is None else names
        if len(names) != 2:
            raise Error(f"names has {len(names)} words: packed projections are two, qkv and out")
        columns = {found[f"{n}.weight"].shape[1] for n in HEED[:3]}
        biases = [f"{n}.bias" in found for n in HEED[:3]]
        if len(columns) > 1 or any(biases) != all(biases):
            raise Error(f"projections of {sorted(columns)} features, {sum(biases)} of 3 with a bias: they can "
                        "be packed where q, k and v take the same features and all or none has a bias")
        for kind in ("weight", "bias"):
            if f"q_proj.{kind}" in found:
                out[f"{names[0]}.{kind}"] = torch.cat([found.pop(f"{n}.{kind}") for n in HEED[:3]])
        _take(found, out, "out_proj", names[1])
    else:
        rows, columns = zip(*(found[f"{n}.weight"].shape for n in HEED))
        if len({*rows, columns[0], columns[3]}) > 1:
            raise Error(f"projections to {rows} rows from {columns} features: torch.nn.MultiheadAttention has "
                        "as many kv heads as heads and head_dim = embed_dim / num_heads")
        _torch_biases(out, found)
        if len(set(columns)) == 1:
            out["in_proj_weight"] = torch.cat([found[f"{n}.weight"] for n in HEED[:3]])
        else:
            out.update({f"{n}_weight": found[f"{n}.weight"] for n in HEED[:3]})
        out["out_proj.weight"] = found["out_proj.weight"]
    return {prefix + n: t for n, t in {**rest, **out}.items()}


def rename_in_place(module: MultiHeadAttention, state: dict, prefix: str) -> None:
    """For load_state_dict: other names become heed's; where they do not fit, nothing is done and
    load_state_dict itself says what is missing."""
    if f"{prefix}q_proj.weight" in state and f"{prefix}out_proj.weight" in state:
        return
    try:
        new = convert_state_dict(state, num_heads=module.num_heads, num_kv_heads=module.num_kv_heads,
                                 prefix=prefix)
    except Error:
        return
    for name in [n for n in state if n.startswith(prefix)]:
        del state[name]
    state.update(new)


def from_torch(module: nn.MultiheadAttention, **options) -> MultiHeadAttention:
    """A MultiHeadAttention that computes what `module` does, with copies of its weights.

    options : of MultiHeadAttention beside the sizes, such as causal=True or rotary=32.

    Raises
    ------
    heed.Error for add_bias_kv and add_zero_attn, which ``heed.nn.replace`` takes.
    """
    if not isinstance(module, nn.MultiheadAttention):
        raise ArgumentTypeError(f"module is a {type(module).__name__}: it must be a "
                                "torch.nn.MultiheadAttention")
    if module.bias_k is not None or module.add_zero_attn:
        raise Error("add_bias_kv or add_zero_attn is on: heed.nn.MultiHeadAttention has neither; "
                    "heed.nn.replace keeps the module and its weights, and computes both")
    weight = module.out_proj.weight
    made = MultiHeadAttention(
        module.embed_dim, module.num_heads, kdim=module.kdim, vdim=module.vdim,
        bias=module.in_proj_bias is not None, dropout=module.dropout, batch_first=module.batch_first,
        device=weight.device, dtype=weight.dtype, **options)
    made.load_state_dict(convert_state_dict(module.state_dict()), strict=not options.get("sinks"))
    return made.train(module.training)


def to_torch(module: MultiHeadAttention) -> nn.MultiheadAttention:
    """A torch.nn.MultiheadAttention that computes what `module` does, with copies of its weights.

    Raises
    ------
    heed.Error naming each option that PyTorch's module does not have.
    """
    asked = {"num_kv_heads": module.num_kv_heads != module.num_heads,
             "head_dim": module.head_dim * module.num_heads != module.embed_dim,
             "v_head_dim": module.v_head_dim != module.head_dim, "rotary": module.rotary is not None,
             "alibi": module.alibi_slopes is not None, "sinks": module.sinks is not None,
             "softcap": module.softcap > 0, "prefix": module.prefix > 0, "chunk": module.chunk > 0,
             "window": module.window not in (None, (-1, -1)), "causal": module.causal,
             "scale": module.scale not in (None, module.head_dim ** -0.5)}
    if any(asked.values()):
        raise Error("torch.nn.MultiheadAttention has no " + ", ".join(n for n, on in asked.items() if on)
                    + " (what is causal it takes by attn_mask at each call)")
    weight = module.out_proj.weight
    state = convert_state_dict(module.state_dict(), "torch")
    made = nn.MultiheadAttention(
        module.embed_dim, module.num_heads, module.dropout, "in_proj_bias" in state, kdim=module.kdim,
        vdim=module.vdim, batch_first=module.batch_first, device=weight.device, dtype=weight.dtype)
    made.load_state_dict(state)
    return made.train(module.training)
