#!/usr/bin/env python3
# Mutates the text of the CUDA kernels, one place at a time (a barrier or a wait is dropped, a comparison
# moves by one, a term of a test is left out, an index is wrong), and runs their tests in the emulator:
# a mutant that no test notices is either listed in tests/cuda/mutants_harmless.txt with the reason why it
# changes nothing, or a hole in the tests. Usage: cuda_mutants.py [--sample N --seed S] [FILE...]; without
# FILE those that the list calls complete: all of their mutants were tried and judged.
# Needs heed_emu and heed_gtest built (--build). Python's standard library only.
import argparse
import concurrent.futures
import hashlib
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KERNELS = os.path.join(ROOT, "src", "cuda")
HARMLESS = os.path.join(ROOT, "tests", "cuda", "mutants_harmless.txt")
# Those that are quick to compile first: most mutants are caught by any.
TESTS = ("classify", "join", "append", "forward_fma", "probs", "forward_mma")
# Plain data, the host's half, names of types.
NOT_KERNELS = re.compile(r"(call|config|device|instances|kernels|machines|elements|\w+_call|wrappers|limits)\.h$")
CPU_SECONDS = 60  # of one test; the slowest takes 8


@dataclass(frozen=True)
class Mutant:
    file: str  # below src/cuda
    start: int
    end: int
    text: str  # what stands there instead
    rule: str

    def apply(self, source):
        return source[:self.start] + self.text + source[self.end:]

    def lines(self, source):
        """The lines before and after, without what they have in common around them."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        last = len(source) if last < 0 else last
        squeeze = lambda t: re.sub(r"\s+", " ", t).strip()
        return (squeeze(source[first:last]),
                squeeze(source[first:self.start] + self.text + source[self.end:last]))


# ---------------------------------------------------------------- rules

def code_of(text):
    """The text with comments, strings, directives and declarations blanked, of the same length."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))
    text = re.sub(r'//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.M)
    return re.sub(r"\bstatic_assert\([^;]*;|\btemplate <[^\n]*|\busing [^;]*;|\bif constexpr \([^\n{;]*",
                  blank, text)


def operand_end(code, at):
    """Where the operand of && or || that begins at `at` ends."""
    depth = 0
    while at < len(code):
        c = code[at]
        if c in "([{":
            depth += 1
        elif c in ")]}":
            if depth == 0:
                return at
            depth -= 1
        elif depth == 0 and (c in "?;,:" and code[at:at + 2] != "::" and code[at - 1:at + 1] != "::"
                             or code[at:at + 2] in ("&&", "||")):
            return at
        at += 1
    return at


def operand_start(code, at):
    """Where the operand that ends before `at` begins."""
    depth = 0
    while at > 0:
        c = code[at - 1]
        if c in ")]}":
            depth += 1
        elif c in "([{":
            if depth == 0:
                return at
            depth -= 1
        elif depth == 0 and (c in "?;,:" and code[at - 2:at] != "::" and code[at - 1:at + 1] != "::"
                             or code[at - 2:at] in ("&&", "||")
                             or c == "=" and code[at - 2] not in "=<>!"
                             and code[at:at + 1] != "="):
            return at
        elif depth == 0 and re.search(r"\breturn$", code[:at]):
            return at
        at -= 1
    return at


def closing(code, at):
    """The parenthesis that closes the one before `at`."""
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(code[at], 0)
        at += 1
    return at - 1


def trimmed(code, start, end):
    while start < end and code[start].isspace():
        start += 1
    while end > start and code[end - 1].isspace():
        end -= 1
    return start, end


CALLS = re.compile(r"\bptx::(?:Sync\w+|Named\w+|CpAsyncCommit|CpAsyncWait<[^>]*>|Bulk(?:Commit|Wait\w*<\w+>)"
                   r"|Fence\w+|Mbarrier\w+|Wgmma(?:Fence|Commit|Wait<\w+>))\([^;]*\);|\b\w+_?\.(?:Begin|End|Next)"
                   r"\([^;]*\);")
COMPARE = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}


