# verify/_check.py: runs the cases on every instruction set and compares. Not here: the cases (cases.py),
# tolerances (bounds.py), what is printed (report.py).
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import heed

from .. import _core
from . import bounds, cases


@dataclass
class Result:
    """One line of the verdict: what was checked where."""

    where: str  # backend, "cpu:avx2"
    dtype: str
    what: str  # "forward", "backward", "decode", …
    checks: int = 0
    worst: float = 0.0  # the largest error as a share of its bound
    failed: list[str] = field(default_factory=list)

    def add(self, name: str, actual, expected, bound) -> None:
        """Compares; infinities and NaN must be the same."""
        self.checks += 1
        actual, expected = np.asarray(actual).astype(np.float64), np.asarray(expected, np.float64)
        if actual.shape != expected.shape:
            self.failed.append(f"{name}: shape {actual.shape}, expected {expected.shape}")
            return
        same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        with np.errstate(invalid="ignore"):
            share = np.where(same, 0.0, abs(actual - expected) / bound)
        share = np.where(np.isnan(share), np.inf, share)
        worst = float(share.max(initial=0.0))
        self.worst = max(self.worst, worst)
        if worst > 1:
            at = np.unravel_index(int(share.argmax()), share.shape)
            self.failed.append(f"{name}: element {[int(i) for i in at]} is {actual[at]:.6g}, expected "
                               f"{expected[at]:.6g}, off by {worst:.3g} times what rounding allows")


def dtypes() -> dict[str, Any]:
    found = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}
    if importlib.util.find_spec("ml_dtypes"):
        import ml_dtypes
        found["bf16"] = np.dtype(ml_dtypes.bfloat16)
    return found


def places() -> tuple[list[str], list[str]]:
    """Backends to be checked, by instruction set, and sentences about those that cannot be."""
    usable, not_here = [], []
    for name, available, reason, isas in _core.backends():
        if name == "reference":
            continue
        if not available:
            not_here.append(f"{name}: {reason}")
            continue
        usable += [f"{name}:{isa}" for isa, fits, _ in isas if fits] or ([name] if not isas else [])
        not_here += [f"{name}:{isa}: {why}" for isa, fits, why in isas if not fits]
    return usable, not_here


def _attention(case, dtype, data, wide, backends, results):
    """data in the dtype, wide the same numbers in float64."""
    names, options = ("q", "k", "v"), case.options
    want, lse, probs = heed.attention(*(wide[n] for n in names), backend="reference", return_lse=True,
                                      return_probs=True, **options)
    error, keys = bounds.score_error(wide["q"], wide["k"], options), probs.shape[-1]
    dropped = options.get("dropout_p", 0.0)
    near = bounds.output(want, wide["v"], error, keys, dropped, dtype), bounds.lse(lse, error, keys)
    grads = heed.attention_backward(wide["dout"], *(wide[n] for n in names), want, lse,
                                    backend="reference", **options)
    grads_near = bounds.gradients(grads, wide, probs, error, options, dtype)
    for backend in backends:
        tensors = [data[n] for n in names]
        out, mine = heed.attention(*tensors, backend=backend, return_lse=True, **options)
        forward = results(backend, dtype, "forward")
        forward.add(f"{case.name}, output", out, want, near[0])
        forward.add(f"{case.name}, lse", mine, lse, near[1])
        mine = heed.attention_backward(data["dout"], *tensors, out, mine, backend=backend, **options)
        for name, g, expected, bound in zip(("dq", "dk", "dv"), mine, grads, grads_near):
            results(backend, dtype, "backward").add(f"{case.name}, {name}", g, expected, bound)


