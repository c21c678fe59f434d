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


def _cuda(available, reason):
    """What there is to say of the cuda backend: whether it is built in, and which devices are here."""
    if not available:
        return f"built in; {reason}" if _core.has_cuda_kernels() else reason
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_available():
        return "built in; devices are named where torch is imported and sees them"
    devices = []
    for index in range(cuda.device_count()):
        major, minor = cuda.get_device_capability(index)
        devices.append(f"cuda:{index} {cuda.get_device_name(index)} (sm_{major}{minor})")
    return "built in; " + ", ".join(devices)


def show_config():
    """Prints what this build and this machine offer: version, backends, instruction sets, devices, threads.

    The instruction set that would be chosen is the first usable one, or that of the environment
    variable ``HEED_ISA``. The packages are those that are imported now.
    """
    lines = [f"heed      {_core.version()}",
             f"python    {platform.python_version()} on {platform.machine()}; " + ", ".join(_packages())]
    for name, available, reason, isas in _core.backends():
        if name == "cuda":
            lines.append(f"cuda      {_cuda(available, reason)}")
            continue
        usable = [isa for isa, fits, _ in isas if fits]
        lines.append(f"{name:<10}" + ((", ".join(usable) or "available") if available else reason))
        lines += [f"          not {isa}: {why}" for isa, fits, why in isas if not fits]
    forced = os.environ.get("HEED_ISA")
    if forced:
        lines.append(f"HEED_ISA  {forced}")
    lines.append(f"threads   {_core.available_threads()}")
    print("\n".join(lines))
