"""`heed attend`: tensors in, attention out; wrong files are refused and old outputs kept."""
import json
import math
import os
import struct
import subprocess
import unittest

from program import (CASES, DATA, FILE, PROGRAM, REFUSED, USAGE, ProgramTest, attention, floats, main, noise, read_npy,
                     read_safetensors, write_npy, write_safetensors)

SQ, SK, D = 13, 17, 8


def qkv(sq=SQ, sk=SK, d=D):
    return noise(sq * d, 1), noise(sk * d, 2), noise(sk * d, 3)


def head_first(tensor):
    """(B, S, H, D) as (B, H, S, D)."""
    kind, (b, s, h, d), data = tensor
    size = len(data) // (b * s * h)
    rows = [data[n * size:(n + 1) * size] for n in range(b * s * h)]
    return kind, [b, h, s, d], b"".join(rows[(x * s + i) * h + y] for x in range(b) for y in range(h) for i in range(s))


class Attend(ProgramTest):
    def close(self, got, expected, within=1e-5):
        self.assertEqual(len(got), len(expected))
        for i, (a, b) in enumerate(zip(got, expected)):
            self.assertLessEqual(abs(a - b), within, f"element {i}")

    def case(self, shape=lambda s: (1, s, 1, D), metadata=None, **more):
        q, k, v = qkv()
        path = self.scratch / "in.safetensors"
        tensors = {"q": ("F32", shape(SQ), floats(q)), "k": ("F32", shape(SK), floats(k)),
                   "v": ("F32", shape(SK), floats(v))}
        write_safetensors(path, tensors | more, metadata)
        return path, self.scratch / "out.safetensors"

    def outputs(self, path, out_shape, lse_shape):
        got = read_safetensors(path)
        self.assertEqual(set(got), {"out", "lse"})
        self.assertEqual(got["out"][:2], ("F32", list(out_shape)))
        self.assertEqual(got["lse"][:2], ("F32", list(lse_shape)))
        return (struct.unpack(f"<{len(got[n][2]) // 4}f", got[n][2]) for n in ("out", "lse"))

    def test_every_rank(self):
        expected, lse = attention(*qkv(), D)
        for shape, out_shape, lse_shape in ((lambda s: (1, s, 1, D), (1, SQ, 1, D), (1, 1, SQ)),
                                            (lambda s: (s, 1, D), (SQ, 1, D), (1, SQ)),
                                            (lambda s: (s, D), (SQ, D), (SQ,))):
            with self.subTest(rank=len(out_shape)):
                source, target = self.case(shape)
                self.assertIn(str(target), self.done("attend", source, target))
                got, got_lse = self.outputs(target, out_shape, lse_shape)
                self.close(got, expected)
                self.close(got_lse, lse)

    def test_options_of_metadata_and_command_line(self):
        causal, _ = attention(*qkv(), D, causal=True)
        full, _ = attention(*qkv(), D)
        for metadata, args, expected in (({"causal": "true", "align": "bottom_right", "window": "[-1, -1]"}, (), causal),
                                         ({"causal": "true", "name": "x", "softcap": "0.0"}, ("--no-causal",), full),
                                         (None, ("--causal",), causal),
                                         ({"scale": "0.3535533905932738"}, ("--isa", "scalar", "--threads", 2), full)):
            with self.subTest(metadata=metadata, args=args):
                source, target = self.case(metadata=metadata)
                self.done("attend", source, target, *args)
                self.close(next(self.outputs(target, (1, SQ, 1, D), (1, 1, SQ))), expected)

    def test_numpy_files_and_layout(self):
        q, k, v = qkv()
        expected, lse = attention(q, k, v, D)
        for name, rows, values in (("q", SQ, q), ("k", SK, k), ("v", SK, v)):
            write_npy(self.scratch / f"{name}.npy", (1, 1, rows, D), values)
        names = [x for n in "qkv" for x in (f"--{n}", self.scratch / f"{n}.npy")]
        answer = self.json("attend", *names, "--out", self.scratch / "o.npy", "--lse", self.scratch / "l.npy",
                           "--layout", "bhsd")
        self.assertEqual((answer["backend"], answer["shape"]), ("cpu", [1, 1, SQ, D]))
        shape, got = read_npy(self.scratch / "o.npy")
        self.assertEqual(shape, (1, 1, SQ, D))
        self.close(got, expected)
        shape, got = read_npy(self.scratch / "l.npy")
        self.assertEqual(shape, (1, 1, SQ))
        self.close(got, lse)

    def test_dtype_converts(self):
        source, target = self.case()
        self.done("attend", source, target, "--dtype", "bf16")
        self.assertEqual(read_safetensors(target)["out"][0], "BF16")

    def test_a_real_model(self):
        target = self.scratch / "out.safetensors"
        self.done("attend", DATA / "minilm.safetensors", target)
        got = read_safetensors(target)["out"][2]
        model = read_safetensors(DATA / "minilm.safetensors")["o"][2]
        self.close(struct.unpack(f"<{len(got) // 4}f", got), struct.unpack(f"<{len(model) // 4}f", model))

    def test_packed_sequences(self):
        target = self.scratch / "out.safetensors"
        self.done("attend", DATA / "minilm_varlen.safetensors", target, "--backend", "reference")
        got = read_safetensors(target)["out"][2]
        model = read_safetensors(DATA / "minilm_varlen.safetensors")["o"][2]
        self.close(struct.unpack(f"<{len(got) // 4}f", got), struct.unpack(f"<{len(model) // 4}f", model))

    def test_arrays_that_options_bring(self):
        mask = ("BOOL", (1, 1, 1, SK), bytes([1] * (SK - 4) + [0] * 4))
        source, target = self.case(mask=mask, sinks=("F32", (1,), floats([-1e30])))
        self.done("attend", source, target, "--backend", "reference")
        q, k, v = qkv()
        expected, _ = attention(q, k[:-4 * D], v[:-4 * D], D)
        self.close(next(self.outputs(target, (1, SQ, 1, D), (1, 1, SQ))), expected)

    def test_no_rows(self):
        path, target = self.scratch / "in.safetensors", self.scratch / "out.safetensors"
        write_safetensors(path, {"q": ("F32", (1, 0, 2, D), b""), "k": ("F32", (1, 3, 2, D), bytes(3 * 2 * D * 4)),
                                 "v": ("F32", (1, 3, 2, D), bytes(3 * 2 * D * 4))})
        self.done("attend", path, target)
        self.assertEqual(read_safetensors(target)["out"][1], [1, 0, 2, D])

    def test_a_pipe_gets_the_file_alone(self):
        source, target = self.case()
        self.done("attend", source, target)
        piped = subprocess.run([PROGRAM, "attend", source, "/dev/stdout"], capture_output=True, check=True)
        self.assertEqual(piped.stdout, target.read_bytes())

    def test_every_conformance_case(self):
        """What the format of the cases knows, attend takes, and out, lse and caches are those that the cases expect."""
        def numbers(tensor):
            return struct.unpack(f"<{len(tensor[2]) // 4}f", tensor[2])

        def near(a, b):
            # lse of a row of lowest floats may be any number below -2e38.
            return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 2e-5 * max(1, abs(b)) or max(a, b) < -2e38

        target, compared = self.scratch / "out.safetensors", 0
        for path in sorted(CASES.glob("*.safetensors")):
            with self.subTest(case=path.stem):
                before = path.read_bytes()
                self.done("attend", path, target, "--backend", "reference")
                case, got = read_safetensors(path), read_safetensors(target)
                self.assertEqual({"k_cache_after", "v_cache_after"} & set(got),
                                 {"k_cache_after", "v_cache_after"} if "k_new" in case else set())
                for name in got.keys() & case.keys():
                    self.assertEqual(got[name][1], case[name][1], name)
                    for i, (a, b) in enumerate(zip(numbers(got[name]), numbers(case[name]))):
                        self.assertTrue(near(a, b), (name, i, a, b))
                    compared += 1
                self.assertEqual(path.read_bytes(), before)
        self.assertGreater(compared, 2 * 69)  # out and lse of each, caches of some

    def test_a_cache_of_either_layout_and_dtype(self):
        target = self.scratch / "out.safetensors"
        case = read_safetensors(CASES / "cache_append_causal.safetensors")
        raw = (CASES / "cache_append_causal.safetensors").read_bytes()
        metadata = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
        self.done("attend", CASES / "cache_append_causal.safetensors", target, "--backend", "reference")
        expected = read_safetensors(target)
        turned = {name: (head_first(tensor) if len(tensor[1]) == 4 else tensor) for name, tensor in case.items()}
        source = self.scratch / "in.safetensors"
        write_safetensors(source, turned, metadata)
        self.done("attend", source, target, "--backend", "reference", "--layout", "bhsd")
        got = read_safetensors(target)
        self.assertEqual(got["out"], head_first(expected["out"]))
        self.assertEqual(got["lse"], expected["lse"])
        self.assertEqual(got["k_cache_after"], head_first(expected["k_cache_after"]))
        self.done("attend", CASES / "cache_append_causal.safetensors", target, "--dtype", "bf16")
        self.assertEqual(read_safetensors(target)["v_cache_after"][0], "BF16")

    # ------------------------------------------------------------------- what goes wrong

    def test_wrong_caches(self):
        good = read_safetensors(CASES / "cache_pages_7_append_window.safetensors")
        path = self.scratch / "in.safetensors"

        def with_(**more):
            return {n: t for n, t in (good | more).items() if t is not None}

        def ints(*values):
            return ("I32", (len(values),), struct.pack(f"<{len(values)}i", *values))

        for name, tensors, code in (
                ("k beside it", with_(k=good["q"]), FILE), ("no q", with_(q=None), FILE), ("no v_cache", with_(v_cache=None), FILE),
                ("no lengths", with_(cache_seqlens=None), FILE), ("too few lengths", with_(cache_seqlens=ints(1)), FILE),
                ("k_new alone", with_(v_new=None), FILE), ("flat q", with_(q=("F32", (len(good["q"][2]) // 4,), good["q"][2])), FILE),
                ("flat table", with_(block_table=ints(*range(6))), FILE), ("new rows of another shape", with_(k_new=good["q"]), FILE),
                ("caches differ", with_(v_cache=good["q"]), FILE), ("a length too long", with_(cache_seqlens=ints(*[1000] * good["q"][1][0])), REFUSED)):
            with self.subTest(file=name):
                write_safetensors(path, tensors, {"layout": "CACHE"})
                self.fails(code, "attend", path, self.scratch / "out.safetensors", "--backend", "reference")
                self.assertFalse((self.scratch / "out.safetensors").exists())
        write_safetensors(path, good, {"layout": "CACHE", "rotary": "half"})
        self.assertIn("rotary", self.fails(FILE, "attend", path, self.scratch / "out.safetensors"))
        write_safetensors(path, good, {"layout": "CACHE", "rotary": "sideways"})
        self.assertIn("rotary", self.fails(FILE, "attend", path, self.scratch / "out.safetensors"))

    def test_wrong_files(self):
        source, target = self.case()
        good = source.read_bytes()
        bad = self.scratch / "bad.safetensors"
        for name, content in (("empty", b""), ("cut", good[:-1]), ("longer", good + b"x"), ("no header", good[:5]),
                              ("huge header", struct.pack("<Q", 2**62) + good[8:]), ("text", b"hello, world, hello"),
                              ("broken JSON", good.replace(b'"dtype"', b'"dtype', 1))):
            with self.subTest(file=name):
                bad.write_bytes(content)
                target.write_bytes(b"the old one")
                self.assertIn(str(bad), self.fails(FILE, "attend", bad, target))
                self.assertEqual(target.read_bytes(), b"the old one")
        self.fails(FILE, "attend", self.scratch / "missing.safetensors", target)
        self.fails(FILE, "attend", self.scratch, target)

    def test_wrong_tensors(self):
        one = ("F32", (1, SQ, 1, D), floats(qkv()[0]))
        for name, tensors, metadata in (
                ("no q", {"k": one, "v": one}, None),
                ("integers", {"q": one, "k": one, "v": ("I32", one[1], one[2])}, None),
                ("types differ", {"q": one, "k": one, "v": ("BF16", (1, SQ, 2, D), one[2])}, None),
                ("ranks differ", {"q": one, "k": ("F32", (SQ, 1, D), one[2]), "v": one}, None),
                ("rank 1", {n: ("F32", (SQ * D,), one[2]) for n in "qkv"}, None),
                ("widths differ", {"q": one, "k": ("F32", (1, SQ * 2, 1, D // 2), one[2]), "v": one}, None),
                ("rows differ", {"q": one, "k": one, "v": ("F32", (1, SQ - 1, 1, D), one[2][:-4 * D])}, None),
                ("no width", {n: ("F32", (1, SQ, 1, 0), b"") for n in "qkv"}, None),
                ("a mask of floats", {"q": one, "k": one, "v": one, "mask": ("F32", (1, 1, 1, 1), floats([1]))}, None),
                ("sinks of another size", {"q": one, "k": one, "v": one, "sinks": ("F32", (9,), floats([1] * 9))}, None),
                ("a cache", {"q": one, "k": one, "v": one, "k_cache": one}, None),
                ("causal: maybe", {"q": one, "k": one, "v": one}, {"causal": "maybe"}),
                ("window: wide", {"q": one, "k": one, "v": one}, {"window": "wide"}),
                ("align: left", {"q": one, "k": one, "v": one}, {"align": "left"})):
            with self.subTest(file=name):
                path = self.scratch / "in.safetensors"
                write_safetensors(path, tensors, metadata)
                self.assertIn("in.safetensors: ", self.fails(FILE, "attend", path, self.scratch / "out.safetensors"))
                self.assertFalse((self.scratch / "out.safetensors").exists())

    def test_wrong_problems_keep_the_old_output(self):
        source, target = self.case()
        target.write_bytes(b"the old one")
        for args in (("--scale", "nan"), ("--isa", "quantum"), ("--backend", "abacus"), ("--softcap", "-3"),
                     ("--query-offset", "2", "--align", "top-left")):
            with self.subTest(args=args):
                self.fails(REFUSED, "attend", source, target, *args)
                self.assertEqual(target.read_bytes(), b"the old one")

    def test_outputs_that_cannot_be_written(self):
        source, _ = self.case()
        self.fails(FILE, "attend", source, self.scratch / "no" / "such" / "folder" / "out.safetensors")
        self.fails(FILE, "attend", source, self.scratch)
        if os.geteuid() != 0:  # root may write anywhere
            self.scratch.chmod(0o500)
            self.fails(FILE, "attend", source, self.scratch / "out.safetensors")
            self.scratch.chmod(0o700)

    def test_wrong_usage(self):
        for args in (("one.safetensors",), ("--q", "q.npy"), ("a.st", "b.st", "--q", "q.npy", "--k", "k", "--v", "v", "--out", "o"),
                     ("a.st", "b.st", "--lse", "l.npy"), ("a.st", "b.st", "--dtype", "f8"), ("a.st", "b.st", "c.st")):
            with self.subTest(args=args):
                self.fails(USAGE, "attend", *args)


if __name__ == "__main__":
    main()
