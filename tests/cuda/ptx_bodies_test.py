#!/usr/bin/env python3
# The two bodies of the ptx layer declare the same functions with the same parameters, file by file, and
# the conformance kernel has a line for each that a kernel calls.
# Usage: ptx_bodies_test.py ROOT. Python's standard library only.
import glob
import os
import re
import sys


FUNCTION = re.compile(r"HEED_DEVICE\s+[\w:]+\s+(\w+)(?:<[^>]*>)?\(([^{;]*?)\)\s*(?:\{|= delete)", re.S)


def signatures(path):
    """{name: its parameter lists}, of what is not in an inner namespace."""
    with open(path, encoding="utf-8") as f:
        text = re.sub(r"//[^\n]*", "", f.read())
    text = re.sub(r"^namespace detail \{.*?^\}", "", text, flags=re.S | re.M)
    found = {}
    for name, parameters in FUNCTION.findall(text):
        # The emulated body has the call's place behind the last parameter, named `at` too.
        types = re.sub(r",?\s*HEED_AT", "", parameters)
        types = re.sub(r"\s+", " ", types).replace("coordinates", "at").strip()
        found.setdefault(name, set()).add(types)
    return found


def headers(folder):
    return {n for n in os.listdir(folder) if n.endswith(".h") and n != "base.h"}


def calls(paths):
    found = set()
    for path in paths:
        with open(path, encoding="utf-8") as f:
            found |= set(re.findall(r"\bptx::(\w+)(?:<[^;()]*>)?\(", re.sub(r"//[^\n]*", "", f.read())))
    return found


# A share of registers has no value that could be compared.
WITHOUT_VALUE = {"SetMaxRegDec", "SetMaxRegInc"}


def main():
    room = os.path.join(sys.argv[1], "src", "cuda", "ptx")
    device, emulated = os.path.join(room, "device"), os.path.join(room, "emulated")
    problems = [f"{n} exists in one body alone" for n in headers(device) ^ headers(emulated)]
    compared = 0
    for name in sorted(headers(device) & headers(emulated)):
        a = signatures(os.path.join(device, name))
        b = signatures(os.path.join(emulated, name))
        for function in sorted(set(a) ^ set(b)):
            body = "device" if function in a else "emulated"
            problems.append(f"{name}: {function} is in the {body} body alone")
        for function in sorted(set(a) & set(b)):
            compared += 1
            # Specialisations repeat a template's parameters with its arguments filled in.
            single = len(a[function]) == len(b[function]) == 1
            if single and a[function] != b[function]:
                problems.append(f"{name}: {function}({a[function]}) and ({b[function]})")
    tests = os.path.join(sys.argv[1], "tests", "cuda")
    kernels = glob.glob(os.path.join(room, "..", "*.h")) + glob.glob(os.path.join(tests, "hopper_*ward.h"))
    used = calls(kernels) - WITHOUT_VALUE
    problems += [f"kernels call {name}, and the conformance kernel (tests/cuda/conformance*.h) does not"
                 for name in sorted(used - calls(glob.glob(os.path.join(tests, "conformance*.h"))))]
    if len(used) < 40:
        problems.append(f"kernels call only {len(used)} functions: the pattern no longer matches")
    if compared < 50:
        problems.append(f"only {compared} functions were compared: the pattern no longer matches")
    print("\n".join(problems) or f"{compared} functions, the same in both bodies; {len(used)} are called by kernels")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
