#!/usr/bin/env python3
# Builds and runs the test stages, each a preset with its own build tree, and ends with one line
# 'N passed, M failed' over all of them. The builds go on while the tests of stages before run: a stage's
# last long compilation or test leaves no core idle. Usage: test.py [--long] [STAGE...]. Standard library
# only.
import argparse
import concurrent.futures
import functools
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

import test_python

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True)
class Stage:
    name: str      # for people
    preset: str
    target: str    # what is built
    select: tuple  # arguments of ctest that choose tests
    why: str
    configure: tuple = ()
    wrap: tuple = field(default=())  # a command that runs ctest
    leave_out: str = ""  # tests of GoogleTest with this in their name


# The thread sanitizer of gcc 12 cannot start where the kernel scatters addresses too widely.
def fixed_addresses():
    command = ("setarch", "-R")
    try:
        works = subprocess.run((*command, "true"), check=False).returncode == 0
    except OSError:
        works = False
    return command if works else ()


def stages(long):
    part = "all" if long else "tests_reduced"
    # In the short run the sanitizers see the set with both units, floats and pairs, and scalar code, and
    # no command line; the thread sanitizer scalar code alone, for threads share the same memory on every
    # set.
    everything = ("-DHEED_ONLY_ISAS=", "-DHEED_BUILD_CLI=ON", "-DHEED_TESTS_WITHOUT=",
                  "-DHEED_KERNELS_WITHOUT=", "-DHEED_SAMPLED_TESTS=OFF")
    # Half of what a test's own text and the kernels take to compile goes into these checks of every pointer
    # in them; the rest of the library keeps them, and all keep those of addresses, indices and numbers.
    pointers = "null,alignment,vptr,object-size,pointer-overflow,nonnull-attribute,returns-nonnull-attribute"
    wide = everything if long else ("-DHEED_ONLY_ISAS=avx512bf16", "-DHEED_BUILD_CLI=OFF",
                                    f"-DHEED_TESTS_WITHOUT={pointers}",
                                    f"-DHEED_KERNELS_WITHOUT={pointers}", "-DHEED_SAMPLED_TESTS=ON")
    narrow = everything if long else ("-DHEED_ONLY_ISAS=scalar", "-DHEED_BUILD_CLI=OFF")
    yield Stage("release", "release", "all", (), "every test, on every instruction set of this machine",
                configure=(f"-DHEED_LONG_TESTS={'ON' if long else 'OFF'}",))
    yield Stage("asan", "asan", part, () if long else ("-LE", "slow|values"),
                "addresses and undefined behaviour", configure=wide)
    if long:
        yield Stage("ubsan", "ubsan", part, (), "undefined behaviour alone", configure=wide)
    yield Stage("tsan", "tsan", "all" if long else "tests_threads", () if long else ("-L", "threads"),
                "data races in all that uses the pool", configure=narrow, wrap=fixed_addresses(),
                leave_out="" if long else "reference")  # which has no threads
    # Scalar code runs in a few tests there, and takes a minute to compile for speed.
    yield Stage("arm", "arm", part, () if long else ("-LE", "slow|native"), "AArch64, emulated",
                configure=(f"-DHEED_KERNEL_OPTIMIZATION_scalar={'' if long else '-O1'}",))
    yield Stage("fuzz", "fuzz", "fuzzers", ("-L", "fuzz"), "malformed files and requests",
                configure=(f"-DHEED_FUZZ_SECONDS={120 if long else 5}",
                           f"-DHEED_FUZZ_SEED={0 if long else 1}",
                           # Indices and maps are read by text that all sets share: in the short run
                           # scalar kernels are enough, the stage asan has vectors.
                           f"-DHEED_ONLY_ISAS={'avx2' if long else 'scalar'}",
                           # Minutes of compiling, and the stage asan has most of these checks on the same text.
                           f"-DHEED_KERNELS_WITHOUT={'' if long else 'undefined'}"))