def _decode(case, dtype, data, wide, backends, results):
    def call(tensors, backend):
        tensors = {n: t.copy() for n, t in tensors.items()}  # new rows are written in place
        out, lse = heed.decode(**tensors, **case.options, backend=backend, return_lse=True)
        return out, lse, tensors["k_cache"], tensors["v_cache"]

    want, lse, k_cache, v_cache = call(wide, "reference")
    keys = int(np.max(case.options["cache_seqlens"])) + 8
    error = bounds.score_error(wide["q"], k_cache, case.options)
    if "rotary_cos" in data:  # q and the new keys are turned, and rounded to the dtype
        size = bounds.largest(wide["q"]) * bounds.largest(k_cache) * wide["q"].shape[-1] ** 0.5
        error += 4 * bounds.ROUNDING[dtype] * size
    near = (bounds.output(want, v_cache, error, keys, 0.0, dtype), bounds.lse(lse, error, keys),
            4 * bounds.ROUNDING[dtype] * (1 + bounds.largest(k_cache)), 0.0)
    for backend in backends:
        got = call(data, backend)
        result = results(backend, dtype, "decode")
        for name, a, b, bound in zip(("output", "lse", "k_cache"), got, (want, lse, k_cache), near):
            result.add(f"{case.name}, {name}", a, b, bound)
        result.add(f"{case.name}, v_cache", got[3], v_cache, 2.0**-60)


def _reference(results):
    """The reference backend against the definition in a few lines."""
    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal((2, n, 3, 16)) for n in (20, 31, 31))
    s = np.einsum("bihd,bjhd->bhij", q, k) / 4
    s = np.where(np.arange(31)[None, :] <= np.arange(20)[:, None] + 11, s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    lse = np.log(p.sum(-1)) + s.max(-1)
    p /= p.sum(-1, keepdims=True)
    out, mine = heed.attention(q, k, v, causal=True, return_lse=True, backend="reference")
    result = results("reference", "f64", "forward")
    result.add("causal, output", out, np.einsum("bhij,bjhd->bihd", p, v), 1e-13)
    result.add("causal, lse", mine, lse, 1e-6)


def _pytorch(results):
    import torch
    result = results("PyTorch " + torch.__version__, "f32", "gradients, compile")
    generator = torch.Generator().manual_seed(1)
    x = [torch.randn(2, 33, 4, 32, generator=generator, requires_grad=True) for _ in range(3)]
    wide = [t.detach().double().transpose(1, 2).requires_grad_() for t in x]
    math = torch.nn.functional.scaled_dot_product_attention(*wide, is_causal=True).transpose(1, 2)
    dout = torch.randn(2, 33, 4, 32, generator=generator)
    want = torch.autograd.grad(math, wide, dout.double())
    for name, call in (("eager", heed.attention),
                       ("compiled", torch.compile(heed.attention, fullgraph=True, backend="aot_eager"))):
        out = call(*x, causal=True)
        result.add(f"{name}, output", out.detach(), math.detach(), 1e-5)
        for which, g, expected in zip("qkv", torch.autograd.grad(out, x, dout), want):
            result.add(f"{name}, d{which}", g, expected.transpose(1, 2), 1e-4)


def verify(*, only: str = "", pytorch: bool = True,
           progress: Callable[[str], None] | None = None) -> tuple[list[Result], list[str]]:
    """Runs all checks.

    Parameters
    ----------
    only : backends whose name contains it, "avx2" for one.
    pytorch : also through PyTorch, if it is installed.
    progress : called with the name of each case.

    Returns
    -------
    (results, sentences about what could not be checked here).
    """
    made: dict[tuple[str, str, str], Result] = {}

    def results(*key):
        return made.setdefault(key, Result(*key))

    tell = progress or (lambda name: None)
    usable, not_here = places()
    usable = [name for name in usable if only in name]
    found = dtypes()
    if "bf16" not in found:
        not_here.append("bf16: NumPy has no such dtype; install ml_dtypes to check it")
    if not only:
        tell("reference")
        _reference(results)
    for case in [*cases.attention(), *cases.decode()]:
        tell(case.name)
        run = _attention if case.kind == "attention" else _decode
        for name, dtype in found.items():
            if not usable:
                break
            data = {n: t.astype(dtype) for n, t in case.data.items()}
            wide = {n: t.astype(np.float64) for n, t in data.items()}
            try:
                run(case, name, data, wide, usable, results)
            except heed.Error as refusal:
                results(", ".join(usable), name, case.kind).failed.append(f"{case.name}: refused: {refusal}")
    if pytorch and not only:
        if importlib.util.find_spec("torch"):
            tell("PyTorch")
            _pytorch(results)
        else:
            not_here.append("PyTorch: not installed, which heed does not need")
    return list(made.values()), not_here
