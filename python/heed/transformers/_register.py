# _register.py: heed's functions in transformers' tables, and out of them again.
from functools import partial
from typing import Any

from heed import Error

from ._attention import attention_forward
from ._masks import attention_mask


class Registration:
    """What ``register`` did, to be undone by ``remove()`` or at the end of a ``with`` block.

    ``name`` is what goes into ``attn_implementation``.
    """

    def __init__(self, name: str, tables: list[tuple[dict, Any]]):
        self.name = name
        self._tables = tables

    def remove(self) -> None:
        """Puts back what stood under the name before, or nothing. A second call does nothing."""
        for table, before in self._tables:
            if before is None:
                table.pop(self.name, None)
            else:
                table[self.name] = before
        self._tables = []

    def __enter__(self) -> "Registration":
        return self

    def __exit__(self, *_) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<heed.transformers.Registration name={self.name!r}{'' if self._tables else ' (removed)'}>"


def _check(name):
    if not isinstance(name, str) or not name:
        raise Error(f"name is {name!r}: it must be a word for attn_implementation, 'heed' for one")
    reasons = {
        "flash": "transformers takes such names for flash-attn's and looks for that package",
        "flex_attention": "transformers builds masks of blocks for such names",
        "/": "transformers looks such names up on the hub; heed.transformers.kernel_folder is that road",
        "|": "transformers splits such names",
        ":": "transformers splits such names",
    }
    for part, reason in reasons.items():
        if part in name:
            raise Error(f"name is {name!r}, with {part!r} in it: {reason}; take another, 'heed' or 'sdpa' "
                        "for one")
    if name == "eager":
        raise Error("name is 'eager': transformers never looks that one up, each model has its own; take "
                    "another, 'heed' or 'sdpa' for one")


def register(
    name: str = "heed", *, backend: str | None = None, threads: int | None = None, patterns: bool = True
) -> Registration:
    """Makes ``attn_implementation=name`` compute with heed, in this process, for every model.

    Parameters
    ----------
    name : "heed"; or "sdpa", and models that ask for nothing compute with heed, too. Not a name with
        "flash" in it: transformers treats those apart.
    backend, threads : of heed.attention, for all calls under this name: "cpu:avx2", "reference" (float64).
    patterns : False makes every mask in full, as bool (B, 1, Sq, Sk), however long the sequences are;
        otherwise those that heed knows as geometry are not made from 2^20 pairs on.

    Returns
    -------
    Registration : ``.remove()`` undoes it. Registering again replaces.

    Raises
    ------
    heed.Error for a name that cannot work; ImportError where transformers is missing or too old.
    """
    _check(name)
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
    except ImportError as error:
        raise ImportError("heed.transformers.register needs transformers 5.x, with AttentionInterface and "
                          "AttentionMaskInterface: pip install transformers") from error
    function = partial(attention_forward, backend=backend, threads=threads)
    mask = partial(attention_mask, patterns=patterns)
    # Both, always: a name without a mask function gets no mask at all, and nothing says so.
    tables = []
    for interface, value in ((AttentionInterface, function), (AttentionMaskInterface, mask)):
        tables.append((interface._global_mapping, interface._global_mapping.get(name)))
        interface.register(name, value)
    return Registration(name, tables)
