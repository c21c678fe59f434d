# Which mutants the text of a CUDA kernel has (a barrier or a wait is dropped, a comparison moves by one, a
# term of a test is left out, an index is wrong), and the same text with all of them in it, each behind a
# switch (tests/cuda/mutants.h): a test is compiled once and run once a mutant. For cuda_mutants.py.
# Python's standard library only.
import re
from dataclasses import dataclass


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


def code_of(text):
    """The text with comments, strings, directives and declarations blanked, of the same length."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))
    text = re.sub(r'//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.M)
    text = re.sub(r"\bstatic_assert\([^;]*;|\btemplate <[^\n]*|\busing [^;]*;", blank, text)
    for m in re.finditer(r"\bif constexpr \(", text):
        end = closing(text, m.end())
        text = text[:m.start()] + blank(re.match(r"[^$]*", text[m.start():end])) + text[end:]
    return text


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


def is_choice_of_operands(code, m):
    """a < b ? a : b, or the other one: where they are equal it gives the same."""
    left = trimmed(code, operand_start(code, m.start()), m.start())
    right = trimmed(code, m.end(), operand_end(code, m.end()))
    if code[right[1]:right[1] + 3] != " ? ":
        return False
    first = trimmed(code, right[1] + 3, operand_end(code, right[1] + 3))
    if code[first[1]:first[1] + 3] != " : ":
        return False
    second = trimmed(code, first[1] + 3, operand_end(code, first[1] + 3))
    text = lambda span: code[span[0]:span[1]]
    return {text(left), text(right)} == {text(first), text(second)}


CALLS = re.compile(r"\bptx::(?:Sync\w+|Named\w+|CpAsyncCommit|CpAsyncWait<[^>]*>|Bulk(?:Commit|Wait\w*<\w+>)"
                   r"|Fence\w+|Mbarrier\w+|Wgmma(?:Fence|Commit|Wait<\w+>))\(|\b\w+_?\.(?:Begin|End|Next)\(")
COMPARE = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}


def rules(code):
    """(start, end, replacement, rule), any number of them for one place."""
    for m in CALLS.finditer(code):
        before = code[:m.start()].rstrip()[-1:]
        if before and before in ";{})":  # a statement, or the last part of a for
            yield m.start(), closing(code, m.end()) + 1, "", "a call is dropped"
    for m in re.finditer(r" (<=?|>=?) ", code):
        if not is_choice_of_operands(code, m):
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


def mutants_of(file, source):
    """In the order of the text, each text once."""
    seen, found = set(), []
    for start, end, text, rule in sorted(rules(code_of(source))):
        mutant = Mutant(file, start, end, text, rule)
        changed = mutant.apply(source)
        if changed != source and changed not in seen:
            seen.add(changed)
            found.append(mutant)
    return found


def names_of(mutants, source):
    """(file, line before, line after) of each; equal ones are told apart by ' @2', ' @3' behind the first."""
    names, count = {}, {}
    for m in mutants:
        name = (m.file, *m.lines(source))
        count[name] = count.get(name, 0) + 1
        names[m] = name if count[name] == 1 else (name[0], f"{name[1]} @{count[name]}", name[2])
    return names


# ---------------------------------------------------------------- all in one text

SWITCH = "::heed::mutants::"


def switched(source, numbered):
    """The source with each mutant of {mutant: number} behind its switch, line by line as it was; and those
    that can be none: they overlap others, or are constants."""
    code, edits, spans, left = code_of(source), [], [], []
    for m, n in numbered.items():
        line = source.rfind("\n", 0, m.start) + 1
        if re.search(r"\bconstexpr\b", code[line:m.start]):
            left.append(m)
        elif m.rule == "a call is dropped":
            statement = code[m.end:m.end + 1] == ";"
            end = m.end + 1 if statement else m.end
            spans.append((m.start, end, *((f"{{ if (!{SWITCH}On<{n}>()) ", " }") if statement else
                                          (f"({SWITCH}On<{n}>() ? void() : void(", "))")), m))
        elif m.rule == "a comparison" or m.text == "+":
            kind = "Comparison" if m.rule == "a comparison" else "Xor"
            mark = source[m.start:m.end]
            edits.append((m.start, m.end, f"{mark} {SWITCH}{kind}<{n}>{{}} {mark}", m))
        elif m.text in ("true", "false"):
            start = f"({SWITCH}On<{n}>() || (" if m.text == "true" else f"(!{SWITCH}On<{n}>() && ("
            spans.append((m.start, m.end, start, "))", m))
        else:
            edits.append((m.start, m.end, f"{SWITCH}Pick<{n}>({source[m.start:m.end]}, {m.text})", m))
    inserts, kept = {}, []
    for span in sorted(spans, key=lambda s: (s[0], -s[1])):  # outer ones first
        if any(k[0] < span[0] < k[1] < span[1] for k in kept):
            left.append(span[4])
        else:
            kept.append(span)
    for start, end, before, after, _ in kept:
        inserts.setdefault(start, ["", ""])[1] += before
        inserts.setdefault(end, ["", ""])[0] = after + inserts.setdefault(end, ["", ""])[0]
    for start, end, text, m in edits:
        if any(start < at < end for at in inserts) or any(e[0] == start and e[3] is not m for e in edits):
            left.append(m)
    taken = {e[0]: e for e in edits if e[3] not in left}
    out, at = [], 0
    for place in sorted(set(inserts) | set(taken)):
        out += [source[at:place], *inserts.get(place, ())]
        at = place
        if place in taken:
            out.append(taken[place][2])
            at = taken[place][1]
    return "".join(out) + source[at:], left


def self_test():
    """The rules find what they are for, and the switches stand where they must."""
    text = ("void F() {\n  ptx::SyncThreads();  // i < 2\n  if (i < n && !last) x[i + 1] = seen ? y : ptx::NegInf();\n"
            "  if constexpr (kAsync && kMore) ptx::CpAsyncWait<0>();\n}\n")
    mutants = mutants_of("", text)
    found = {m.apply(text).split("\n")[line].strip() for m in mutants for line in (1, 2, 3)}
    want = (";  // i < 2", "if constexpr (kAsync && kMore) ;", "if (i <= n && !last) x[i + 1] = seen ? y : ptx::NegInf();",
            "if (true && !last) x[i + 1] = seen ? y : ptx::NegInf();",
            "if (i < n && true) x[i + 1] = seen ? y : ptx::NegInf();",
            "if (false) x[i + 1] = seen ? y : ptx::NegInf();",
            "if (i < n && !last) x[i + 0] = seen ? y : ptx::NegInf();",
            "if (i < n && !last) x[i + 1] = true ? y : ptx::NegInf();")
    missing = [w for w in want if w not in found]
    if missing:
        raise SystemExit(f"the rules no longer make {missing[0]}")
    if any(m.rule == "a comparison" for m in mutants_of("", "void F() {\n  m = s(r, c) > m ? s(r, c) : m;\n}\n")):
        raise SystemExit("the larger of two is mutated")
    all_in_one, left = switched(text, {m: n for n, m in enumerate(mutants)})
    want = (f"if ((!{SWITCH}On<3>() && (({SWITCH}On<1>() || (i < {SWITCH}Comparison<2>{{}} < n)) && "
            f"({SWITCH}On<4>() || (!last))))) x[i + {SWITCH}Pick<5>(1, 0)] = ({SWITCH}On<6>() || (seen)) ? y")
    if left or re.sub(r"<\d>", "<>", want) not in re.sub(r"<\d>", "<>", all_in_one):
        raise SystemExit(f"the switches are wrong: {all_in_one}")
