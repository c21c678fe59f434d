#!/usr/bin/env python3
# Breaks the text of the CUDA kernels in one place at a time (cuda_mutant_rules.py) and runs their tests in
# the emulator: a mutant that no test notices is either listed in tests/cuda/mutants_harmless.txt with the
# reason why it changes nothing, or a hole in the tests. Usage: cuda_mutants.py [--by TEST] [--sample N]
# [FILE...]; without FILE all of them.
# Every test is compiled once, with all mutants in it behind switches; the few that are constants of the
# program are compiled alone. Verdicts are kept in --work, by the hash of all that they depend on.
# Needs heed_emu and heed_gtest built (--build). Python's standard library only.
import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import threading
import time

from cuda_mutant_rules import mutants_of, names_of, self_test, switched

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KERNELS = os.path.join(ROOT, "src", "cuda")
TESTS = os.path.join(ROOT, "tests", "cuda")
HARMLESS = os.path.join(TESTS, "mutants_harmless.txt")
# Those that are quick to compile and to run first: most mutants are caught by any.
NAMES = ("tiles", "entry", "classify", "join", "append", "backward_prepare", "backward_fma", "forward_fma", "probs",
         "backward_mma", "forward_mma")
# Plain data, the host's half, names of types.
NOT_KERNELS = re.compile(r"(call|config|device|instances|kernels|machines|elements|\w+_call|wrappers|limits)\.h$")


# ---------------------------------------------------------------- the list

def read_harmless():
    """{(file, line before, line after): reason}; see the list's head."""
    with open(HARMLESS, encoding="utf-8") as f:
        lines = [line.rstrip("\n") for line in f if not line.startswith("#")]
    found, file = {}, None
    i = 0
    while i < len(lines):
        line = lines[i]
        if line.startswith("file "):
            file = line[5:].strip()
        elif line.startswith("- "):
            if i + 2 >= len(lines) or not lines[i + 1].startswith("+ ") or not lines[i + 2].strip():
                raise SystemExit(f"mutants_harmless.txt: '{line}' needs a line '+ …' and a reason behind it")
            reason = lines[i + 2].strip()
            if len(reason.split()) < 4:
                raise SystemExit(f"mutants_harmless.txt: '{reason}' is no proof")
            found[file, line[2:].strip(), lines[i + 1][2:].strip()] = reason
            i += 2
        elif line.strip():
            raise SystemExit(f"mutants_harmless.txt: '{line}' is not understood")
        i += 1
    return found


# ---------------------------------------------------------------- compiling and running

def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def said(output):
    """What of a test's output says how it failed."""
    m = re.search(r'Which is: "?([^"\n]*)|(The difference[^\n]*|Value of[^\n]*|Expected[^\n]*)', output)
    return (next((g for g in m.groups() if g), "") if m else output[-100:])[:110]


