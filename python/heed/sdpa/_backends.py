# _backends.py: which backends may serve: their names, the context that chooses among them. Not here:
# why one refuses (_reasons.py), the call (_call.py).
import contextlib
import contextvars
import enum
import threading
from collections.abc import Iterable

import torch

from .. import _core
from .._core import ArgumentTypeError, Error
from .._torch import is_compiling

try:
    from torch.nn.attention import SDPBackend as _SDPBackend
except ImportError:  # before PyTorch 2.3
    _SDPBackend = None


class Backend(str, enum.Enum):
    """heed's backends by name; plain strings do as well, ``"cpu:avx2"`` for an instruction set."""

    CPU = "cpu"
    REFERENCE = "reference"
    CUDA = "cuda"


_known: tuple = ()


@torch.compiler.assume_constant_result
def known():
    """(name, its instruction sets) of the backends in their order. Not asked before it is needed: the library
    then looks for devices, and a process that forks must not have."""
    global _known
    _known = _known or tuple((name, tuple(isa for isa, _, _ in isas)) for name, _, _, isas in _core.backends())
    return _known


# What serves where nobody chose: not the reference, which takes f64 and a matrix of queries by keys.
DEFAULT = ("auto",)

_chosen: contextvars.ContextVar = contextvars.ContextVar("heed.sdpa.backends", default=DEFAULT)
# The same for compiled code, which can guard on a global and not on a context variable: the newest
# context of the process.
_newest = DEFAULT
_entered: list = []  # one entry for each context that has not ended
_lock = threading.Lock()


def backend_name(backend) -> str:
    """The name of a backend, from a name, a ``Backend`` or PyTorch's ``SDPBackend``."""
    if _SDPBackend is not None and isinstance(backend, _SDPBackend):
        if backend == _SDPBackend.FLASH_ATTENTION:
            return "cpu"
        if backend == _SDPBackend.MATH:
            return "reference"
        raise Error(f"backend is SDPBackend.{str(backend).rsplit('.', 1)[-1]}: heed has FLASH_ATTENTION (its "
                    "'cpu') and MATH (its 'reference')")
    if not isinstance(backend, str):
        raise ArgumentTypeError(f"backend is a {type(backend).__name__}: it must be a name, a "
                                "heed.sdpa.Backend or a torch.nn.attention.SDPBackend")
    given = str(backend.value if isinstance(backend, Backend) else backend)
    name, colon, isa = given.partition(":")
    for backend, isas in known():
        if name == backend and (not colon or isa in isas):
            return given
    accepted = [name for name, _ in known()] + [f"{name}:{isa}" for name, isas in known() for isa in isas]
    raise Error(f"backend is {given!r}: it must be one of {', '.join(accepted)}")


class backends(contextlib.ContextDecorator):
    """Within it only these backends serve ``scaled_dot_product_attention``.

    Parameters
    ----------
    backends : one, or several: names (``"cpu"``, ``"cpu:avx2"``, ``"reference"``, ``"cuda"``), ``Backend``,
        or PyTorch's ``SDPBackend`` (FLASH_ATTENTION is "cpu", MATH is "reference").
    set_priority : the order given is the order in which they are asked. Otherwise the linear-memory
        backends are asked before the reference.

    It holds for the thread (or asyncio task) that enters it; contexts nest, also as decorators. Code under
    ``torch.compile`` is compiled again when the choice changes, and knows one choice for the process: the
    newest. Without a context, heed's engine serves and the reference never does.

    Raises
    ------
    heed.Error for a name that is not one. An empty list is accepted, and then every call refuses.

    Source: ``torch.nn.attention.sdpa_kernel``.
    """

    def __init__(self, backends: "Backend | str | Iterable[Backend | str]", set_priority: bool = False):
        one = isinstance(backends, str) or not isinstance(backends, Iterable)
        names = tuple(dict.fromkeys(backend_name(b) for b in ([backends] if one else backends)))
        if not set_priority:
            names = tuple(sorted(names, key=lambda name: _rank(name.partition(":")[0])))
        self.names = names
        self._before: list = []

    def __enter__(self) -> tuple[str, ...]:
        global _newest
        if is_compiling():
            self._before.append(_newest)
            _newest = self.names
            return self.names
        with _lock:
            entry = [self.names]
            self._before.append((entry, _chosen.set(self.names)))
            _entered.append(entry)
            _newest = self.names
        return self.names

    def __exit__(self, *_: object) -> None:
        global _newest
        before = self._before.pop()
        if is_compiling():
            _newest = before
            return
        with _lock:
            entry, token = before
            _chosen.reset(token)
            # Contexts of several threads do not end in the order in which they began.
            _entered[:] = [other for other in _entered if other is not entry]
            _newest = _entered[-1][0] if _entered else DEFAULT

    def _recreate_cm(self):
        # A decorated function gets a context of its own for every call: threads may share the function.
        fresh = object.__new__(backends)
        fresh.names, fresh._before = self.names, []
        return fresh


def only(backend):
    """The one backend to ask, as heed.attention names it; NotImplemented where there are several, or none."""
    if backend is not None:
        return backend_name(backend)
    names = _chosen.get()
    if names is DEFAULT:
        return None
    return names[0] if len(names) == 1 else NotImplemented


def _rank(name):
    # The reference after every other: it is exact and slow.
    return (name == "reference", [backend for backend, _ in known()].index(name))


def current_backends() -> tuple[str, ...]:
    """The backends that would be asked now, in order; ("auto",) where no context chose."""
    return _newest if is_compiling() else _chosen.get()
