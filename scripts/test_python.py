# test_python.py: the stage "python" of test.py: builds the wheel, installs it into an environment with
# NumPy alone and into one with PyTorch, and runs python/tests in each; then those of CUDA tensors on a build
# with the emulated device. Standard library only.
import concurrent.futures
import glob
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import wheel

ROOT = wheel.ROOT
WORK = os.path.join(ROOT, "build", "python-stage")
TESTS = ["pytest", "hypothesis"]
# The build for CPUs, by its local version: the other brings a gigabyte of CUDA along. HEED_TORCH names
# another requirement where an index has it under another name.
TORCH = os.environ.get("HEED_TORCH", "torch==2.13.0+cpu")
TRANSFORMERS = "transformers==5.23.0"  # what docs/transformers.md says
NANOBIND = "nanobind>=3.1,<4"  # what pyproject.toml says
# The folders of virtual environments in WORK, and what is installed there before the wheel.
ENVIRONMENTS = {"numpy": TESTS + ["ml_dtypes"],
                "torch": TESTS + ["ml_dtypes", "jax", TORCH, TRANSFORMERS, NANOBIND]}


def prepare():
    """{name: its Python, or what went wrong}. Mostly downloads: meant to run beside the other stages."""
    os.makedirs(WORK, exist_ok=True)
    shutil.rmtree(os.path.join(WORK, "numpy"), ignore_errors=True)
    made = {}
    for name, packages in ENVIRONMENTS.items():
        try:
            made[name] = wheel.environment(os.path.join(WORK, name), packages)
        except subprocess.CalledProcessError as error:
            made[name] = error
    return made


def _with_objects_of(release, build):
    """`build`, with the objects of another build tree where it is new. ninja takes those whose command is
    the same to the letter, and whose sources have not changed since; what it makes of the rest, it makes
    again. So the wheel is what it would be without, and the library is compiled once less. (`build` lies as
    deep as `release`: a compiler cache may have made the paths of sources relative.)"""
    if os.path.exists(build) or not os.path.exists(os.path.join(release, ".ninja_deps")):
        return build
    objects = [path for room in ("src", "io", "verify", "bench", "tests/emu", "tests/cuda")
               for path in glob.glob(os.path.join(release, room, "**", "*.o"), recursive=True)]
    for path in [*objects, os.path.join(release, ".ninja_deps"), os.path.join(release, ".ninja_log")]:
        copy = os.path.join(build, os.path.relpath(path, release))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copy2(path, copy)  # with its time, which is in the log
    return build


def _tests(python, name, arguments, **variables):
    """(passed, names of failed, what it said) of one pytest run."""
    report = os.path.join(WORK, name + ".xml")
    if os.path.exists(report):
        os.remove(report)
    # What is imported is compiled once, not by every process of a test.
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    env.setdefault("OMP_WAIT_POLICY", "passive")  # other stages use the cores that waiting would keep busy
    env |= variables
    done = subprocess.run([python, "-m", "pytest", "--quiet", "--no-header", "-p", "no:cacheprovider",
                           f"--junitxml={report}", *arguments], cwd=ROOT, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if not os.path.exists(report):
        return 0, [f"python: {name}"], done.stdout
    passed, failed = 0, []
    for case in ET.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"python {name}: {case.get('classname')}.{case.get('name')}")
        elif case.find("skipped") is None:
            passed += 1
    if done.returncode and not failed:
        failed = [f"python: {name} ended with {done.returncode}"]
    return passed, failed, done.stdout


def _commands(python, name):
    """The command that the wheel installs runs, and computes what the library does."""
    heed = os.path.join(os.path.dirname(python), "heed")
    failed, said = [], ""
    for arguments in (["info"], ["check", "tests/data/conformance/causal_square.safetensors"]):
        done = subprocess.run([heed, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            failed.append(f"python {name}: heed {arguments[0]}")
            said += done.stdout + done.stderr
    return 2 - len(failed), failed, said


def _emulated(python):
    """(passed, failed names, what it said) of python/tests/emulated: another build of the extension, for tests
    alone, with the emulated CUDA device in it."""
    if isinstance(python, Exception):
        return 0, ["python: the environment torch"], f"{python}\n"
    build = _with_objects_of(os.path.join(ROOT, "build", "release"),
                               os.path.join(ROOT, "build", "python-emulated"))
    try:
        for command in (["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                         "-DHEED_BUILD_PYTHON=ON", "-DHEED_BUILD_TESTS=ON", "-DHEED_BUILD_CLI=OFF",
                         f"-DPython_EXECUTABLE={python}"],
                        ["cmake", "--build", build, "--target", "heed_python_emulated"]):
            subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except subprocess.CalledProcessError as error:
        return 0, ["python: the emulated device"], f"{error}\n{error.stdout or ''}"
    return _tests(python, "emulated", ["python/tests/emulated"],
                  HEED_EMULATED_PACKAGE=os.path.join(build, "python", "emulated"))


def _environment(name, python, made, arguments):
    """(passed, failed names, what it said) of the tests in one environment."""
    try:
        if isinstance(python, Exception):
            raise python
        for packages in (["--force-reinstall", "--no-deps", made], ["numpy"]):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    except subprocess.CalledProcessError as error:
        return 0, [f"python: the environment {name}"], f"{error}\n"
    runs = _commands(python, name), _tests(python, name, arguments)
    return sum(r[0] for r in runs), [f for r in runs for f in r[1]], "".join(r[2] for r in runs)


def build():
    """(the wheel or what went wrong, the seconds it took); behind the release stage, whose objects it takes."""
    os.makedirs(WORK, exist_ok=True)
    started = time.monotonic()
    try:
        made = wheel.build(os.path.join(WORK, "dist"), _with_objects_of(
            os.path.join(ROOT, "build", "release"), os.path.join(ROOT, "build", "python-wheel")))
    except (subprocess.CalledProcessError, SystemExit) as error:
        made = error
    return made, time.monotonic() - started


def run(long, built, prepared):
    """(passed, failed names) of the stage; `built` and `prepared` are futures of build() and prepare()."""
    made, seconds = built.result()
    print("\n=== python: the wheel, with NumPy alone and with PyTorch", flush=True)
    if isinstance(made, BaseException):
        print(made)
        return 0, ["python: the wheel"]
    pythons = prepared.result()
    print(f"    built in {seconds:.0f} s", flush=True)

    # Tests that need PyTorch are skipped there; in the short run the slowest of the rest, too.
    arguments = {"numpy": ["python/tests", *(() if long else ("-k", "numpy or process or ragged or seeds"))],
                 "torch": ["python/tests", *(("-m", "") if long else ())]}
    total, failures, started = 0, [], time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = {n: pool.submit(_environment, n, pythons[n], made, arguments[n]) for n in ENVIRONMENTS}
        runs["CUDA tensors, emulated"] = pool.submit(_emulated, pythons["torch"])
        for name, future in runs.items():
            passed, failed, said = future.result()
            print(f"--- with {name}:\n{said}", flush=True)
            total += passed
            failures += failed
    print(f"    tested in {time.monotonic() - started:.0f} s", flush=True)
    return total, failures
