# _override.py: override_torch: the handle, what is in force, PyTorch's kernels replaced and put back. Not
# here: the kernels that stand in their place (_kernels.py).
import collections
import threading
import warnings

import torch

from .._core import ArgumentTypeError, Error
from . import _backends, _kernels

_lock = threading.RLock()
_handles: list["Override"] = []  # in force, the newest last: its options count
_libraries: list = []  # one for each kernel replaced, in the order of _kernels.REPLACED
_before: tuple = ()  # what else was set: PyTorch's cache tag and fast path
# Kernels that were taken out, the latest 4096 overrides of them: another thread may be in one, or on the way.
_retired: collections.deque = collections.deque(maxlen=len(_kernels.REPLACED) * 4096)


class Override:
    """``override_torch`` in force, until ``remove()`` or the end of its ``with`` block.

    Attributes
    ----------
    active : whether it is in force.
    served, kept : calls that heed computed, and calls left to PyTorch's kernels, while this handle was the
        newest (a compiled function counts once, when it is traced).
    kept_because : why they were left, each reason with its number of calls.
    """

    def __init__(self, backend, threads, strict, fast_path):
        self.backend, self.threads, self.strict, self.fast_path = backend, threads, strict, fast_path
        self.served = 0
        self.kept = 0
        self.kept_because: collections.Counter = collections.Counter()

    @property
    def active(self) -> bool:
        return self in _handles

    def remove(self) -> None:
        """Ends it; the last one in force puts PyTorch's kernels back. In any order, and more than once."""
        with _lock:
            if self in _handles:
                _handles.remove(self)
                _settle()

    def __enter__(self) -> "Override":
        if not self.active:
            raise Error("this override was removed: call heed.sdpa.override_torch() again")
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return (f"<heed.sdpa.Override {'in force' if self.active else 'removed'}: served {self.served}, "
                f"left to PyTorch {self.kept}>")

    def _keep(self, reason):
        if self.strict:
            raise Error(f"heed.sdpa.override_torch(strict=True): {reason}")
        self.kept += 1
        if reason in self.kept_because or len(self.kept_because) < 100:
            self.kept_because[reason] += 1


def override_torch(
    *,
    backend: "str | _backends.Backend | None" = None,
    threads: int | None = None,
    strict: bool = False,
    fast_path: bool = False,
) -> Override:
    """PyTorch's own ``F.scaled_dot_product_attention`` computes with heed, forward and backward: on the CPU, and
    in a build with CUDA kernels on CUDA devices where PyTorch chooses its flash or memory-efficient kernels.

    In force from the call on, for the whole process, until ``remove()``; or ``with override_torch(): ...``.
    Overrides nest; the options of the newest count. What is not heed's stays PyTorch's: float64 (unless the
    reference is asked for), what ``torch.nn.attention.sdpa_kernel`` reserves for the math backend, tensor
    subclasses that wrap others, forward-mode derivatives, and whatever heed refuses.

    Parameters
    ----------
    backend : of heed; by default what ``heed.sdpa.backends`` allows.
    threads : at most so many per call.
    strict : a call that would be left to PyTorch raises heed.Error with the reason instead.
    fast_path : leave PyTorch's fused ``TransformerEncoderLayer`` and ``MultiheadAttention`` for inference on.
        They do not call the function, so by default they are off while the override is in force.

    Raises
    ------
    heed.Error where PyTorch has no ``torch.library.get_kernel`` to keep its own kernels by.

    Notes
    -----
    Replaced are ``aten::scaled_dot_product_attention`` (keys CPU and AutogradCPU) and
    ``aten::_scaled_dot_product_flash_attention_for_cpu`` with its backward (key CPU); with CUDA kernels also
    ``aten::_scaled_dot_product_flash_attention`` (chosen by PyTorch on Ampere and newer) and
    ``aten::_scaled_dot_product_efficient_attention`` (on Turing, and with a mask) and
    ``aten::_flash_attention_forward`` (of ``torch.nn.attention.varlen``), each with its backward (key CUDA), for
    calls without dropout.
    """
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int)):
        raise ArgumentTypeError(f"threads is a {type(threads).__name__}: it must be an integer, or None")
    if threads is not None and threads < 1:
        raise Error(f"threads is {threads}: it must be at least 1, or None")
    if not hasattr(torch.library, "get_kernel"):
        raise Error(f"this is PyTorch {torch.__version__}: override_torch needs torch.library.get_kernel, which came "
                    "later (2.13 has it); heed.sdpa.scaled_dot_product_attention needs no override")
    name = None if backend is None else _backends.backend_name(backend)
    handle = Override(name, threads, bool(strict), bool(fast_path))
    with _lock:
        _handles.append(handle)
        try:
            _settle()
        except BaseException:
            _handles.remove(handle)
            _settle()
            raise
    return handle


def _settle():
    """What is registered and set, made to agree with the handles."""
    global _before
    if _handles and not _libraries:
        _before = (_cache_tag(), _fast_path())
        _install()
        _forget_choices()
        _cache_tag(_before[0] + "+heed.sdpa.override_torch")
    elif not _handles and _libraries:
        _retired.extend(torch.library.get_kernel(op, key) for op, key, _ in _kernels.REPLACED)
        while _libraries:
            _libraries.pop()  # a library's end takes its kernel out; in reverse order, as _kernels.py wants it
        _forget_choices()
        _cache_tag(_before[0])
        _fast_path(_before[1])
    if _handles:
        _fast_path(_before[1] and all(h.fast_path for h in _handles))


def _install():
    # All of them first: the dispatcher computes one key's kernel from what stands under others.
    kept = [_own_kernel(op, key) for op, key, _ in _kernels.REPLACED]
    with warnings.catch_warnings():
        # That it replaces a kernel is what it is for; every other warning stays.
        warnings.filterwarnings("ignore", message="(?s).*Overriding a previously registered kernel",
                                category=UserWarning)
        for (op, key, make), own in zip(_kernels.REPLACED, kept):
            library = torch.library.Library("aten", "IMPL")
            library.impl(op.removeprefix("aten::"), make(own, _newest), key, with_keyset=True,
                         allow_override=True)
            _libraries.append(library)


def _own_kernel(op, key):
    """PyTorch's; None where it has none, as its build for CPUs has none for CUDA."""
    try:
        return torch.library.get_kernel(op, key)
    except RuntimeError:
        if key == "CUDA":
            return None
        raise


def _forget_choices():
    # Where PyTorch traces, its operators remember which key serves which, and a kernel that comes or goes does
    # not tell them: an autograd key that has no kernel any more would lose gradients.
    for op in {op for op, _, _ in _kernels.REPLACED}:
        overload = getattr(torch.ops.aten, op.removeprefix("aten::")).default
        getattr(overload, "_dispatch_cache", {}).clear()


def _newest():
    try:
        return _handles[-1]
    except IndexError:  # removed in another thread since the dispatcher chose
        return None


def _cache_tag(value=None):
    """Compiled code with heed in it must not be found again, on disk, where heed was not asked for."""
    try:
        from torch.compiler import config
    except ImportError:
        return ""
    if value is None:
        return config.cache_key_tag
    config.cache_key_tag = value


def _fast_path(value=None):
    mha = getattr(torch.backends, "mha", None)
    if not hasattr(mha, "set_fastpath_enabled"):
        return True
    if value is None:
        return mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(value)
