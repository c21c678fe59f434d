"""`heed check`, `heed bench` and `heed demo`: results, JSON and exit codes. No test looks at a speed."""
import json
import shutil
import unittest

from program import CASES, DATA, FAILED, FILE, REFUSED, ProgramTest, heed, main, read_safetensors, write_safetensors

BENCH_KEYS = ["op", "dtype", "batch", "sq", "sk", "hq", "hk", "d", "dv", "causal", "isa", "backend", "kernel", "threads",
              "seconds_median", "seconds_min", "flops", "gflops_median", "peak_gflops", "fraction_of_peak",
              "workspace_bytes", "visible_pairs", "dense_flops", "bytes", "gbps", "stream_gbps", "fraction_of_stream", "fraction_of_limit"]
STANDARD_KEYS = ["standard_seconds_median", "standard_bytes", "max_abs_difference"]


class Check(ProgramTest):
    def lines(self, run):
        return [json.loads(line) for line in run.stdout.splitlines()]

    def test_cases_of_the_engine(self):
        for dtype in ("f32", "bf16", "f16"):
            text = self.done("check", CASES / "causal_square.safetensors", CASES / "plain_d16.safetensors", "--dtype", dtype)
            lines = text.splitlines()
            self.assertEqual(lines[-1], "2 passed, 0 failed, 0 refused")
            self.assertRegex(lines[0], r"^pass +causal_square +\w+ +worst error \S+ of \S+ at \[[\d, ]+\]$")

    def test_json_lines(self):
        run = heed("check", CASES / "causal_square.safetensors", "--isa", "scalar", "--threads", "2", "--json")
        case, summary = self.lines(run)
        self.assertEqual(list(case), ["case", "status", "reason", "max_error", "bound"])
        self.assertEqual((case["case"], case["status"], case["reason"]), ("causal_square", "pass", ""))
        self.assertLessEqual(case["max_error"], case["bound"])
        self.assertEqual(summary, {"passed": 1, "failed": 0, "refused": 0})

    def test_a_folder_and_gradients_on_the_reference(self):
        run = heed("check", CASES, "--backend", "reference", "--backward", "--json")
        *cases, summary = self.lines(run)
        self.assertEqual(run.returncode, 0, [c for c in cases if c["status"] != "pass"])
        self.assertEqual(summary, {"passed": len(list(CASES.glob("*.safetensors"))), "failed": 0, "refused": 0})

    def test_no_case_is_refused_by_the_engine(self):
        for dtype in ("f32", "bf16", "f16"):
            run = heed("check", CASES, "--backend", "cpu", "--backward", "--dtype", dtype, "--json")
            *cases, summary = self.lines(run)
            self.assertEqual(run.returncode, 0, [c for c in cases if c["status"] != "pass"])
            self.assertEqual((summary["failed"], summary["refused"]), (0, 0))

    def test_a_wrong_result_fails(self):
        tensors = read_safetensors(CASES / "causal_square.safetensors")
        kind, shape, data = tensors["out"]
        tensors["out"] = (kind, shape, data[:40] + b"\x00\x00\x80\x3f" + data[44:])
        raw = (CASES / "causal_square.safetensors").read_bytes()
        metadata = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
        write_safetensors(self.scratch / "wrong.safetensors", tensors, metadata)
        run = heed("check", self.scratch / "wrong.safetensors")
        self.assertEqual(run.returncode, FAILED)
        self.assertRegex(run.stdout, r"(?m)^fail .* worst error 1?\S+ of .* at \[0, 0, 0, 10\]")
        self.assertTrue(run.stdout.endswith("0 passed, 1 failed, 0 refused\n"))

    def test_a_file_that_is_no_case_fails(self):
        (self.scratch / "text.safetensors").write_text("not a tensor")
        run = heed("check", self.scratch / "text.safetensors", "--json")
        self.assertEqual((run.returncode, self.lines(run)[-1]["failed"]), (FAILED, 1))

    def test_nothing_to_check(self):
        self.fails(FILE, "check", self.scratch / "missing.safetensors")
        self.fails(FILE, "check", self.scratch)  # no case in it
        self.fails(REFUSED, "check", CASES, "--isa", "quantum")
        self.fails(REFUSED, "check", CASES, "--backend", "abacus")


