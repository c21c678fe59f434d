"""heed.verify: checks the installation on this machine. ``python -m heed.verify``.

Every instruction set that the processor has computes a sample of the options in every dtype, forward,
backward and on a cache, and is compared with the reference backend in float64; the reference itself with
a few lines of NumPy; where PyTorch is installed, its gradients and compiled calls, too. Needs NumPy
alone; ``ml_dtypes`` for bfloat16, ``rich`` for a table.
"""

from ._check import Result, verify

__all__ = ["Result", "verify"]
