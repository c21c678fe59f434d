# test_python.py: the stage "python" of test.py: builds the wheel, installs it into an environment with
# NumPy alone and into one with PyTorch, and runs python/tests in each. Standard library only.
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import wheel

ROOT = wheel.ROOT
WORK = os.path.join(ROOT, "build", "python-stage")
TESTS = ["pytest", "hypothesis"]
# The build for CPUs, by its local version: the other brings a gigabyte of CUDA along. HEED_TORCH names
# another requirement where an index has it under another name.
TORCH = os.environ.get("HEED_TORCH", "torch==2.13.0+cpu")
TRANSFORMERS = "transformers==5.23.0"  # what docs/transformers.md says


def _tests(python, name, arguments):
    """(passed, names of failed) of one pytest run."""
    report = os.path.join(WORK, name + ".xml")
    if os.path.exists(report):
        os.remove(report)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    code = subprocess.run([python, "-m", "pytest", "--quiet", "--no-header", "-p", "no:cacheprovider",
                           f"--junitxml={report}", *arguments], cwd=ROOT, env=env, check=False).returncode
    if not os.path.exists(report):
        return 0, [f"python: {name}"]
    passed, failed = 0, []
    for case in ET.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"python {name}: {case.get('classname')}.{case.get('name')}")
        elif case.find("skipped") is None:
            passed += 1
    if code and not failed:
        failed = [f"python: {name} ended with {code}"]
    return passed, failed


def _commands(python):
    """The command that the wheel installs runs, and computes what the library does."""
    heed = os.path.join(os.path.dirname(python), "heed")
    failed = []
    for arguments in (["info"], ["check", "tests/data/conformance/causal_square.safetensors"]):
        done = subprocess.run([heed, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            failed.append(f"python: heed {arguments[0]}")
            print(done.stdout + done.stderr)
    return 2 - len(failed), failed


def run(long):
    """(passed, failed names) of the stage."""
    print("\n=== python: the wheel, with NumPy alone and with PyTorch", flush=True)
    os.makedirs(WORK, exist_ok=True)
    try:
        made = wheel.build(os.path.join(WORK, "dist"))
    except subprocess.CalledProcessError as error:
        print(error)
        return 0, ["python: the wheel"]
    total, failures = 0, []

    shutil.rmtree(os.path.join(WORK, "numpy"), ignore_errors=True)
    # Tests that need PyTorch are skipped there; in the short run the slowest of the rest, too.
    alone = ["python/tests"] if long else ["python/tests", "-k", "numpy or process or ragged or seeds"]
    with_torch = ["python/tests", *(("-m", "") if long else ())]
    for name, packages, arguments in (("numpy", TESTS + ["ml_dtypes"], alone),
                                      ("torch", TESTS + ["ml_dtypes", "jax", TORCH, TRANSFORMERS], with_torch)):
        try:
            python = wheel.environment(os.path.join(WORK, name), packages)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", made],
                           check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "numpy"], check=True)
        except subprocess.CalledProcessError as error:
            print(error)
            return total, [*failures, f"python: the environment {name}"]
        for passed, failed in (_commands(python), _tests(python, name, arguments)):
            total += passed
            failures += failed
    return total, failures


if __name__ == "__main__":
    count, wrong = run("--long" in sys.argv)
    print(*wrong, f"{count} passed, {len(wrong)} failed", sep="\n")
    sys.exit(1 if wrong or not count else 0)
