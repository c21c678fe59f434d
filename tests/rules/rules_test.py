#!/usr/bin/env python3
# Checks the rules of rules.py over every file of the project, then proves on a planted tree that
# each rule can fail. Usage: rules_test.py [ROOT]. Python's standard library only.
import os
import re
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rules import (CODE, FORBIDDEN, INCLUDES, MAX_LINES, MEDIAN_LINES, SKIP, STD)

STD_HEADERS = set("""
algorithm any array atomic barrier bit bitset cassert cctype cerrno cfenv cfloat charconv chrono
cinttypes climits clocale cmath codecvt compare complex concepts condition_variable coroutine
csetjmp csignal cstdarg cstddef cstdint cstdio cstdlib cstring ctime cuchar cwchar cwctype deque
exception execution filesystem format forward_list fstream functional future initializer_list
iomanip ios iosfwd iostream istream iterator latch limits list locale map memory memory_resource
mutex new numbers numeric optional ostream queue random ranges ratio regex scoped_allocator
semaphore set shared_mutex source_location span sstream stack stdexcept stop_token streambuf string
string_view strstream syncstream system_error thread tuple type_traits typeindex typeinfo
unordered_map unordered_set utility valarray variant vector version
""".split())

SIZED = r"\.(h|hpp|inc|cpp|cu|cuh|def|py|sh|cmake)$|(^|/)(CMakeLists\.txt|Makefile)$"


def list_files(root):
    """Tracked and new files that git does not ignore; without git, all but hidden and build."""
    git = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"],
                         capture_output=True, check=False)
    top = subprocess.run(["git", "-C", root, "rev-parse", "--show-toplevel"],
                         capture_output=True, text=True, check=False)
    if git.returncode == 0 and os.path.realpath(top.stdout.strip()) == os.path.realpath(root):
        names = [n for n in git.stdout.decode().split("\0") if n]
        return sorted(n for n in set(names) if os.path.isfile(os.path.join(root, n)))
    names = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in ("build", "__pycache__", ".git", ".venv")]
        names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return sorted(names)


def read(root, name):
    with open(os.path.join(root, name), "rb") as f:
        data = f.read()
    return None if b"\0" in data else data.decode("utf-8", "replace")


def code_of(text):
    """C++ without comments, and with empty strings; line numbers and #include lines are kept."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
                       r"|(?<![\w])'(?:\\.|[^'\\\n])+'", re.S)

    def blank(m):
        t = m.group(0)
        if t.startswith('"') and re.search(r"#\s*include\s*$", text[max(0, m.start() - 20):m.start()]):
            return t
        return ('""' if t[0] in '"R' else " ") + "\n" * t.count("\n")
    return token.sub(blank, text)


def includes_of(code):
    for number, line in enumerate(code.split("\n"), 1):
        m = re.match(r'\s*#\s*include\s*(<[^>]+>|"[^"]+")', line)
        if m:
            yield number, m.group(1)


def may_include(header, allow):
    if header.startswith("<") and header[1:-1] in STD_HEADERS and STD in allow:
        return True
    bare = header[1:-1]
    return any(re.fullmatch(p, header if p.startswith("<") else bare) for p in allow if p != STD)


def applies(rule, name):
    return re.search(rule.where, name) and not (rule.but and re.search(rule.but, name))


def check_text(name, text):
    """Violations of one file, as (rule name, 'file:line: what')."""
    code = code_of(text) if re.search(CODE, name) else None
    if code is not None:
        for rule in INCLUDES:
            if applies(rule, name):
                for number, header in includes_of(code):
                    if not may_include(header, rule.allow):
                        yield rule.name, f"{name}:{number}: includes {header}"
    for rule in FORBIDDEN:
        body = text if rule.text else code
        if body is None or not applies(rule, name):
            continue
        for number, line in enumerate(body.split("\n"), 1):
            m = re.search(rule.words, line)
            if m:
                yield rule.name, f"{name}:{number}: has '{m.group(0).strip()}'"


def check_first_line(name, text):
    """A file's first line says what it holds; an example is shown to readers as it stands."""
    if name.startswith("examples/"):
        return
    if re.search(CODE + r"|\.(py|sh|cmake)$|(^|/)(CMakeLists\.txt|Makefile)$", name):
        lines = text.split("\n")
        first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
        if not re.match(r'(//|/\*|#|""")\s*\S', first) or first.startswith("#include"):
            yield "the first line says what a file holds", f"{name}:1: starts with '{first[:40]}'"


