#!/usr/bin/env python3
"""Builds what `make gpu-test` and `make gpu-bench` run, with g++ and nvcc alone: no CMake, no packages.
Into build/gpu: libheed_gpu.so (tests/gpu/abi.h), gpu_cases, conformance_gpu; on request, and with nanobind,
the Python package around the same objects. Standard library only.
Exit 2: a compiler is missing or failed. 3: there is no NVIDIA GPU and no --arch."""
import argparse
import glob
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMMON = ["-std=c++20", "-I.", "-Iinclude", "-Isrc", "-Itests"]
# As in the CMake build: a product and a sum are fused where the text says so.
HOST = ["-O2", "-fPIC", "-pthread", "-ffp-contract=off", "-Wno-psabi", '-DHEED_VERSION="gpu"',
        '-DHEED_BUILD_TYPE="Release"', "-DHEED_SHARED", "-DHEED_HAVE_SCALAR=1"]
SCALAR = ["-fno-math-errno", "-fno-trapping-math", "-DHEED_ISA=scalar", "-DHEED_ISA_SCALAR=1"]


class Stop(Exception):
    """A sentence, and the exit code that goes with it."""

    def __init__(self, sentence, code):
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Step:
    source: str
    target: str
    command: tuple


def matching(*patterns, but=()):
    found = sorted({path for p in patterns for path in glob.glob(p, root_dir=ROOT)})
    return [path for path in found if os.path.basename(path) not in but]


def gpu_arch():
    """"sm_90a" and the like of the first GPU; None: there is none."""
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
                              capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.split() if done.returncode == 0 else []
    if not lines or not lines[0].replace(".", "").isdigit():
        return None
    major, minor = lines[0].split(".")
    # wgmma exists in the target that is for 9.0 alone.
    return f"sm_{major}{minor}" + ("a" if (major, minor) == ("9", "0") else "")


def nvcc_flags(arch):
    return ["-gencode", f"arch={arch.replace('sm_', 'compute_')},code={arch}", "-O3", "-Xcompiler",
            "-fPIC,-pthread,-ffp-contract=off",
            *[flag for flag in HOST if flag.startswith("-D")]]


def steps(out, arch):
    """Every object. `arch` None: for the host alone, without a kernel for a GPU."""
    device = arch is not None
    cxx = ["g++", *COMMON, *HOST]
    baseline = matching("src/merge.cpp", "src/problem/*.cpp", "src/score/*.cpp", "src/reference/*.cpp",
                        "src/cpu/*.cpp", "src/cuda/*.cpp", but=("no_device.cpp",) if device else ())
    others = matching("verify/*.cpp", "io/convert.cpp", "io/tensor.cpp", "io/text.cpp", "tests/cases*.cpp",
                      "tests/backward/backward_call.cpp", "tests/backward/backward_cases.cpp",
                      but=("case_paths.cpp",))
    gpu = matching("tests/gpu/*.cpp", but=("device_memory_host.cpp",) if device else ())
    gpu = [path for path in gpu if not path.endswith("_test.cpp")]
    kernels = matching("src/cuda/*.cu", "tests/gpu/*.cu", "tests/cuda/conformance_gpu.cu") if device else []

    def step(source, command):
        target = os.path.join(out, source.replace("/", "-") + ".o")
        return Step(source, target, (*command, "-c", source, "-o", target))

    # What takes longest comes first.
    yield from (step(path, ["nvcc", *COMMON, *nvcc_flags(arch)]) for path in kernels)
    for path in sorted([*baseline, *others, *gpu], key=lambda path: "cpu/kernels" not in path):
        yield step(path, [*cxx, *(SCALAR if "cpu/kernels" in path else [])])


def why_no_package():
    """The sentence that says what the package cannot be built for the lack of; None: nothing is missing."""
    if importlib.util.find_spec("nanobind") is None:
        return f"nanobind is not installed for {sys.executable}: it is needed to build the package"
    headers = sysconfig.get_paths()["include"]
    if not os.path.exists(os.path.join(headers, "Python.h")):
        return f"Python.h is not in {headers}: it is needed to build the package"
    return None


def package_steps(out, arch):
    """The objects of the extension heed._core; why_no_package() is None. arch: None for the host alone."""
    nanobind = importlib.util.find_spec("nanobind").submodule_search_locations[0]
    headers = [os.path.join(nanobind, "include"), os.path.join(nanobind, "ext", "robin_map", "include"),
               sysconfig.get_paths()["include"]]
    command = ["g++", *COMMON, *HOST, "-DNDEBUG", "-fvisibility=hidden", "-fno-strict-aliasing",
               # Without it the extension takes the library for one without kernels: python/core/device.cpp.
               *(["-DHEED_PYTHON_CUDA"] if arch else []), *(word for path in headers for word in ("-isystem", path))]
    for source in [*matching("python/core/*.cpp"), os.path.join(nanobind, "src", "nb_combined.cpp")]:
        target = os.path.join(out, "python-" + os.path.basename(source) + ".o")
        yield Step(source, target, (*command, "-c", source, "-o", target))


def link_package(out, arch, objects):
    """(folder for PYTHONPATH, the command that puts the extension there): the modules as they stand in the
    tree, and heed._core of the library's objects and its own."""
    package = os.path.join(out, "python", "heed")
    shutil.rmtree(package, ignore_errors=True)
    os.makedirs(package)
    for entry in matching("python/heed/*", but=("__pycache__",)):
        os.symlink(os.path.join(ROOT, entry), os.path.join(package, os.path.basename(entry)))
    link = ["nvcc", "-cudart", "static"] if arch else ["g++", "-pthread"]
    own = [step.target for step in objects if step.source.startswith(("src/", "python/"))
           or os.path.isabs(step.source)]
    return os.path.dirname(package), [*link, "-shared", *own, "-o", os.path.join(package, "_core.so")]


