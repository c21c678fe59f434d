# flash.py: calls of heed.flash_attn for its tests, and what flash-attn's arguments mean in the words of
# plain.py. Not here: what is tested.
import inspect

import arrays
import numpy as np
import plain
from hypothesis import strategies as st


def signature(function):
    """Names, order and defaults; flash-attn has no types there."""
    given = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in given.parameters.values()]
    return str(given.replace(parameters=bare, return_annotation=given.empty))


def rows(rng, shape, dtype="f32"):
    return rng.standard_normal(shape).astype(np.float32).astype(arrays.NUMPY[dtype])


def contract(softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None):
    """The same geometry and score for plain.py: there −1 alone is no bound, and 0 alone no cap."""
    options = {"scale": softmax_scale, "causal": causal, "window": tuple(max(int(n), -1) for n in window_size),
               "softcap": max(softcap, 0.0)}
    if alibi_slopes is not None:
        options["alibi_slopes"] = alibi_slopes
    return options


@st.composite
def scores(draw, batch, heads):
    """Keywords of flash-attn: NumPy's alibi_slopes, and a window that may be a tensor."""
    import torch
    options = {"causal": draw(st.booleans())}
    if draw(st.booleans()):
        options["softmax_scale"] = draw(st.sampled_from([0.0, -0.3, 0.7]))
    if draw(st.booleans()):
        window = (draw(st.integers(-3, 30)), draw(st.integers(-3, 30)))
        options["window_size"] = torch.tensor(window) if draw(st.booleans()) else window
    if draw(st.booleans()):
        options["softcap"] = draw(st.sampled_from([-1.0, 0.5, 30.0]))
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(heads,), (batch, heads)]))
        options["alibi_slopes"] = draw(st.sampled_from([0.1, 0.4])) * np.ones(shape, np.float32)
    return options


def torch_options(options):
    return {n: arrays.to_torch(x) for n, x in options.items()}


def finite_lse(lse):
    """flash-attn's +∞ for a row that sees nothing as plain.py's −∞."""
    lse = lse.detach().numpy().copy()
    assert not np.isneginf(lse).any(), "flash-attn 2 answers +inf for a row that sees nothing"
    lse[np.isposinf(lse)] = -np.inf
    return lse


def check_probs(dtype, probs, e, b=0, heads=1, dropout=None):
    """S_dmask of one entry against ± exp(s − the row's maximum); dropout: (p, seed, offset)."""
    h, sq, sk = e.p.shape
    actual = arrays.to_numpy(probs)[:, :sq, :sk]
    top = e.p.max(-1, keepdims=True, initial=0.0)
    expected = e.p / np.where(top > 0, top, 1.0)
    bound = 2 * plain.relative(e, "f32")[..., None] * expected + plain.ROUNDING[dtype] * expected + 2.0**-24
    arrays.near("S_dmask", abs(actual), expected, bound)
    if dropout is not None:
        p, seed, offset = dropout
        for head in range(h):
            kept = plain.keep(p, seed, offset, b * heads + head, sq, sk)
            seen = expected[head] > 2.0**-20
            assert np.array_equal(np.signbit(actual[head])[seen], ~kept[seen])
