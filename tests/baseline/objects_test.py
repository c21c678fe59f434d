#!/usr/bin/env python3
# Looks into the object files: baseline objects hold no AVX instruction; kernel objects define no
# symbol that a linker could merge with one of another instruction set, and call nothing but a few C
# functions.
# Usage: objects_test.py OBJECTS NM OBJDUMP. Python's standard library only.
import re
import subprocess
import sys

# VEX and EVEX instructions all begin with v; the few others that do are never emitted by a compiler.
AVX = re.compile(r"\t(v[a-z0-9]+|k(mov|and|or|xor|not|ortest|test|unpck|shift|add)\w*)\s|%[yz]mm|%k[1-7]"
                 r"|%xmm(1[6-9]|2\d|3[01])\b")

# Functions that a compiler may call on its own account, and the mathematics of the scalar kernels.
MAY_CALL = re.compile(r"^(mem(cpy|move|set|cmp)|__mem\w+_chk|(exp2?|log2?|ldexp|nearbyint|rint|floor|"
                      r"scalbn|fma|tanh|sqrt|fmax|fmin|lrint|round|ceil|trunc)f?"
                      r"|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_)$")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def avx_in(objdump, path):
    """The first AVX instruction in each function of an object."""
    function, found = "?", {}
    for line in run(objdump, "-d", "-C", "--no-show-raw-insn", path).split("\n"):
        head = re.match(r"[0-9a-f]+ <(.*)>:", line)
        if head:
            function = head.group(1)
        elif function not in found and AVX.search(line):
            found[function] = line.split("\t", 1)[-1].strip()
    return [f"{path}: {f}: {i}" for f, i in found.items()]


def mergeable_in(nm, isa, path):
    """Weak, unique and common symbols that a kernel object defines outside its own namespace. In
    heed::cpu::<isa> every definition has the flags of that instruction set: merging is harmless."""
    # Mangled: [guard or table of] [local of] nested name heed::cpu::<isa>::
    own = re.compile(rf"_Z(GV|T[VISh])?Z*N[KVRO]*4heed(3cpu|5bench){len(isa)}{isa}")
    rows = [line.split() for line in run(nm, "--defined-only", path).split("\n")]
    return [f"{path}: {r[1]} {r[2]}" for r in rows
            if len(r) == 3 and r[1] in "WwVvuCc" and not own.match(r[2])]


def calls_in(nm, path):
    """Undefined symbols of a kernel object beyond the few it may use."""
    rows = [line.split(maxsplit=1) for line in run(nm, "-C", "--undefined-only", path).split("\n")]
    return [f"{path}: needs {r[1]}" for r in rows if len(r) == 2 and not MAY_CALL.match(r[1])]


def main():
    listing, nm, objdump = sys.argv[1:4]
    with open(listing, encoding="utf-8") as f:
        objects = [line.split() for line in f if len(line.split()) == 2]
    x86 = "x86-64" in run(objdump, "-f", objects[0][1])
    broken, with_avx = [], set()
    for kind, path in objects:
        avx = avx_in(objdump, path) if x86 else []
        if kind == "baseline":
            broken += avx
            continue
        broken += mergeable_in(nm, kind, path) + calls_in(nm, path)
        if kind == "scalar":
            broken += avx
        elif avx:
            with_avx.add(kind)
    # A test that cannot see AVX where it is proves nothing where it is not.
    blind = {kind for kind, _ in objects if kind.startswith("avx")} - with_avx
    if x86 and (blind or not with_avx):
        broken.append(f"no AVX instruction seen in the kernels of {blind or 'any instruction set'}")
    print("\n".join(broken))
    baseline = sum(kind == "baseline" for kind, _ in objects)
    print(f"objects: {len(objects) - baseline} kernel, {baseline} baseline, {len(broken)} findings")
    return 1 if broken or not baseline else 0


if __name__ == "__main__":
    sys.exit(main())