def programs(out, arch, objects):
    """(name, target, command) of each thing linked."""
    link = ["nvcc", "-cudart", "static"] if arch else ["g++", "-pthread"]
    own = {"abi.cpp": "abi", "gpu_cases.cpp": "cases", "conformance_gpu.cu": "conformance"}
    shared, special = [], {}
    for step in objects:
        special_to = own.get(os.path.basename(step.source))
        if special_to:
            special[special_to] = step.target
        else:
            shared.append(step.target)
    made = [("library", "libheed_gpu.so", [*link, "-shared", special["abi"], *shared]),
            ("cases", "gpu_cases", [*link, special["cases"], *shared])]
    if arch:
        made.append(("conformance", "conformance_gpu", [*link, special["conformance"]]))
    return [(name, os.path.join(out, target), [*command, "-o", os.path.join(out, target)])
            for name, target, command in made]


def newest_header():
    patterns = [f"{room}/**/*.{kind}" for room in ("include", "src", "io", "verify", "tests", "python/core")
                for kind in ("h", "def", "inc")]
    files = [path for p in patterns for path in glob.glob(p, root_dir=ROOT, recursive=True)]
    return max(os.path.getmtime(os.path.join(ROOT, path)) for path in [*files, os.path.abspath(__file__)])


def run(name, command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Stop(f"{name} does not build ({' '.join(command)}):\n{(done.stderr or done.stdout)[-6000:]}", 2)


def compile_all(all_steps, stamp, jobs):
    """Compiles what is older than its source, any header, or the flags in the file `stamp`; how many."""
    # Objects of another architecture, or of another set of flags, are not ours.
    flags = repr([s.command for s in all_steps])
    same = os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == flags
    header = newest_header()

    def stale(step):
        if not same or not os.path.exists(step.target):
            return True
        source = os.path.getmtime(os.path.join(ROOT, step.source))
        return os.path.getmtime(step.target) < max(header, source)

    if not same and os.path.exists(stamp):
        os.remove(stamp)
    todo = [s for s in all_steps if stale(s)]
    with ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0))) as pool:
        tasks = [pool.submit(run, s.source, list(s.command)) for s in todo]
        try:
            for task in tasks:
                task.result()
        except Stop:
            for task in tasks:
                task.cancel()
            raise
    with open(stamp, "w", encoding="utf-8") as f:
        f.write(flags)
    return len(todo)


def build(out=None, arch="auto", jobs=None, say=print):
    """Paths of what was made: library, cases, and conformance where there is a GPU's arch; the arch itself.
    `arch`: "auto", "sm_80" and the like, or None for the host alone. Raises Stop."""
    if arch == "auto":
        arch = gpu_arch()
        if arch is None:
            raise Stop("there is no NVIDIA GPU here: nvidia-smi finds none", 3)
    if arch and not shutil.which("nvcc"):  # where its installer puts it, which no PATH names by itself
        os.environ["PATH"] += os.pathsep + "/usr/local/cuda/bin"
    for tool in ("g++", *(("nvcc",) if arch else ())):
        if not shutil.which(tool):
            raise Stop(f"{tool} is not on PATH: it is needed to build", 2)
    out = os.path.abspath(out or os.path.join(ROOT, "build", "gpu" if arch else "gpu-host"))
    os.makedirs(out, exist_ok=True)
    began = time.monotonic()
    all_steps = list(steps(out, arch))
    compiled = compile_all(all_steps, os.path.join(out, "flags"), jobs)
    linked = programs(out, arch, all_steps)
    if compiled or not all(os.path.exists(target) for _, target, _ in linked):
        with ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0))) as pool:
            list(pool.map(lambda p: run(p[0], p[2]), linked))
    say(f"built {compiled} of {len(all_steps)} files for {arch or 'the host'} in {time.monotonic() - began:.0f} s")
    return {"arch": arch, **{name: target for name, target, _ in linked}}


def build_package(made, jobs=None, say=print):
    """The folder with the package `heed`, for PYTHONPATH, around the library that build() made. Raises Stop."""
    missing = why_no_package()
    if missing:
        raise Stop(missing, 2)
    out, arch = os.path.dirname(made["library"]), made["arch"]
    began = time.monotonic()
    own = list(package_steps(out, arch))
    compiled = compile_all(own, os.path.join(out, "flags-python"), jobs)
    folder, command = link_package(out, arch, [*steps(out, arch), *own])
    run("the package", command)
    say(f"built {compiled} of {len(own)} files of the package in {time.monotonic() - began:.0f} s")
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--arch", default="auto", help="sm_80 and the like (default: of the first GPU)")
    parser.add_argument("--host", action="store_true", help="without nvcc: the backends of the CPU alone")
    parser.add_argument("--jobs", type=int, help="(default: as many as there are processors)")
    parser.add_argument("--out", help="folder (default build/gpu, with --host build/gpu-host)")
    parser.add_argument("--package", action="store_true", help="the Python package, too")
    args = parser.parse_args()
    try:
        made = build(args.out, None if args.host else args.arch, args.jobs)
        if args.package:
            made["package"] = build_package(made, args.jobs)
    except Stop as stop:
        print(stop, file=sys.stderr)
        return stop.code
    print("\n".join(path for name, path in made.items() if name != "arch"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