class Bench(ProgramTest):
    def test_json(self):
        got = self.json("bench", "--sq", 200, "--sk", 300, "--heads", 4, "--kv-heads", 2, "--d", 32, "--dtype", "bf16",
                        "--causal", "--batch", 2, "--threads", 1, "--seconds", 0.02)
        self.assertEqual(list(got), BENCH_KEYS)
        self.assertEqual([got[k] for k in BENCH_KEYS[:10]], ["forward", "bf16", 2, 200, 300, 4, 2, 32, 32, True])
        pairs = 8 * sum(min(300, i + 101) for i in range(200))
        self.assertEqual(got["flops"], pairs * 128)
        self.assertLessEqual(got["seconds_min"], got["seconds_median"])
        self.assertAlmostEqual(got["gflops_median"] * 1e9 * got["seconds_median"], got["flops"], delta=1e-6 * got["flops"])
        self.assertAlmostEqual(got["fraction_of_peak"], got["gflops_median"] / got["peak_gflops"], places=9)

    def test_the_peak_is_a_peak(self):
        for isa in self.json("info")["backends"][0]["isas"]:
            if isa["usable"]:
                got = self.json("bench", "--sq", 256, "--isa", isa["name"], "--threads", 1, "--seconds", 0.05)
                self.assertEqual(got["isa"], isa["name"])
                # A kernel faster than the peak is a fault of the probe (a little is left to a busy machine).
                self.assertLess(got["flops"] / got["seconds_min"] / 1e9, 1.05 * got["peak_gflops"], isa)

    def test_beside_standard_attention(self):
        for args in (("--causal",), ("--dtype", "f16"), ("--window", "20,5"), ("--align", "top-left", "--causal", "--sk", 90),
                     ("--layout", "bhsd", "--heads", 3), ("--sk", 1), ("--layout", "qkv", "--heads", 2)):
            run = heed("bench", "--sq", 130, "--d", 32, *args, "--standard", "--seconds", 0.01, "--json")
            if "OpenBLAS" in run.stderr:
                self.skipTest(run.stderr)
            if "computes no" in run.stderr or "no backend serves" in run.stderr:
                continue
            with self.subTest(args=args):
                self.assertEqual(run.returncode, 0, run.stderr)
                got = json.loads(run.stdout)
                self.assertEqual(list(got), BENCH_KEYS + STANDARD_KEYS)
                self.assertLess(got["max_abs_difference"], 1e-5 if got["dtype"] == "f32" else 1e-2)
                self.assertGreaterEqual(got["standard_bytes"], 4 * 130 * got["sk"])

    def test_text_and_one_shot(self):
        text = self.done("bench", "--sq", 1, "--sk", 16, "--threads", 1, "--one-shot", "--seconds", 0.01)
        self.assertRegex(text, r"time +[\d.]+ \S+ median, .* best of [\d,]+ calls, planning included")
        self.assertIn("of the peak", text)

    def test_backward_by_the_reference(self):
        got = self.json("bench", "--sq", 20, "--d", 8, "--op", "backward", "--backend", "reference", "--seconds", 0)
        self.assertEqual((got["op"], got["fraction_of_peak"]), ("backward", None))

    def test_forward_and_backward_together(self):
        sizes = ("--sq", 20, "--sk", 30, "--d", 8, "--dv", 12, "--backend", "reference", "--seconds", 0)
        both = self.json("bench", *sizes, "--op", "forward+backward")
        self.assertEqual(list(both), BENCH_KEYS)
        self.assertEqual((both["op"], both["flops"]), ("forward+backward", 600 * (8 * 8 + 6 * 12)))
        one, other = (self.json("bench", *sizes, "--op", op) for op in ("forward", "backward"))
        for key in ("flops", "dense_flops"):
            self.assertEqual(both[key], one[key] + other[key])

    def test_backward_beside_standard_attention(self):
        for args in (("--causal", "--heads", 4, "--kv-heads", 2), ("--window", "20,5", "--sk", 90), ("--layout", "qkv")):
            for op in ("backward", "forward+backward"):
                run = heed("bench", "--sq", 70, "--d", 16, *args, "--op", op, "--backend", "reference", "--standard",
                           "--seconds", 0, "--json")
                if "OpenBLAS" in run.stderr:
                    self.skipTest(run.stderr)
                with self.subTest(args=args, op=op):
                    self.assertEqual(run.returncode, 0, run.stderr)
                    got = json.loads(run.stdout)
                    self.assertEqual(list(got), BENCH_KEYS + STANDARD_KEYS)
                    self.assertLess(got["max_abs_difference"], 1e-4)
                    # All heads' probabilities, and one head's gradient of them.
                    self.assertGreaterEqual(got["standard_bytes"], 4 * 70 * got["sk"] * (got["hq"] + 1))

    def test_a_peak_far_below_the_usual_one_is_refused(self):
        call = ("bench", "--sq", 20, "--d", 8, "--threads", 1, "--seconds", 0.01)
        self.assertIn("this machine usually has", self.fails(REFUSED, *call, "--usual-peak", 1e9))
        self.assertGreater(self.json(*call, "--usual-peak", 1e9, "--any-peak")["peak_gflops"], 0)

    def test_every_option_on_the_reference(self):
        """Flops and bytes are those of what is visible, and made-up arrays are ones that Run takes."""
        for args, pairs in (
                (("--sq", 30, "--softcap", 3, "--alibi", "--bias", "1,1,S,S", "--sinks", "--dropout", 0.1), 900),
                (("--sq", 30, "--mask", "causal", "--dtype", "bf16", "--bias", "1,1,1,S", "--bias-dtype", "bf16"), 465),
                (("--sq", 30, "--block-map", "8x8:0"), 0), (("--lengths", "3,9,5x4", "--causal"), 6 + 45 + 4 * 15),
                (("--lengths", "3,9", "--layout", "bhsd"), 90), (("--lengths", "3,9", "--layout", "qkv"), 90),
                (("--sq", 2, "--sk", 30, "--page-size", 8), 60), (("--sq", 2, "--sk", 30, "--page-size", 8, "--layout", "bhsd"), 60),
                (("--cache", "3,20", "--batch", 2, "--sq", 3, "--new", 3, "--batch-idx", "--leftpad", "--rotary", "half",
                  "--rotary-dim", 8, "--rotary-rows", 30, "--dtype", "f16"), None),
                (("--cache", "9,16", "--pages", 3, "--batch", 3, "--sq", 2, "--new", 2, "--lengths", "20,48,7"), 150),
                (("--batch", 2, "--sq", 5, "--key-lengths", "2,5"), 35), (("--batch", 2, "--sq", 5, "--query-offsets"), 50),
                (("--ragged", "20,30", "--batch", 3, "--sq", 20, "--sk", 30), 200),
                (("--lengths", "3,9", "--op", "backward"), 90), (("--sq", 30, "--probs", "--lse"), 900)):
            with self.subTest(args=args):
                got = self.json("bench", *args, "--d", 16, "--backend", "reference", "--seconds", 0)
                if pairs is not None:
                    self.assertEqual(got["visible_pairs"], pairs)
                    self.assertEqual(got["flops"], pairs * (160 if got["op"] == "backward" else 64))

    def test_decode_counts_the_keys_and_values_that_are_read(self):
        row = 2 * 32 * 2 * 4  # two kv heads of 32 floats, k and v
        for args, rows in (((), 300), (("--batch", 3), 900), (("--page-size", 16), 300), (("--lengths", "30,300,9"), 339),
                           (("--v-in-k",), 150), (("--layout", "bhsd"), 300)):
            with self.subTest(args=args):
                got = self.json("bench", "--op", "decode", "--sk", 300, "--heads", 4, "--kv-heads", 2, "--d", 32, *args,
                                "--backend", "reference", "--seconds", 0)
                self.assertEqual((got["op"], got["sq"], got["bytes"]), ("decode", 1, rows * row))
        got = self.json("bench", "--op", "decode", "--kv-total-mb", 8, "--sk", 1024, "--heads", 2, "--threads", 1,
                        "--seconds", 0.02)
        self.assertEqual((got["batch"], got["bytes"]), (8, 2**23))
        self.assertAlmostEqual(got["fraction_of_stream"], got["gbps"] / got["stream_gbps"], places=9)
        self.assertGreater(got["fraction_of_limit"], 0)

    def test_nothing_to_compute(self):
        self.assertEqual(self.json("bench", "--sq", 0, "--seconds", 0.01)["flops"], 0)

    def test_what_it_cannot_do(self):
        self.assertIn("appends", self.fails(REFUSED, "bench", "--cache", "1,20", "--batch", 2, "--new", 1, "--batch-idx",
                                            "--backend", "reference"))
        self.assertIn("free", self.fails(REFUSED, "bench", "--sq", 2_000_000_000))
        self.assertIn("standard attention", self.fails(REFUSED, "bench", "--sq", 20, "--d", 8, "--softcap", 3,
                                                       "--backend", "reference", "--standard", "--seconds", 0))