def rules(code):
    """(start, end, replacement, rule), any number of them for one place."""
    for m in CALLS.finditer(code):
        yield m.start(), m.end(), ";", "a call is dropped"
    for m in re.finditer(r" (<=?|>=?) ", code):
        yield m.start(1), m.end(1), COMPARE[m.group(1)], "a comparison"
    for m in re.finditer(r" [+-] (1)\b(?![.\d])", code):
        yield m.start(1), m.end(1), "0", "an index by one"
    for m in re.finditer(r" [/%*] (\d+)\b(?!\.)", code):
        yield m.start(1), m.end(1), str(2 * int(m.group(1))), "an index"
    for m in re.finditer(r" (?:<<|>>|&) (\d+)\b", code):
        yield m.start(1), m.end(1), str(int(m.group(1)) // 2), "an index"
    for m in re.finditer(r" (\^) ", code):
        yield m.start(1), m.end(1), "+", "an index"
    for m in re.finditer(r"&&|\|\|", code):
        neutral = "true" if m.group(0) == "&&" else "false"
        for start, end in ((operand_start(code, m.start()), m.start()), (m.end(), operand_end(code, m.end()))):
            start, end = trimmed(code, start, end)
            yield start, end, neutral, "a term of a test"
    for m in re.finditer(r" \? ", code):
        colon = operand_end(code, m.end())
        if code[colon:colon + 1] != ":":
            continue
        start, end = trimmed(code, operand_start(code, m.start()), m.start())
        yield start, end, "true", "a choice"
    for m in re.finditer(r"\bif \(", code):
        yield m.end(), closing(code, m.end()), "false", "a condition"


def mutants_of(file):
    with open(os.path.join(KERNELS, file), encoding="utf-8") as f:
        source = f.read()
    seen = set()
    for start, end, text, rule in sorted(rules(code_of(source))):
        mutant = Mutant(file, start, end, text, rule)
        changed = mutant.apply(source)
        if changed != source and changed not in seen:
            seen.add(changed)
            yield mutant


# ---------------------------------------------------------------- the list

def read_harmless():
    """{(file, line before, line after): reason}, complete files; see the list's head."""
    with open(HARMLESS, encoding="utf-8") as f:
        lines = [line.rstrip("\n") for line in f if not line.startswith("#")]
    found, file, complete = {}, None, []
    i = 0
    while i < len(lines):
        line = lines[i]
        if line.startswith("complete "):
            complete += line.split()[1:]
        elif line.startswith("file "):
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
    return found, complete


def name_all(mutants, texts):
    """{mutant: (file, line before, line after)}; equal ones are told apart by ' @2', ' @3' behind the first."""
    keys, count = {}, {}
    for m in mutants:
        key = (m.file, *m.lines(texts[m.file]))
        count[key] = count.get(key, 0) + 1
        keys[m] = key if count[key] == 1 else (key[0], f"{key[1]} @{count[key]}", key[2])
    return keys


# ---------------------------------------------------------------- compiling and running

class Workshop:
    def __init__(self, args, folder):
        self.folder = folder
        self.libraries = [os.path.join(args.build, "tests", "emu", "libheed_emu.a"),
                          os.path.join(args.build, "tests", "libheed_gtest.a")]
        for library in self.libraries:
            if not os.path.exists(library):
                raise SystemExit(f"{library} is missing: build heed_emu and heed_gtest first")
        gtest = args.gtest
        self.flags = ["-std=c++20", "-O1", "-w",
                      # An index outside an array in registers is no guess of the compiler's.
                      "-fsanitize=bounds", "-fsanitize-undefined-trap-on-error", f"-DHEED_SOURCE_DIR=\"{ROOT}\"",
                      *[f for d in ("tests", "src", "include") for f in ("-I", os.path.join(ROOT, d))],
                      "-isystem", os.path.join(gtest, "googletest/include"),
                      "-isystem", os.path.join(gtest, "googlemock/include")]
        self.cxx = args.cxx
        # What all tests have in common is compiled once.
        self.common = os.path.join(folder, "common.h")
        with open(self.common, "w", encoding="utf-8") as f:
            f.write("#include <cmath>\n#include <functional>\n#include <random>\n#include \"emu/emu_testing.h\"\n")
        self.run([self.cxx, *self.flags, "-x", "c++-header", self.common, "-o", self.common + ".gch"])
        self.depends = {test: self.headers(test) for test in TESTS}

    def run(self, command, **kwargs):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              check=False, **kwargs)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{done.stdout[-4000:]}")
        return done.stdout

    @staticmethod
    def source(test):
        return os.path.join(ROOT, "tests", "cuda", f"{test}_test.cpp")

    def headers(self, test):
        text = self.run([self.cxx, *self.flags, "-MM", self.source(test)])
        return {m.group(1) for m in re.finditer(r"src/cuda/(\w+\.h)", text)}

    def tests_for(self, file):
        """The file's own test first."""
        stem = file[:-2]
        return sorted((t for t in TESTS if file in self.depends[t]),
                      key=lambda t: (not t.startswith(stem), TESTS.index(t)))

    def verdict(self, mutant):
        """'caught …', 'survived', or None where the text is no program any more."""
        with open(os.path.join(KERNELS, mutant.file), encoding="utf-8") as f:
            source = f.read()
        name = hashlib.sha1(repr(mutant).encode()).hexdigest()[:16]
        own = os.path.join(self.folder, name)
        os.makedirs(os.path.join(own, "cuda"))
        try:
            with open(os.path.join(own, "cuda", mutant.file), "w", encoding="utf-8") as f:
                f.write(mutant.apply(source))
            for test in self.tests_for(mutant.file):
                result = self.run_test(own, test)
                if result != "survived":
                    return result
            return "survived"
        finally:
            shutil.rmtree(own)

    def run_test(self, overlay, test):
        program = os.path.join(overlay, test)
        # The mutant's folder comes before src.
        done = subprocess.run([self.cxx, "-I", overlay, *self.flags, "-include", self.common,
                               self.source(test), *self.libraries, "-o", program],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            if not re.search(r":\d+: (?:fatal )?error: ", done.stdout):  # the compiler itself came to harm
                raise SystemExit(f"{test}: {done.stdout[-2000:]}")
            return None
        limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        done = subprocess.run([program, "--gtest_brief=1", "--gtest_fail_fast"], preexec_fn=limit, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", check=False)
        if done.returncode == 0:
            return "survived"
        if done.returncode < 0:
            return f"caught by {test}: signal {-done.returncode}"
        said = re.search(r'Which is: "?([^"\n]*)|(The difference[^\n]*|Value of[^\n]*|Expected[^\n]*)', done.stdout)
        words = next((g for g in said.groups() if g), "") if said else done.stdout[-100:]
        return f"caught by {test}: {words[:110]}"


def self_test():
    """The rules find what they are for."""
    text = ("void F() {\n  ptx::SyncThreads();  // i < 2\n  if (i < n && !last) x[i + 1] = seen ? y : ptx::NegInf();\n"
            "  ptx::CpAsyncWait<0>();\n}\n")
    found = {Mutant("", s, e, t, r).apply(text).split("\n")[line].strip()
             for s, e, t, r in rules(code_of(text)) for line in (1, 2, 3)}
    want = (";  // i < 2", ";", "if (i <= n && !last) x[i + 1] = seen ? y : ptx::NegInf();",
            "if (true && !last) x[i + 1] = seen ? y : ptx::NegInf();",
            "if (i < n && true) x[i + 1] = seen ? y : ptx::NegInf();",
            "if (false) x[i + 1] = seen ? y : ptx::NegInf();",
            "if (i < n && !last) x[i + 0] = seen ? y : ptx::NegInf();",
            "if (i < n && !last) x[i + 1] = true ? y : ptx::NegInf();")
    missing = [w for w in want if w not in found]
    if missing:
        raise SystemExit(f"the rules no longer make {missing[0]}")


def main():
    parser = argparse.ArgumentParser(description="mutate the CUDA kernels and run their tests in the emulator")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants, drawn from --seed; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), help="where heed_emu is built")
    parser.add_argument("--gtest", default="/usr/src/googletest", help="GoogleTest's sources")
    parser.add_argument("--cxx", default="g++")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rule", default="", help="only mutants of this rule, such as 'call'")
    parser.add_argument("--list", action="store_true", help="only say which mutants there are")
    parser.add_argument("--verbose", action="store_true", help="say how each was caught")
    parser.add_argument("file", nargs="*", help="only these files of src/cuda")
    args = parser.parse_args()
    self_test()

    harmless, complete = read_harmless()
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(args, folder)
        files = sorted(f for f in set().union(*shop.depends.values()) if not NOT_KERNELS.match(f))
        wanted = args.file or complete
        unknown = [f for f in wanted if f not in files]
        if unknown:
            parser.error(f"no kernel file of that name, or no test includes it: {', '.join(unknown)}")
        left = [f for f in files if f not in complete]
        if left and not args.file:
            print(f"not gone through yet: {', '.join(left)}")
        files = [f for f in files if f in wanted]
        mutants = [m for f in files for m in mutants_of(f) if args.rule in m.rule]
        texts = {f: open(os.path.join(KERNELS, f), encoding="utf-8").read() for f in files}
        keys = name_all(mutants, texts)
        stale = [k for k in harmless if k[0] in files and k not in set(keys.values()) and not args.rule]
        candidates = [m for m in mutants if keys[m] not in harmless]
        if args.sample:
            candidates = random.Random(args.seed).sample(candidates, min(args.sample, len(candidates)))
        print(f"{len(mutants)} mutants of {len(files)} files, {len(mutants) - len([m for m in mutants if keys[m] not in harmless])} "
              f"of them known to be harmless; {len(candidates)} are tried", flush=True)
        if args.list:
            for m in candidates:
                print(f"{m.file}: {keys[m][1]}\n    -> {keys[m][2]}")
            return 0

        started, counts, survivors = time.monotonic(), {}, []
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            for m, verdict in zip(candidates, pool.map(shop.verdict, candidates)):
                kind = "no program" if verdict is None else verdict.split(" ")[0]
                counts[kind] = counts.get(kind, 0) + 1
                if args.verbose:
                    print(f"{m.file}: {keys[m][1]}\n    -> {keys[m][2]}\n    {verdict}", flush=True)
                if kind == "survived":
                    survivors.append(m)
                    print(f"file {m.file}\n- {keys[m][1]}\n+ {keys[m][2]}\n", flush=True)
    print(", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) +
          f" in {time.monotonic() - started:.0f} s")
    for key in stale:
        print(f"mutants_harmless.txt lists a mutant that there is no more: {key[0]}: {key[1]}")
    if survivors:
        print(f"{len(survivors)} survived: either a test must catch them, or mutants_harmless.txt says why not")
    if not counts.get("caught") and not survivors:
        print("no mutant was tried: the rules find nothing any more")
        return 1
    return 1 if survivors or (stale and not args.sample) else 0


if __name__ == "__main__":
    sys.exit(main())
