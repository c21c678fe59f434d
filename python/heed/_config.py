# _config.py: show_config. Not here: what a single call does (heed.explain).
import os
import platform
import sys

from . import _core


def _packages():
    for name in ("numpy", "ml_dtypes", "torch", "jax"):
        module = sys.modules.get(name)
        if module is not None:
            yield f"{name} {getattr(module, '__version__', '')}".strip()


def show_config():
    """Prints what this build and this machine offer: version, backends, instruction sets, threads.

    The instruction set that would be chosen is the first usable one, or that of the environment
    variable ``HEED_ISA``. The packages are those that are imported now.
    """
    lines = [f"heed      {_core.version()}",
             f"python    {platform.python_version()} on {platform.machine()}; " + ", ".join(_packages())]
    for name, available, reason, isas in _core.backends():
        usable = [isa for isa, fits, _ in isas if fits]
        lines.append(f"{name:<10}" + ((", ".join(usable) or "available") if available else reason))
        lines += [f"          not {isa}: {why}" for isa, fits, why in isas if not fits]
    forced = os.environ.get("HEED_ISA")
    if forced:
        lines.append(f"HEED_ISA  {forced}")
    lines.append(f"threads   {_core.available_threads()}")
    print("\n".join(lines))
