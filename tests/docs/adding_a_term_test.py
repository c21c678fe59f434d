#!/usr/bin/env python3
"""docs/adding-a-term.md holds a real patch: it applies, touches no kernel file, builds, and what it
adds is computed by every backend. Usage: adding_a_term_test.py SOURCE WORK COMPILER ISAS"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

source, work, compiler, isas = sys.argv[1:5]
source, work = pathlib.Path(source), pathlib.Path(work)
sys.path.insert(0, str(source / "tests" / "rules"))
from rules import CPU_HOST  # noqa: E402: what of src/cpu is not a kernel


def must(*command, **where):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **where)
    if done.returncode:
        sys.exit(f"failed: {command}\n{done.stdout}{done.stderr}")
    return done.stdout


text = (source / "docs" / "adding-a-term.md").read_text()
patch = re.search(r"```diff\n(.*?)```", text, re.S).group(1)
touched = re.findall(r"^\+\+\+ b/(.*)$", patch, re.M)
kernels = [f for f in touched if f.startswith("src/cpu/") and not re.search(CPU_HOST, f)]
if kernels or "src/score/terms.h" not in touched:
    sys.exit(f"the patch should touch src/score/terms.h and no kernel; it touches {touched}")

tree = work / "tree"
shutil.rmtree(tree, ignore_errors=True)
for name in ("CMakeLists.txt", "src", "include", "cmake", "docs"):
    copy = shutil.copytree if (source / name).is_dir() else shutil.copy2
    tree.mkdir(parents=True, exist_ok=True)
    copy(source / name, tree / name)
# Not inside the project's own repository, as far as git can see.
outside = dict(os.environ, GIT_CEILING_DIRECTORIES=str(work.resolve()))
(work / "term.patch").write_text(patch)
must("git", "apply", "--verbose", "../term.patch", cwd=tree, env=outside)

build = work / "build"
options = ("BUILD_TESTS", "BUILD_CLI", "BUILD_BENCH", "INSTALL")
must("cmake", "-S", tree, "-B", build, "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={compiler}",
     # What it computes is looked at, not how fast: at -O3 the kernels alone take most of a minute.
     "-DCMAKE_BUILD_TYPE=None", "-DHEED_KERNEL_OPTIMIZATION=-O0", f"-DHEED_ONLY_ISAS={isas}",
     *[f"-DHEED_{o}=OFF" for o in options])
must("cmake", "--build", build, "--target", "heed_static")
(library,) = build.rglob("libheed.a")
probe = work / "probe"
must(compiler, "-std=c++20", "-O1", source / "tests" / "docs" / "locality_probe.cpp",
     f"-I{tree}/include", library, "-pthread", "-o", probe)
print(must(probe))
