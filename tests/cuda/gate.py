#!/usr/bin/env python3
# The compile gate: every row of kernels.def goes through nvcc for its architectures, and what ptxas
# says of registers, spills, stack and shared memory must be what was planned; the PTX must hold the
# instructions meant. Usage: gate.py [--quick] ROOT [ROW...]; quick: every twelfth row, for its own
# architecture alone. Without nvcc (PATH or HEED_NVCC) it exits with 77 behind its self-test. Python's standard
# library only.
import concurrent.futures
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

SKIPPED = 77
REGISTERS = 65536  # of a multiprocessor, on every architecture so far
# Bytes of shared memory of a multiprocessor, of a block at most, and kept back from each block: of
# the architecture that a row names, which is the plan's.
SHARED = {75: (65536, 65536, 0), 80: (167936, 166912, 1024)}
TARGETS = {75: (75,), 80: (80, 90)}
ELEMENT = {"F16": 2, "Bf16": 2, "F32": 4}


@dataclass(frozen=True)
class Row:
    op: str
    arch: int
    type: str
    dim: int
    rows: int
    keys: int
    warps: int
    blocks: int
    terms: str

    @property
    def name(self):
        return f"{self.op}_{self.arch}_{self.type}_{self.dim}_{self.rows}x{self.keys}_{self.terms}"

    @property
    def of_backward(self):
        return self.op.startswith(("queries", "keys", "bias"))

    @property
    def shared(self):  # as ForwardShared and BackwardShared in config.h say
        size, facts = ELEMENT[self.type], 56 if self.terms == "general" else 8
        stage = 4 * self.rows * self.keys if size == 4 else 0
        if self.op.startswith("forward"):
            return size * self.dim * (self.rows + 2 * self.keys) + stage + self.rows * facts
        if self.of_backward:
            return 2 * size * self.dim * (self.rows + self.keys) + stage + self.rows * (facts + 16)
        return 0

    def source(self):
        config = (f"Config<{self.type}, {self.arch * 10}, {self.dim}, {self.rows}, {self.keys}, {self.warps}, "
                  f"TermKind::{self.terms}>")
        # As wrappers.h has it.
        return (f'#include "cuda/kernels.h"\nusing namespace heed::cuda;\n'
                f"static_assert({self.shared} == 0 || {self.shared} == "
                f"{'Backward' if self.of_backward else 'Forward'}Shared(sizeof({self.type}), "
                f"{self.dim}, {self.rows}, {self.keys}, {str(self.terms == 'general').lower()}));\n"
                f'extern "C" __global__ void __launch_bounds__({32 * self.warps}, {self.blocks})\n'
                f"    {self.name}(const __grid_constant__ CallOf<Kernel::{self.op}> call) {{\n"
                f"  Body<Kernel::{self.op}, {config}>(call);\n}}\n")


def rows_of(root):
    with open(os.path.join(root, "src/cuda/kernels.def"), encoding="utf-8") as f:
        text = re.sub(r"//[^\n]*", "", f.read())
    calls = re.findall(r"HEED_CUDA_KERNEL\(([^)]*)\)", text)
    rows = []
    for call in calls:
        op, arch, kind, dim, rows_, keys, warps, blocks, terms = (a.strip() for a in call.split(","))
        rows.append(Row(op, int(arch), kind, int(dim), int(rows_), int(keys), int(warps), int(blocks), terms))
    return rows


@dataclass
class Report:
    """What ptxas says of one kernel for one target."""
    registers: int = -1
    stack: int = -1
    spills: int = 0
    shared: int = 0
    warnings: list = field(default_factory=list)


def reports_of(log):
    """{(kernel, target): Report} of ptxas -v."""
    found, now = {}, None
    for line in log.split("\n"):
        m = re.search(r"Compiling entry function '(\w+)' for 'sm_(\d+)a?'", line)
        if m:
            now = found.setdefault((m.group(1), int(m.group(2))), Report())
        if now is None:
            continue
        m = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)
        if m:
            now.stack, now.spills = int(m.group(1)), int(m.group(2)) + int(m.group(3))
        m = re.search(r"Used (\d+) registers", line)
        if m:
            now.registers = int(m.group(1))
            m = re.search(r"(\d+) bytes smem", line)
            now.shared = int(m.group(1)) if m else 0
        if re.search(r"warning|\bC75\d\d\b", line):
            now.warnings.append(line.strip())
    return found