class Demo(ProgramTest):
    def test_short(self):
        text = self.done("demo", "--tokens", 256)
        self.assertIn("her@11 looks at", text)
        self.assertIn("alice@1", text)
        self.assertRegex(text.splitlines()[-1], r"^verified: the attention of 5 texts .* 256 tokens")

    def test_json(self):
        got = self.json("demo", "--tokens", 128, "--threads", 1, "--isa", "scalar")
        self.assertEqual((len(got["passages"]), got["failed"]), (5, 0))
        self.assertGreaterEqual(got["verified"], 17)
        self.assertEqual([p["tokens"] for p in got["passages"]], [246, 5, 17, 131, 64])

    def test_wrong_data_is_found_out(self):
        tensors = read_safetensors(DATA / "minilm.safetensors")
        raw = (DATA / "minilm.safetensors").read_bytes()
        metadata = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
        kind, shape, data = tensors["o"]
        tensors["o"] = (kind, shape, data[:400] + b"\x00\x00\x80\x3f" + data[404:])
        write_safetensors(self.scratch / "minilm.safetensors", tensors, metadata)
        shutil.copy(DATA / "minilm_varlen.safetensors", self.scratch)
        self.fails(FAILED, "demo", "--data", self.scratch, "--tokens", 64)

    def test_missing_data(self):
        self.fails(FILE, "demo", "--data", self.scratch)
        (self.scratch / "minilm.safetensors").write_bytes(b"nothing")
        self.fails(FILE, "demo", "--data", self.scratch)


if __name__ == "__main__":
    main()
