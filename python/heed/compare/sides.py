# compare/sides.py: how each program computes a case. Not here: the training step (gpt.py), time and memory
# (worker.py).
from collections.abc import Callable

import numpy as np

from .cases import Case

SIDES = {  # in the order of the tables
    "heed": "heed",
    "torch": "PyTorch as shipped",
    "torch-best": "PyTorch at its best",
    "torch-math": "PyTorch math",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
# Beside heed in training, where most of a step is MKL's products: with MKL told as for PyTorch at its best.
HEED_TOLD = "heed-best"
NAMES = SIDES | {HEED_TOLD: "heed, MKL told"}
NEEDS = {"torch": ("torch",), "torch-best": ("torch",), "torch-math": ("torch",),
         "onnxruntime": ("onnxruntime", "onnx"), "openvino": ("openvino",), "heed": ()}


class NotOffered(Exception):
    """A side that has no such thing, with the reason."""


Prepared = tuple[Callable[[], object], Callable[[object], dict[str, np.ndarray]]]


def to_torch(x: np.ndarray, dtype: str):
    import torch
    return torch.from_numpy(x).to({"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype])


def _numbers(t):
    return t.detach().double().numpy()


def heed_side(case: Case, data: dict[str, np.ndarray], threads: int) -> Prepared:
    """Through PyTorch tensors, as everyone else here; without PyTorch through NumPy."""
    import heed
    options: dict = {"threads": threads}
    if case.causal:
        options["causal"] = True
    if case.window is not None:
        options["window"] = (case.window, 0)
    try:
        import torch
    except ImportError:
        return _heed_numpy(case, data, options)
    q, k, v, dout = (to_torch(data[n], case.dtype) for n in ("q", "k", "v", "dout"))
    if case.lengths is not None:
        cu = torch.tensor(np.cumsum((0, *case.lengths)), dtype=torch.int32)
        options.update(cu_seqlens_q=cu, cu_seqlens_k=cu, max_seqlen_q=max(case.lengths),
                       max_seqlen_k=max(case.lengths))
    if case.op == "decode":
        return lambda: heed.decode(q, k, v, **options), lambda o: {"o": _numbers(o)}
    if case.op == "forward":
        return lambda: heed.attention(q, k, v, **options), lambda o: {"o": _numbers(o)}
    leaves = [t.requires_grad_() for t in (q, k, v)]

    def both():
        o = heed.attention(q, k, v, **options)
        return o, *torch.autograd.grad(o, leaves, dout)

    return both, lambda r: {n: _numbers(t) for n, t in zip(("o", "dq", "dk", "dv"), r)}


def _heed_numpy(case, data, options):
    import heed
    if case.dtype == "bf16":
        try:
            import ml_dtypes
        except ImportError:
            raise NotOffered("bf16 in NumPy needs ml_dtypes") from None
        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype({"f32": np.float32, "f16": np.float16}[case.dtype])
    q, k, v, dout = (data[n].astype(dtype) for n in ("q", "k", "v", "dout"))
    if case.lengths is not None:
        cu = np.cumsum((0, *case.lengths)).astype(np.int32)
        options.update(cu_seqlens_q=cu, cu_seqlens_k=cu)

    def both():
        o, lse = heed.attention(q, k, v, return_lse=True, **options)
        return o, *heed.attention_backward(dout, q, k, v, o, lse, **options)

    def alone():
        return (heed.decode(q, k, v, **options) if case.op == "decode" else heed.attention(q, k, v, **options),)

    return (both if case.op == "backward" else alone,
            lambda r: {n: t.astype(np.float64) for n, t in zip(("o", "dq", "dk", "dv"), r)})


def _folded(case, data):
    """q, k, v as (B, H, S, D). The heads that share keys become queries of one head: the quickest way
    elsewhere, and the same result."""
    q, k, v = (data[n].transpose(0, 2, 1, 3) for n in ("q", "k", "v"))
    if case.op == "decode":
        q = data["q"].reshape(case.batch, case.kv_heads, case.heads // case.kv_heads, case.d)
    elif case.heads != case.kv_heads:
        raise NotOffered("no heads that share keys")
    return tuple(np.ascontiguousarray(x) for x in (q, k, v))


def _unfolded(case, o):
    """(B, H, S, D) back to (B, S, H, D)."""
    return o.reshape(case.batch, 1, case.heads, case.d) if case.op == "decode" else o.transpose(0, 2, 1, 3)


def torch_side(case: Case, data: dict[str, np.ndarray], threads: int, math: bool = False) -> Prepared:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    attend = torch.nn.functional.scaled_dot_product_attention
    if math:
        def attend(*x, **options):  # noqa: F811
            with sdpa_kernel(SDPBackend.MATH):
                return torch.nn.functional.scaled_dot_product_attention(*x, **options)
    if case.lengths is not None:  # a call for each sequence: quicker than a padded batch with a mask
        cuts = [x.split(case.lengths) for x in (to_torch(data[n], case.dtype) for n in ("q", "k", "v"))]
        cuts = [tuple(x.transpose(0, 1)[None].contiguous() for x in qkv) for qkv in zip(*cuts)]
        return (lambda: [attend(*qkv, is_causal=case.causal) for qkv in cuts],
                lambda outs: {"o": np.concatenate([_numbers(o[0]).transpose(1, 0, 2) for o in outs])})
    q, k, v = (to_torch(x, case.dtype) for x in _folded(case, data))
    options: dict = {"is_causal": case.causal}
    if case.window is not None:
        i, j = torch.arange(case.sq)[:, None], torch.arange(case.sk)[None, :]
        options = {"attn_mask": (j <= i) & (j >= i - case.window)}
    if case.op != "backward":
        return lambda: attend(q, k, v, **options), lambda o: {"o": _unfolded(case, _numbers(o))}
    dout = to_torch(data["dout"].transpose(0, 2, 1, 3).copy(), case.dtype)
    leaves = [t.requires_grad_() for t in (q, k, v)]

    def both():
        o = attend(q, k, v, **options)
        return o, *torch.autograd.grad(o, leaves, dout)

    return both, lambda r: {n: _unfolded(case, _numbers(t)) for n, t in zip(("o", "dq", "dk", "dv"), r)}


def _plain_forward(case):
    if case.op == "backward":
        raise NotOffered("no gradients")
    if case.lengths is not None:
        raise NotOffered("no ragged batches")
    if case.window is not None:
        raise NotOffered("no windows")


def onnxruntime_side(case: Case, data: dict[str, np.ndarray], threads: int) -> Prepared:
    import onnxruntime as ort
    from onnx import TensorProto, helper
    _plain_forward(case)
    if case.dtype != "f32":
        raise NotOffered(f"its CPU kernel has no {case.dtype}")
    q, k, v = _folded(case, data)
    heads = q.shape[1]
    node = helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["o"], domain="com.microsoft", num_heads=heads,
                            unidirectional=int(case.causal))
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None, heads * case.d])  # noqa: E731
    graph = helper.make_graph([node], "attention", [value(n) for n in "qkv"], [value("o")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = {n: np.ascontiguousarray(x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1))
           for n, x in zip("qkv", (q, k, v))}

    def numbers(outs):
        o = outs[0].astype(np.float64).reshape(case.batch, -1, heads, case.d).transpose(0, 2, 1, 3)
        return {"o": _unfolded(case, o)}

    return lambda: session.run(None, fed), numbers


def openvino_side(case: Case, data: dict[str, np.ndarray], threads: int) -> Prepared:
    import openvino as ov
    from openvino import opset13 as ops
    _plain_forward(case)
    if case.dtype == "f16":
        raise NotOffered("its CPU kernel computes f16 as f32")
    q, k, v = _folded(case, data)
    fed = [ops.parameter(list(x.shape), np.float32) for x in (q, k, v)]
    node = ops.scaled_dot_product_attention(*fed, causal=case.causal)
    precision = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}[case.dtype]
    compiled = ov.Core().compile_model(ov.Model([node], fed, "attention"), "CPU", {
        "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1})
    request = compiled.create_infer_request()
    for i, x in enumerate((q, k, v)):
        request.set_input_tensor(i, ov.Tensor(x))

    def call():
        request.infer()
        return request.get_output_tensor(0).data

    return call, lambda o: {"o": _unfolded(case, np.array(o, np.float64))}


def prepare(side: str, case: Case, data: dict[str, np.ndarray], threads: int) -> Prepared:
    """(call, results of a call as float64 arrays by name). Raises NotOffered."""
    if side == "heed":
        return heed_side(case, data, threads)
    if side in ("torch", "torch-best"):
        return torch_side(case, data, threads)
    if side == "torch-math":
        return torch_side(case, data, threads, math=True)
    return {"onnxruntime": onnxruntime_side, "openvino": openvino_side}[side](case, data, threads)