def judge(row, target, report, allowed):
    """Problems of one compiled row, as sentences."""
    where = f"{row.name} for sm_{target}"
    if report is None or report.registers < 0 or report.stack < 0:
        return [f"{where}: ptxas says nothing of it"]
    spills = allowed.get((row.name, target), 0)
    problems = []
    if report.spills > spills:
        problems.append(f"{where} spills {report.spills} bytes, {spills} are allowed")
    # What is spilled lies in the stack frame; anything more is an array that is indexed at run time.
    if report.stack > 0 and report.spills == 0:
        problems.append(f"{where} has a stack frame of {report.stack} bytes: an array that is no registers")
    each = -(-report.registers // 8) * 8 * 32 * row.warps
    if each * row.blocks > REGISTERS:
        problems.append(f"{where} takes {report.registers} registers, {each} a block: {row.blocks} blocks do not fit")
    if report.shared > 0:
        problems.append(f"{where} has {report.shared} bytes of static shared memory")
    # In f32 one row serves every architecture: where there is less shared memory, fewer blocks fit.
    total, _, kept = SHARED[80 if row.type == "F32" else row.arch]
    if row.shared > SHARED[row.arch][1] or (row.shared + kept) * row.blocks > total:
        problems.append(f"{where} takes {row.shared} bytes of shared memory: {row.blocks} blocks do not fit")
    return problems + [f"{where}: {w}" for w in report.warnings]


def instructions(row, ptx):
    """What is missing from the PTX of a row, or should not be there."""
    kind = {"F16": "f16", "Bf16": "bf16"}.get(row.type)
    wants, bans = [], [r"\bld\.local|\bst\.local"]
    if row.op.endswith("_mma"):
        k = 16 if row.arch >= 80 else 8
        wants = [rf"mma\.sync\.aligned\.m16n8k{k}\.row\.col\.f32\.{kind}\.{kind}\.f32",
                 r"ldmatrix\.sync\.aligned\.m8n8\.x4\.shared", r"ex2\.approx\.ftz\.f32"]
        if row.op != "bias_mma":  # which multiplies nothing by what came out
            wants.append(r"ldmatrix\.sync\.aligned\.m8n8\.x4\.trans")
        (wants if row.arch >= 80 else bans).append(r"cp\.async\.cg\.shared\.global")
    if row.op.endswith("_fma"):
        wants, bans = [r"fma\.rn\.f32", r"ex2\.approx\.ftz\.f32"], bans + [r"mma\.sync"]
    if row.op == "append":  # rotary: products that are rounded, as on a CPU
        wants, bans = [r"mul\.rn\.f32", r"add\.rn\.f32"], bans + [r"fma\.rn\.f32"]
    return ([f"{row.name}: its PTX lacks {w}" for w in wants if not re.search(w, ptx)] +
            [f"{row.name}: its PTX has {b}" for b in bans if re.search(b, ptx)])


def read_allowed(root):
    """{(row, target): bytes} of gate_allowed.txt: 'row sm_NN bytes  reason'."""
    allowed = {}
    with open(os.path.join(root, "tests/cuda/gate_allowed.txt"), encoding="utf-8") as f:
        for line in f:
            words = line.split()
            if words and not line.startswith("#"):
                if len(words) < 4:
                    raise SystemExit(f"gate_allowed.txt: '{line.strip()}' has no reason")
                allowed[words[0], int(words[1].removeprefix("sm_"))] = int(words[2])
    return allowed


def compile_row(nvcc, root, row, folder):
    """(row, log, ptx); ptx None where nvcc failed."""
    own = os.path.join(folder, row.name)
    os.makedirs(own)
    source = os.path.join(own, "row.cu")
    with open(source, "w", encoding="utf-8") as f:
        f.write(row.source())
    targets = []
    for i, target in enumerate(TARGETS[row.arch]):
        code = f"[sm_{target},compute_{target}]" if i == 0 else f"sm_{target}"
        targets += ["-gencode", f"arch=compute_{target},code={code}"]
    done = subprocess.run([nvcc, "-std=c++20", "-O3", "-Xptxas", "-v", *targets, "--keep", "--keep-dir", own,
                           "-I", os.path.join(root, "src"), "-I", os.path.join(root, "include"), "-c", source,
                           "-o", os.path.join(own, "row.o")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    ptx = None
    if done.returncode == 0:
        names = [n for n in os.listdir(own) if n.endswith(".ptx") and f"compute_{TARGETS[row.arch][0]}" in n]
        names = names or [n for n in os.listdir(own) if n.endswith(".ptx")]
        with open(os.path.join(own, names[0]), encoding="utf-8") as f:
            ptx = f.read()
    shutil.rmtree(own)
    return row, done.stdout, ptx


def self_test():
    """Each check must be able to fail."""
    row = Row("forward_mma", 80, "F16", 128, 128, 64, 4, 2, "plain")
    head = f"ptxas info    : Compiling entry function '{row.name}' for 'sm_80'\n"

    def verdict(text, allowed=()):
        return judge(row, 80, reports_of(head + text).get((row.name, 80)), dict(allowed))
    fine = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info : Used 255 registers, 1 barriers"
    spilled = fine.replace("0 bytes stack frame, 0 bytes spill s", "8 bytes stack frame, 8 bytes spill s")
    cases = (("clean", verdict(fine), 0), ("spills", verdict(spilled), 1),
             ("allowed spills", verdict(spilled, {(row.name, 80): 8}.items()), 0),
             ("a stack frame", verdict(fine.replace("0 bytes stack", "64 bytes stack")), 1),
             ("registers", verdict(fine.replace("255", "257")), 1),
             ("static shared memory", verdict(fine.replace(", 1 barriers", ", 1 barriers, 48 bytes smem")), 1),
             ("nothing said", verdict(""), 1),
             ("shared memory", judge(Row("forward_mma", 80, "F16", 256, 128, 64, 4, 2, "plain"), 80,
                                     reports_of(head + fine)[row.name, 80], {}), 1),
             ("no mma in the PTX", instructions(row, "ldmatrix"), 5),
             ("a fused product in rotary", instructions(Row("append", 75, "F16", 1024, 0, 0, 4, 1, "general"),
                                                        "mul.rn.f32 add.rn.f32 fma.rn.f32"), 1))
    wrong = [f"self-test '{name}': {len(found)} problems, not {want}: {found}"
             for name, found, want in cases if len(found) != want]
    return wrong


def main():
    arguments = [a for a in sys.argv[1:] if a != "--quick"]
    root, chosen = os.path.abspath(arguments[0]), arguments[1:]
    if "--quick" in sys.argv:
        for arch in TARGETS:
            TARGETS[arch] = TARGETS[arch][:1]
    rows = rows_of(root)
    problems = self_test()
    if len(rows) < 20 or len({r.name for r in rows}) != len(rows):
        problems.append(f"kernels.def: {len(rows)} rows were read, or two have one name")
    allowed = read_allowed(root)
    for name, _ in allowed:
        if name not in {r.name for r in rows}:
            problems.append(f"gate_allowed.txt names {name}, which kernels.def does not have")
    if problems:
        print("\n".join(problems))
        return 1
    nvcc = os.environ.get("HEED_NVCC") or shutil.which("nvcc")
    if not nvcc:
        print("skipped: no nvcc on PATH or in HEED_NVCC; the gate's own checks passed")
        return SKIPPED

    rows = [r for r in rows if not chosen or r.name in chosen]
    if "--quick" in sys.argv:
        rows = rows[::12]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for row, log, ptx in pool.map(lambda r: compile_row(nvcc, root, r, folder), rows):
            if ptx is None:
                problems.append(f"{row.name}: nvcc fails:\n{log[-3000:]}")
                continue
            found = reports_of(log)
            for target in TARGETS[row.arch]:
                report = found.get((row.name, target))
                problems += judge(row, target, report, allowed)
                if report:
                    print(f"{row.name:44} sm_{target}  {report.registers:3} registers  "
                          f"{report.spills:4} B spilled  {row.shared:6} B shared", flush=True)
            problems += instructions(row, ptx)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{len(rows)} rows compiled in {used.ru_utime + used.ru_stime:.0f} s of one core, "
          f"{time.monotonic() - started:.0f} s in all")
    print("\n".join(problems) or "as planned")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