def logged(command, log, **kwargs):
    """Runs quietly; if it fails, shows the errors in the log and its end."""
    with open(log, "wb") as out:
        code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
                              check=False, **kwargs).returncode
    if code:
        with open(log, encoding="utf-8", errors="replace") as f:
            lines = f.readlines()
        errors = [line for line in lines[:-15] if re.search(r"\berror\b|undefined reference", line)]
        print(f"FAILED: {' '.join(command)}; from {os.path.relpath(log, ROOT)}:")
        print("".join(errors[:25] + lines[-15:]), flush=True)
    return code == 0


def counted(report):
    """(passed, names of failed) from ctest's JUnit file."""
    passed, failed = 0, []
    for case in ET.parse(report).getroot().iter("testcase"):
        if case.get("status") == "run":
            passed += 1
        elif case.get("status") not in ("disabled", "notrun"):
            failed.append(case.get("name"))
        elif case.find("skipped") is None:
            failed.append(case.get("name"))
    return passed, failed


def configure(stage):
    build = os.path.join(ROOT, "build", stage.preset)
    os.makedirs(build, exist_ok=True)
    return logged(["cmake", "--preset", stage.preset, *stage.configure], os.path.join(build, "configure.log"))


def build(stage, configured, jobs):
    """What failed, if anything, and the seconds it took."""
    started = time.monotonic()
    if not configured.result():
        return "configure", 0
    done = logged(["cmake", "--build", "--preset", stage.preset, "--parallel", str(jobs),
                   "--target", stage.target], os.path.join(ROOT, "build", stage.preset, "build.log"))
    return None if done else "build", time.monotonic() - started


def run(stage, built, jobs):
    """(passed, failed names) of one stage; a build that fails is one failure."""
    failure, seconds = built.result()
    print(f"\n=== {stage.name}: {stage.why}", flush=True)
    if failure:
        return 0, [f"{stage.name}: {failure}"]
    print(f"    built in {seconds:.0f} s", flush=True)

    started = time.monotonic()
    report = os.path.join(ROOT, "build", stage.preset, "ctest.xml")
    if os.path.exists(report):
        os.remove(report)
    env = dict(os.environ, CTEST_OUTPUT_ON_FAILURE="1")
    if stage.leave_out:
        env["GTEST_FILTER"] = f"-*{stage.leave_out}*"
    code = subprocess.run([*stage.wrap, "ctest", "--preset", stage.preset, "--parallel", str(jobs),
                           "--output-junit", report, *stage.select], cwd=ROOT, env=env,
                          check=False).returncode
    if not os.path.exists(report):
        return 0, [f"{stage.name}: ctest"]
    passed, failed = counted(report)
    if code and not failed:
        failed = ["ctest"]
    print(f"    tested in {time.monotonic() - started:.0f} s", flush=True)
    return passed, [f"{stage.name}: {name}" for name in failed]


def main():
    parser = argparse.ArgumentParser(description="build and run heed's test stages")
    parser.add_argument("--long", action="store_true", help="every test in every stage, longer fuzzing")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("stage", nargs="*", help="only these stages")
    args = parser.parse_args()
    chosen = [s for s in stages(args.long) if not args.stage or s.name in args.stage]
    python = not args.stage or "python" in args.stage
    unknown = set(args.stage) - {s.name for s in chosen} - {"python"}
    if unknown or not shutil.which("cmake"):
        parser.error(f"no such stage: {', '.join(unknown)}" if unknown else "cmake is not installed")

    passed, failed = 0, []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as beside, \
            concurrent.futures.ThreadPoolExecutor(1) as builder:
        # A configuration keeps one core busy, and packages none: both beside the rest.
        trees = {s: beside.submit(configure, s) for s in chosen}
        environments = beside.submit(test_python.prepare) if python else None
        # One build at a time, and the tests of one stage at a time, in the same order.
        tests = [functools.partial(run, s, builder.submit(build, s, trees[s], args.jobs), args.jobs)
                 for s in chosen if s.name == "release"]
        if python:  # behind the release, whose objects it takes
            made = builder.submit(test_python.build)
            tests.append(lambda: test_python.run(args.long, made, environments))
        tests += [functools.partial(run, s, builder.submit(build, s, trees[s], args.jobs), args.jobs)
                  for s in chosen if s.name != "release"]
        for test in tests:
            p, f = test()
            passed += p
            failed += f
    print()
    for name in failed:
        print(f"failed  {name}")
    print(f"{passed} passed, {len(failed)} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
