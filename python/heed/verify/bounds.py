# verify/bounds.py: how far a program in float32 or 16 bits may be from the float64 results, from the size
# of the numbers. The derivations stand in docs/numerics.md. Not here: the comparison.
import numpy as np

U = 2.0**-24  # the unit roundoff of float32
# Of a probability before its product, of a result, of numbers too small for the dtype.
P_ROUNDING = {"f32": 0.0, "f16": 0.0, "bf16": 2.0**-8}
ROUNDING = {"f32": U, "f16": 2.0**-11, "bf16": 2.0**-8}
SMALLEST = {"f32": 2.0**-126, "f16": 2.0**-24, "bf16": 2.0**-126}


def largest(array) -> float:
    array = np.abs(np.asarray(array, np.float64))
    return float(np.max(array, initial=0.0, where=np.isfinite(array)))


def score_error(q, k, options) -> float:
    """Products and sums of q·k, and the terms that are added, each rounded once. The largest row of q times
    the largest of k bounds every score."""
    d = q.shape[-1]
    scale = options.get("scale")
    scale = d**-0.5 if scale is None else abs(scale)
    norm = lambda x: float(np.sqrt((x**2).sum(-1)).max(initial=0.0))  # noqa: E731
    size = scale * norm(q) * norm(k)
    keys = k.shape[1] if k.ndim == 4 else k.shape[0]
    terms = size + largest(options.get("bias", 0.0)) + largest(options.get("alibi_slopes", 0.0)) * 2 * (
        keys + max(q.shape[0], q.shape[1]))
    return U * ((d + 4) * size + 8 * terms)


def probability(error, keys) -> float:
    """Relative: its score's error, and that of the sum it is divided by; exp2; a sum of that many terms."""
    return 2 * float(np.expm1(min(error, 1.0))) + 2.0**-21 + (keys + 8) * U


def output(expected, v, error, keys, dropout_p, dtype):
    weights = probability(error, keys) + 2 * P_ROUNDING[dtype] + 2.0**-20
    return (largest(v) / (1 - dropout_p) * weights + ROUNDING[dtype] * abs(expected) * 1.01
            + SMALLEST[dtype])


def lse(expected, error, keys):
    finite = np.where(np.isfinite(expected), expected, 0.0)
    return error + 2.0**-20 + (keys + 8) * U + 4 * U * abs(finite)


def gradients(expected, data, probs, error, options, dtype):
    """Bounds of (dq, dk, dv): a sum of probabilities times the largest of what they multiply."""
    q, k, v, dout = (data[n] for n in ("q", "k", "v", "dout"))
    d, scale, p_drop = q.shape[-1], options.get("scale"), options.get("dropout_p", 0.0)
    scale = d**-0.5 if scale is None else abs(scale)
    group = q.shape[-2] // k.shape[-2]
    p = abs(np.asarray(probs, np.float64))
    columns = p.sum(-2)  # (B, H, Sk): what a key got of all queries
    columns = columns.reshape(columns.shape[0], -1, group, columns.shape[-1]).sum(2).max(initial=0.0)
    norm = lambda x: float(np.sqrt((x**2).sum(-1)).max(initial=0.0))  # noqa: E731
    dp = 2 * norm(dout) * norm(v) / (1 - p_drop)  # dp, and delta, which is a mean of such
    each = (2 * probability(error, p.shape[-1]) + (d + p.shape[-2] * group + 32) * U
            + 4 * P_ROUNDING[dtype] + (2 * ROUNDING[dtype] if dtype != "f32" else 0))
    sizes = (scale * dp * largest(k), scale * dp * largest(q) * columns,
             largest(dout) * columns / (1 - p_drop))
    return [size * each + ROUNDING[dtype] * abs(g) * 1.01 + SMALLEST[dtype] * (1 + p.shape[-1])
            for size, g in zip(sizes, expected)]