class Workshop:
    """The folder --work: compiled tests and verdicts, both named by the hash of what they came from."""

    def __init__(self, args):
        self.folder = args.work
        os.makedirs(self.folder, exist_ok=True)
        self.libraries = [os.path.join(args.build, "tests", "emu", "libheed_emu.a"),
                          os.path.join(args.build, "tests", "libheed_gtest.a")]
        for library in self.libraries:
            if not os.path.exists(library):
                raise SystemExit(f"{library} is missing: build heed_emu and heed_gtest first")
        self.flags = ["-std=c++20", "-O1", "-w",
                      # An index outside an array in registers is no guess of the compiler's.
                      "-fsanitize=bounds-strict", "-fsanitize-undefined-trap-on-error", f"-DHEED_SOURCE_DIR=\"{ROOT}\"",
                      *[f for d in ("tests", "src", "include") for f in ("-I", os.path.join(ROOT, d))],
                      "-isystem", os.path.join(args.gtest, "googletest/include"),
                      "-isystem", os.path.join(args.gtest, "googlemock/include")]
        self.cxx = args.cxx
        # What all tests have in common is compiled once.
        self.common = os.path.join(TESTS, "mutants.h")
        compiled = os.path.join(self.folder, f"common-{self.hash_of([self.common])}")
        if not os.path.exists(os.path.join(compiled, "mutants.h.gch")):
            write(os.path.join(compiled, "mutants.h"), read(self.common))
            self.run([*self.command(), "-x", "c++-header", self.common,
                      "-o", os.path.join(compiled, "mutants.h.gch")])
        self.prefix = ["-include", os.path.join(compiled, "mutants.h")]
        self.verdicts_path = os.path.join(self.folder, "verdicts.txt")
        self.verdicts = dict(line.split("\t", 1) for line in
                             (read(self.verdicts_path) if os.path.exists(self.verdicts_path) else "").splitlines())
        self.lock = threading.Lock()

    def command(self, overlay=None):
        # The mutants' folder comes before src.
        return [self.cxx, *(["-I", overlay] if overlay else []), *self.flags]

    def run(self, command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{done.stdout[-4000:]}")
        return done.stdout

    def hash_of(self, sources, overlay=None):
        """Of what the compiler sees of the sources, and of what they are linked with."""
        found = hashlib.sha1(" ".join(self.flags).replace(ROOT, "").encode())
        for source in sources:
            text = self.run([*self.command(overlay), "-include", self.common, "-E", "-P", source])
            found.update(text.replace(overlay or ROOT, "").replace(ROOT, "").encode())
        for library in self.libraries:
            with open(library, "rb") as f:
                found.update(f.read())
        return found.hexdigest()[:16]

    def verdict(self, key, find):
        """What was found before under this key, or now."""
        if key not in self.verdicts:
            found = find()
            with self.lock:
                self.verdicts[key] = found
                with open(self.verdicts_path, "a", encoding="utf-8") as f:
                    f.write(f"{key}\t{found}\n")
        return self.verdicts[key]


def run_tests(program, tests, mutant=-1, seconds=60, met=False):
    """(exit code, output) of these of its tests, or of all."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    environment = dict(os.environ, HEED_MUTANT=str(mutant), **({"HEED_MUTANTS_MET": "1"} if met else {}))
    done = subprocess.run([program, *([] if met else ["--gtest_brief=1"]), "--gtest_fail_fast",
                           *([f"--gtest_filter={':'.join(tests)}"] if tests else [])],
                          preexec_fn=limit, env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, errors="replace", check=False)
    return done.returncode, done.stdout


class Kernels:
    """The text of all kernel files, and all of their mutants by number."""

    def __init__(self, shop):
        self.headers = {name: self.headers_of(shop, name) for name in NAMES}
        self.files = sorted(set().union(*self.headers.values()))
        self.texts = {f: read(os.path.join(KERNELS, f)) for f in self.files}
        self.mutants, self.names = [], {}
        for f in self.files:
            of_file = mutants_of(f, self.texts[f])
            self.mutants += of_file
            self.names.update(names_of(of_file, self.texts[f]))
        self.number = {m: n for n, m in enumerate(self.mutants)}

    @staticmethod
    def headers_of(shop, name):
        text = shop.run([*shop.command(), "-MM", os.path.join(TESTS, f"{name}_test.cpp")])
        found = {m.group(1) for m in re.finditer(r"src/cuda/(\w+\.h)", text)}
        return {f for f in found if not NOT_KERNELS.match(f)}


class Test:
    """One test, compiled with all mutants of the kernels that it includes."""

    def __init__(self, shop, kernels, name):
        self.shop, self.kernels, self.name = shop, kernels, name
        self.source = os.path.join(TESTS, f"{name}_test.cpp")
        self.files = kernels.headers[name]
        self.alone = set()  # mutants that are no switches: constants of the program
        self.overlay = os.path.join(shop.folder, name)
        self.lock, self.program = threading.Lock(), None

    def write_overlay(self):
        left = set()
        for f in self.files:
            numbered = {m: n for m, n in self.kernels.number.items() if m.file == f and m not in self.alone}
            text, more = switched(self.kernels.texts[f], numbered)
            left |= set(more)
            write(os.path.join(self.overlay, "cuda", f), text)
        self.alone |= left

    def ready(self):
        """Compiles it, unless it is, and asks each of its cases which mutants it comes by."""
        with self.lock:
            if self.program:
                return
            self.write_overlay()
            key = self.shop.hash_of([self.source], self.overlay)
            program = os.path.join(self.shop.folder, f"{self.name}-{key}")
            if not os.path.exists(program + ".json"):
                self.compile(program)
                code, output = run_tests(program, [], seconds=600, met=True)
                if code:
                    first = output.find(": Failure")
                    raise SystemExit(f"{self.name}: fails without any mutant\n{output[first:first + 2000]}")
                cases = [line.split()[1:] for line in output.splitlines() if line.startswith("MET ")]
                write(program + ".json", json.dumps({
                    "alone": [self.kernels.number[m] for m in self.alone],
                    "cases": [[c[0], int(c[1]), [int(n) for n in c[2:]]] for c in cases]}))
            about = json.loads(read(program + ".json"))
            self.alone = {self.kernels.mutants[n] for n in about["alone"]}
            self.cases = sorted(about["cases"], key=lambda c: c[1])
            self.key, self.program = key, program

    def compile(self, program):
        # Where a switch is no constant but must be one the compiler says so: its mutant is compiled alone.
        for _ in range(8):
            done = subprocess.run([*self.shop.command(self.overlay), *self.shop.prefix, self.source,
                                   *self.shop.libraries, "-fmax-errors=0", "-o", program],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode == 0:
                return
            if ": error: " not in done.stdout:
                raise SystemExit(f"{self.name}: {done.stdout[-2000:]}")
            bad = {self.kernels.mutants[int(n)] for n in re.findall(r"\bmutants::\w+<(\d+)", done.stdout)}
            for f, line in re.findall(r"/cuda/(\w+\.h):(\d+):\d+: error", done.stdout):
                bad |= {m for m in self.kernels.mutants
                        if m.file == f and self.kernels.texts[f].count("\n", 0, m.start) + 1 == int(line)}
            if bad <= self.alone:
                raise SystemExit(f"{self.name}: {done.stdout[-4000:]}")
            self.alone |= bad
            self.write_overlay()
        raise SystemExit(f"{self.name}: no way to compile it with switches\n{done.stdout[-4000:]}")

    def judge(self, mutant):
        """'caught …', 'survived', 'unmet' (no case comes by it), 'no program'."""
        self.ready()
        if mutant in self.alone:
            return self.judge_alone(mutant)
        return self.shop.verdict(f"{self.key} {self.kernels.number[mutant]}", lambda: self.judge_switched(mutant))

    def judge_switched(self, mutant):
        n = self.kernels.number[mutant]
        cases = [c for c in self.cases if n in c[2]]
        if not cases:
            return "unmet"
        # The quickest cases first: most mutants fall in any.
        for first, last in ((0, 2), (2, 6), (6, len(cases))):
            some = cases[first:last]
            if not some:
                break
            seconds = 4 + sum(c[1] for c in some) * 8 // 1000
            code, output = run_tests(self.program, [c[0] for c in some], n, seconds)
            if code:
                return f"caught by {self.name}: " + (f"signal {-code}" if code < 0 else said(output))
        return "survived"

    def judge_alone(self, mutant):
        name = hashlib.sha1(repr(mutant).encode()).hexdigest()[:16]
        overlay = os.path.join(self.shop.folder, f"{self.name}-{name}")
        try:
            write(os.path.join(overlay, "cuda", mutant.file), mutant.apply(self.kernels.texts[mutant.file]))
            return self.shop.verdict(f"{self.shop.hash_of([self.source], overlay)} {self.name} alone",
                                     lambda: self.find_alone(overlay))
        finally:
            shutil.rmtree(overlay)

    def find_alone(self, overlay):
        program = os.path.join(overlay, "test")
        done = subprocess.run([*self.shop.command(overlay), *self.shop.prefix, self.source,
                               *self.shop.libraries, "-o", program],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            if not re.search(r":\d+: (?:fatal )?error: ", done.stdout):  # the compiler itself came to harm
                raise SystemExit(f"{self.name}: {done.stdout[-2000:]}")
            return "no program"
        seconds = 4 + sum(c[1] for c in self.cases) * 8 // 1000
        code, output = run_tests(program, [], seconds=seconds)
        if code:
            return f"caught by {self.name}: " + (f"signal {-code}" if code < 0 else said(output))
        return "survived"


def judge(tests, mutant, by):
    """By all tests that include its file, `by` first, or that of the same name."""
    stem = by or mutant.file[:-2]
    met = False
    for test in sorted((t for t in tests if mutant.file in t.files), key=lambda t: not t.name.startswith(stem)):
        found = test.judge(mutant)
        if found.startswith("caught") or found == "no program":
            return found
        met = met or found == "survived"
    return "survived" if met else "unmet"


def main():
    parser = argparse.ArgumentParser(description="break the CUDA kernels and run their tests in the emulator")
    parser.add_argument("--by", choices=NAMES, help="only mutants that the cases of this test come by")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants, drawn from --seed; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), help="where heed_emu is built")
    parser.add_argument("--work", default="", help="compiled tests and verdicts; BUILD/mutants")
    parser.add_argument("--gtest", default="/usr/src/googletest", help="GoogleTest's sources")
    parser.add_argument("--cxx", default="g++")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=int, default=0, help="stop after so many; another run goes on from there")
    parser.add_argument("--rule", default="", help="only mutants of this rule, such as 'call'")
    parser.add_argument("--list", action="store_true", help="only say which mutants there are")
    parser.add_argument("--verbose", action="store_true", help="say how each was caught")
    parser.add_argument("file", nargs="*", help="only these files of src/cuda")
    args = parser.parse_args()
    args.work = os.path.abspath(args.work or os.path.join(args.build, "mutants"))
    self_test()

    harmless = read_harmless()
    shop = Workshop(args)
    kernels = Kernels(shop)
    wanted = args.file or kernels.files
    unknown = [f for f in wanted if f not in kernels.files]
    if unknown:
        parser.error(f"no kernel file of that name, or no test includes it: {', '.join(unknown)}")
    mutants = [m for f in wanted for m in kernels.mutants if m.file == f and args.rule in m.rule]
    names = kernels.names
    stale = [k for k in harmless if k[0] in wanted and k not in set(names.values())]
    candidates = [m for m in mutants if names[m] not in harmless]
    known = len(mutants) - len(candidates)
    tests = [Test(shop, kernels, name) for name in NAMES]
    if args.by:
        test = next(t for t in tests if t.name == args.by)
        test.ready()
        met = set().union(*(c[2] for c in test.cases))
        candidates = [m for m in candidates if kernels.number[m] in met]
    if args.sample:
        candidates = random.Random(args.seed).sample(candidates, min(args.sample, len(candidates)))
    print(f"{len(mutants)} mutants of {len(wanted)} files, {known} of them known to be harmless; "
          f"{len(candidates)} are tried", flush=True)
    if args.list:
        for m in candidates:
            print(f"{m.file}: {names[m][1]}\n    -> {names[m][2]}")
        return 0

    started, counts, survivors = time.monotonic(), {}, []
    late = lambda: args.seconds and time.monotonic() - started > args.seconds
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        tried = pool.map(lambda m: "late" if late() else judge(tests, m, args.by), candidates)
        for m, verdict in zip(candidates, tried):
            kind = verdict.split(" by")[0]
            counts[kind] = counts.get(kind, 0) + 1
            if args.verbose:
                print(f"{m.file}: {names[m][1]}\n    -> {names[m][2]}\n    {verdict}", flush=True)
            if kind in ("survived", "unmet"):
                survivors.append(m)
                remark = "" if kind == "survived" else "  (no test comes by it)\n"
                print(f"file {m.file}\n- {names[m][1]}\n+ {names[m][2]}\n{remark}", flush=True)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) +
          f" in {time.monotonic() - started:.0f} s, {children.ru_utime + children.ru_stime:.0f} s of the processor")
    for key in stale:
        print(f"mutants_harmless.txt lists a mutant that there is no more: {key[0]}: {key[1]}")
    if survivors:
        print(f"{len(survivors)} survived: either a test must catch them, or mutants_harmless.txt says why not")
    if not counts.get("caught") and not survivors and not counts.get("late"):
        print("no mutant was tried: the rules find nothing any more")
        return 1
    return 1 if survivors or counts.get("late") or (stale and not args.sample) else 0


if __name__ == "__main__":
    sys.exit(main())