def check_map(root, files):
    """CONTRIBUTING's directory map names existing paths, and every folder worth a name."""
    rule = "the directory map is true"
    text = read(root, "CONTRIBUTING.md") if "CONTRIBUTING.md" in files else ""
    block = re.search(r"## Directory map.*?```\w*\n(.*?)```", text, re.S)
    if not block:
        yield rule, "CONTRIBUTING.md has no '## Directory map' with a block of paths"
        return
    paths = {line.split()[0].rstrip("/") for line in block.group(1).split("\n")
             if line.strip() and not line.startswith(" ")}
    for path in sorted(paths):
        if not os.path.exists(os.path.join(root, path)):
            yield rule, f"CONTRIBUTING.md names {path}, which does not exist"
    wanted = {f.split("/")[0] for f in files if "/" in f}
    wanted |= {"/".join(f.split("/")[:2]) for f in files if re.match(r"src/[^/]+/", f)}
    for path in sorted(wanted - paths):
        yield rule, f"CONTRIBUTING.md does not name {path}"


def check_sizes(sizes):
    for name, lines in sorted(sizes.items()):
        if lines > MAX_LINES:
            yield "files are short", f"{name}: {lines} lines, at most {MAX_LINES}"
    if sizes and statistics.median(sizes.values()) > MEDIAN_LINES:
        yield "files are short", f"median {statistics.median(sizes.values())} > {MEDIAN_LINES} lines"


def check_tree(root):
    files = list_files(root)
    sizes = {}
    yield from check_map(root, files)
    for name in files:
        if re.search(SKIP, name):
            continue
        text = read(root, name)
        if text is None:
            continue
        yield from check_text(name, text)
        yield from check_first_line(name, text)
        if re.search(SIZED, name):
            sizes[name] = text.count("\n")
    yield from check_sizes(sizes)


def plant(root, path, text):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as f:
        f.write(text)


def self_test():
    """Each rule sees its planted violation, and a clean tree has none."""
    failures = []
    contributing = "## Directory map\n```\n{}```\n"
    with tempfile.TemporaryDirectory() as root:
        plant(root, "CONTRIBUTING.md", contributing.format("src/   rooms\nsrc/cpu/   lanes\n"))
        plant(root, "src/cpu/tiles.h",
              '// a kernel: no _mm512_ in comments counts\n#include "lanes/avx2.h"\n'
              'const char* s = "asm new";\nint separated = 1\'000;\n')
        failures += [f"clean tree: {v}" for v in check_tree(root)]
    for rule in INCLUDES + FORBIDDEN:
        path, text = rule.sample
        with tempfile.TemporaryDirectory() as root:
            plant(root, path, "// planted\n" + text + "\n")
            if not any(r == rule.name for r, _ in check_tree(root)):
                failures.append(f"rule '{rule.name}' did not see its sample in {path}")
    planted = {
        "files are short": ("src/cpu/long.h", "// planted\n" * (MAX_LINES + 1)),
        "the first line says what a file holds": ("src/cpu/a.h", "#include <cstdint>\n"),
        "the directory map is true": ("CONTRIBUTING.md", contributing.format("gone/   nothing\n")),
    }
    for rule, (path, text) in planted.items():
        with tempfile.TemporaryDirectory() as root:
            plant(root, path, text)
            plant(root, "new_room/a.txt", "x\n")
            seen = [v for r, v in check_tree(root) if r == rule]
            if not seen or (path == "CONTRIBUTING.md" and len(seen) != 2):
                failures.append(f"rule '{rule}' did not see its sample")
    return failures


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(here))
    broken = [f"[{rule}] {what}" for rule, what in check_tree(root)] + self_test()
    for line in broken:
        print(line)
    print(f"rules: {len(INCLUDES) + len(FORBIDDEN) + 3} rules, {len(broken)} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
