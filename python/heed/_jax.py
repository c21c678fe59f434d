# _jax.py: JAX arrays on the CPU by way of NumPy, without copies of the inputs. Not here: tracing
# (jax.jit, jax.grad), which is refused.
import jax
import numpy as np

from ._core import ArgumentTypeError, Error


def to_numpy(value):
    """A NumPy view of a JAX array; anything else as it is."""
    if not isinstance(value, jax.Array):
        return value
    if isinstance(value, jax.core.Tracer):
        raise ArgumentTypeError("an argument is a tracer of JAX: heed computes on JAX arrays as they "
                                "are, outside of jax.jit, jax.grad and jax.vmap")
    platforms = {device.platform for device in value.devices()}
    if platforms != {"cpu"}:
        raise Error(f"an argument lives on {', '.join(sorted(platforms))}: this build of heed computes "
                    "on the CPU, so JAX arrays must lie there")
    return np.asarray(value)


def _in(value):
    return [to_numpy(v) for v in value] if isinstance(value, (list, tuple)) else to_numpy(value)


def _out(value):
    return tuple(map(_out, value)) if isinstance(value, tuple) else jax.numpy.asarray(value)


def call(function, arrays, options):
    """function on NumPy arrays, its results as JAX arrays."""
    return _out(function(*map(_in, arrays), **{name: _in(value) for name, value in options.items()}))
