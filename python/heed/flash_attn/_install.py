# _install.py: `import flash_attn` finds heed.flash_attn in this process. Not here: the modules themselves.
import importlib
import importlib.abc
import importlib.metadata
import importlib.util
import sys

from .._core import Error

VERSION = "2.8.4"  # of the interface that is imitated

_MODULES = ("", ".bert_padding", ".flash_attn_interface", ".layers", ".layers.rotary", ".modules",
            ".modules.mha", ".utils", ".utils.generation")
# Top-level name: (its module in heed, the modules below it, the distribution, its version).
_PACKAGES = {
    "flash_attn": ("heed.flash_attn", _MODULES, "flash_attn", VERSION),
    "flash_attn_interface": ("heed.flash_attn.flash_attn_3", ("",), "flash_attn_3", "3.0.0"),
}
_replaced = {}  # what sys.modules held, by name, while ours stand there
_finder = None


class _Distribution(importlib.metadata.Distribution):
    """What importlib.metadata answers for a package that no installer knows."""

    def __init__(self, top, name: str, version) -> None:
        self._texts = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
                        f"Summary: the interface of {name}, computed by heed\n",
            "top_level.txt": top + "\n",
        }

    def read_text(self, filename):
        return self._texts.get(filename)

    def locate_file(self, path):
        raise FileNotFoundError(f"{path}: heed.flash_attn.install() answers for {self.metadata['Name']}, "
                                "which has no files of its own")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, tops) -> None:
        self.distributions = {_PACKAGES[top][2]: _Distribution(top, *_PACKAGES[top][2:]) for top in tops}

    def find_spec(self, fullname, path=None, target=None):
        return None  # the modules stand in sys.modules

    def find_distributions(self, context=importlib.metadata.DistributionFinder.Context()):
        name = context.name and context.name.replace("-", "_").lower()
        return [d for n, d in self.distributions.items() if name in (None, n)]


def _is_real(top):
    if top in sys.modules:
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except ValueError:
        return True


def install(*, replace: bool = False, flash_attn_3: bool = False) -> None:
    """Makes ``import flash_attn`` find heed.flash_attn, in this process.

    replace : also where the real package is installed or imported; what imported it before keeps it.
    flash_attn_3 : also ``import flash_attn_interface``, the module of flash-attn 3.

    importlib.metadata then answers with version 2.8.4. Calling it again changes nothing.

    Raises
    ------
    heed.Error where the real package is and replace is False.
    """
    global _finder
    tops = ["flash_attn", *(["flash_attn_interface"] if flash_attn_3 else [])]
    tops = [top for top in tops if top not in _replaced]
    for top in tops:
        if not replace and _is_real(top):
            raise Error(f"{top} is installed or imported already: heed.flash_attn.install(replace=True) puts "
                        "heed in its place, in this process")
    for top in tops:
        module, below, _, _ = _PACKAGES[top]
        for name in [n for n in sys.modules if n == top or n.startswith(top + ".")]:
            _replaced[name] = sys.modules.pop(name)
        _replaced.setdefault(top, None)
        for suffix in below:
            sys.modules[top + suffix] = importlib.import_module(module + suffix)
    if tops:
        installed = [top for top in _PACKAGES if top in _replaced]
        if _finder is not None:
            sys.meta_path.remove(_finder)
        _finder = _Finder(installed)
        sys.meta_path.insert(0, _finder)  # before an installed one's own answer


def uninstall() -> None:
    """Undoes install(): the names are gone, or again what they were. Without install() nothing happens."""
    global _finder
    if _finder is None:
        return
    sys.meta_path.remove(_finder)
    _finder = None
    for top in [t for t in _PACKAGES if t in _replaced]:
        for name in [n for n in sys.modules if n == top or n.startswith(top + ".")]:
            del sys.modules[name]
    sys.modules.update((name, module) for name, module in _replaced.items() if module is not None)
    _replaced.clear()
