"""What the tests of the command line share: running the program, tensor files without NumPy. Not here: tests."""
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM = os.environ.get("HEED_PROGRAM", "build/release/cli/heed")
ROOT = Path(os.environ.get("HEED_SOURCE_DIR", Path(__file__).resolve().parents[2]))
CASES = ROOT / "tests" / "data" / "conformance"
DATA = ROOT / "data"

DONE, FAILED, USAGE, REFUSED, FILE, INTERNAL = range(6)


def heed(*args, env=None, **more):
    """Runs the program; the result has returncode, stdout, stderr (text)."""
    merged = {k: v for k, v in os.environ.items() if k != "HEED_ISA"} | (env or {})
    return subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, check=False,
                          env=merged, timeout=300, **more)


class ProgramTest(unittest.TestCase):
    """A scratch folder, and the checks that every command must pass."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.scratch = Path(holder.name)

    def done(self, *args, **more):
        run = heed(*args, **more)
        self.assertEqual(run.returncode, DONE, f"{args}: {run.stderr}")
        self.assertEqual(run.stderr, "", args)  # no progress where stderr is no terminal
        return run.stdout

    def json(self, *args, **more):
        return json.loads(self.done(*args, "--json", **more))

    def fails(self, code, *args, **more):
        """The run ends with that code and one sentence on stderr; returns the sentence."""
        run = heed(*args, **more)
        self.assertEqual(run.returncode, code, f"{args}: {run.stdout}{run.stderr}")
        self.assertRegex(run.stderr, r"\Aheed: [^\n]+\n\Z", args)
        for word in ("terminate called", "what():", "Aborted", "exception"):
            self.assertNotIn(word, run.stderr)
        return run.stderr


# --------------------------------------------------------------------------- .safetensors and .npy

def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


def write_safetensors(path, tensors, metadata=None):
    """tensors: name -> (dtype, shape, bytes)."""
    header, at = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values()))


def read_safetensors(path):
    """name -> (dtype, shape, bytes)."""
    raw = Path(path).read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]])
            for name, t in header.items()}


def write_npy(path, shape, values):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    Path(path).write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + floats(values))


def read_npy(path):
    """(shape, values) of an f4 array."""
    raw = Path(path).read_bytes()
    n = struct.unpack("<H", raw[8:10])[0]
    header = eval(raw[10:10 + n], {"__builtins__": {}})  # a dict literal that the program wrote
    assert header["descr"] == "<f4" and not header["fortran_order"]
    data = raw[10 + n:]
    return header["shape"], list(struct.unpack(f"<{len(data) // 4}f", data))


# --------------------------------------------------------------------------- a small truth

def noise(count, seed):
    """Numbers in [-1, 1) that are the same everywhere."""
    out, state = [], seed
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(state / 2**30 - 1)
    return out


def attention(q, k, v, d, causal=False):
    """One head, lists of rows flattened; returns (out, lse). Bottom-right alignment."""
    sq, sk = len(q) // d, len(k) // d
    out, lse = [], []
    for i in range(sq):
        s = [sum(a * b for a, b in zip(q[i * d:i * d + d], k[j * d:j * d + d])) / math.sqrt(d)
             if not causal or j <= i + sk - sq else -math.inf for j in range(sk)]
        most = max(s)
        p = [math.exp(x - most) for x in s]
        total = sum(p)
        out += [sum(p[j] * v[j * d + e] for j in range(sk)) / total for e in range(d)]
        lse.append(most + math.log(total))
    return out, lse


def main():
    sys.dont_write_bytecode = True
    unittest.main(verbosity=1)
