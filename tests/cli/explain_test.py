"""`heed info` and `heed explain`: what they say, for people and for programs."""
import json
import unittest
import xml.etree.ElementTree

from program import FILE, REFUSED, ProgramTest, heed, main

PLAN_KEYS = {"status", "problem", "backend", "isa", "arch", "kernel", "threads", "tile_rows", "tile_keys", "block_rows",
             "block_keys", "items", "launches", "block_threads", "block_shared_bytes", "blocks_at_once", "counts_from", "tiles_full", "tiles_edge", "tiles_empty", "visible_pairs", "flops", "dense_flops",
             "bytes", "bytes_min", "bytes_moved", "bytes_standard", "limit", "peak_gflops", "seconds_at_peak",
             "expected_seconds", "expected_limit", "assumes", "stream_gbps", "seconds_at_stream", "workspace_bytes",
             "workspace_formula", "besides", "refused"}


class Info(ProgramTest):
    def test_json(self):
        info = self.json("info")
        self.assertRegex(info["version"], r"^\d+\.\d+\.\d+")
        self.assertTrue(info["build"]["compiler"])
        self.assertTrue(info["build"]["type"])
        self.assertGreaterEqual(info["threads"], 1)
        backends = {b["name"]: b for b in info["backends"]}
        self.assertTrue(backends["cpu"]["available"])
        self.assertFalse(backends["reference"]["automatic"])
        isas = {i["name"]: i for i in backends["cpu"]["isas"]}
        self.assertTrue(isas["scalar"]["usable"])
        for isa in isas.values():
            self.assertEqual(isa["usable"], isa["reason"] == "", isa)

    def test_text_says_the_same(self):
        info, text = self.json("info"), self.done("info")
        for backend in info["backends"]:
            self.assertIn(backend["name"], text)
            for isa in backend["isas"]:
                self.assertIn(isa["name"], text)
        self.assertIn("HEED_ISA", self.done("info", env={"HEED_ISA": "scalar"}))


class Explain(ProgramTest):
    def test_json_has_every_fact_of_the_plan(self):
        plan = self.json("explain", "--sq", 1000, "--heads", 8, "--kv-heads", 2, "--d", 64, "--causal")
        self.assertEqual(set(plan), PLAN_KEYS)
        self.assertEqual(plan["backend"], "cpu")
        self.assertEqual(plan["visible_pairs"], 8 * 1000 * 1001 / 2)
        self.assertEqual(plan["flops"], plan["visible_pairs"] * 2 * 128)
        self.assertGreater(plan["bytes_standard"], plan["bytes_moved"])
        self.assertGreaterEqual(plan["bytes_moved"], plan["bytes_min"])
        self.assertEqual(plan["problem"]["hk"], 2)
        self.assertAlmostEqual(plan["seconds_at_peak"] * plan["peak_gflops"] * 1e9, plan["flops"], delta=1)

    def test_text(self):
        text = self.done("explain", "--sq", 1000, "--d", 64)
        self.assertIn("cpu", text)
        self.assertIn("standard attention", text)
        self.assertIn("workspace", text)

    def test_a_forced_instruction_set(self):
        self.assertEqual(self.json("explain", "--isa", "scalar")["isa"], "scalar")
        self.assertEqual(self.json("explain", env={"HEED_ISA": "scalar"})["isa"], "scalar")

    def test_a_gpu_that_is_not_here(self):
        """Plans for any known architecture, in every build; running them is another matter."""
        cuda = ("explain", "--backend", "cuda", "--sq", 4096, "--heads", 32, "--kv-heads", 8, "--d", 128)
        plan = self.json(*cuda, "--dtype", "bf16", "--causal", "--arch", "sm_80")
        self.assertEqual((plan["backend"], plan["arch"], plan["isa"], plan["launches"]), ("cuda", "sm_80", "", 1))
        self.assertIn("forward_mma_80_Bf16_128_", plan["kernel"])
        self.assertEqual(plan["items"] * plan["tile_rows"], 32 * 4096)
        self.assertEqual(plan["block_threads"] % 32, 0)
        self.assertLessEqual(plan["blocks_at_once"] * plan["block_shared_bytes"], 164 * 1024)
        self.assertEqual((plan["expected_limit"], plan["workspace_bytes"]), ("compute", 0))
        self.assertIn("A100", plan["assumes"])
        text = self.done(*cuda, "--dtype", "f16", "--arch", "sm_75")
        for words in ("sm_75 · forward", "launch    1 kernel; ", "or more, limited by compute: T4"):
            self.assertIn(words, text)
        self.assertNotIn("thread\n", text.splitlines()[0])
        for arch in next(b["archs"] for b in self.json("info")["backends"] if b["name"] == "cuda"):
            self.assertEqual(self.json(*cuda, "--dtype", "f16", "--arch", arch)["arch"], arch)
        self.assertIn("sm_80", self.done("info"))
        decode = self.json("explain", "--backend", "cuda", "--arch", "sm_90", "--op", "decode", "--sk", 32768, "--heads", 32,
                           "--kv-heads", 8, "--d", 128, "--dtype", "f16")
        self.assertEqual((decode["launches"], decode["expected_limit"]), (2, "memory"))
        self.assertIn("pieces x tile rows", decode["workspace_formula"])
        backward = self.json(*cuda, "--arch", "sm_80", "--op", "backward", "--dtype", "bf16")
        self.assertEqual(backward["launches"], 3)
        self.assertIn("16 bytes for every row of lse", backward["workspace_formula"])

    def test_gpus_that_are_refused(self):
        for args, words in ((("--arch", "sm_70", "--backend", "cuda"), 'arch is "sm_70": this build knows auto, sm_75, sm_80'),
                            (("--arch", "sm_80"), 'arch is "sm_80" and the plan is of the cpu backend'),
                            (("--arch", "sm_75", "--backend", "cuda", "--dtype", "bf16"), "sm_75 does not multiply bf16"),
                            (("--arch", "sm_80", "--backend", "cuda", "--d", 300), "dim is 300; its tiles hold D and Dv of up to 256"),
                            (("--arch", "sm_80", "--backend", "cuda", "--op", "backward", "--d", 257), "dim is 257; its tiles hold")):
            self.assertIn(words, self.fails(REFUSED, "explain", *args), args)

    def test_defaults_and_shapes(self):
        problem = self.json("explain", "--sq", 300, "--d", 48, "--dv", 16, "--batch", 3)["problem"]
        self.assertEqual((problem["sk"], problem["d"], problem["dv"], problem["batch"]), (300, 48, 16, 3))
        problem = self.json("explain", "--sk", 70, "--query-offset", -2, "--causal")["problem"]
        self.assertEqual((problem["sk"], problem["align"], problem["query_offset"]), (70, "offset", -2))
        problem = self.json("explain", "--align", "top_left", "--causal", "--no-causal")["problem"]
        self.assertEqual((problem["align"], problem["causal"]), ("top-left", False))

    def test_the_reference_serves_the_whole_vocabulary(self):
        for args in (("--window", "31,-1"), ("--prefix", 4, "--causal"), ("--chunk", 16), ("--softcap", 30),
                     ("--alibi", "head"), ("--alibi", "batch-head"), ("--bias", "1,1,64,64"), ("--mask", "1,1,64,64"),
                     ("--block-map", "1,1,2,2", "--block-size", "32,32"), ("--sinks",), ("--probs",), ("--key-lengths",),
                     ("--alibi",), ("--key-lengths", 30), ("--mask", "causal"), ("--block-map", "16x24:0.5"), ("--page-size", 7),
                     ("--op", "decode", "--v-in-k", "--dv", 32), ("--bias", "B,H,S,1"),
                     ("--batch", 2, "--ragged", "100,100"), ("--cache", "2,96"), ("--cache", "9,16", "--pages", "6", "--new", "64"),
                     ("--cache", "2,96", "--leftpad", "--batch-idx"), ("--dropout", 0.1, "--seed", 7), ("--query-offsets",),
                     ("--cache", "2,96", "--new", 64, "--rotary", "half", "--rotary-dim", 32, "--rotary-rows", 200),
                     ("--op", "backward", "--dlse", "--f32-grads"), ("--dtype", "f64"), ("--dtype", "bf16", "--out-dtype", "f32")):
            with self.subTest(args=args):
                self.assertEqual(self.json("explain", "--sq", 64, *args, "--backend", "reference")["backend"], "reference")

    def test_the_engine_serves_the_backward(self):
        """Flops are five products of the visible pairs; memory grows with the sequence, not with its square."""
        plan = self.json("explain", "--sq", 1024, "--d", 48, "--dv", 80, "--heads", 4, "--kv-heads", 2, "--causal", "--op", "backward",
                         "--threads", 1)
        self.assertEqual((plan["backend"], plan["kernel"].split(" ")[0]), ("cpu", "backward"))
        self.assertEqual(plan["flops"], 4 * 1024 * 1025 / 2 * (6 * 48 + 4 * 80))
        longer = self.json("explain", "--sq", 16384, "--op", "backward", "--threads", 1)
        short = self.json("explain", "--sq", 4096, "--op", "backward", "--threads", 1)
        self.assertLess(longer["workspace_bytes"], 4.5 * short["workspace_bytes"])
        for options in (("--softcap", 30), ("--alibi",), ("--bias", "1,1,S,S", "--dbias"), ("--mask", "random:0.5"), ("--dropout", 0.1),
                        ("--sinks", "--dsinks"), ("--window", "31,5"), ("--dlse", "--f32-grads", "--accumulate"), ("--dtype", "f16")):
            with self.subTest(options=options):
                text = self.done("explain", "--sq", 300, "--op", "backward", *options)
                self.assertRegex(text, r"workspace [\d.]+ [kM]?B = \w+")

    def test_counts_of_arrays(self):
        """Tiles of 1 x 64 by the reference: every pattern whose counts are known."""
        def explain(*args):
            return self.json("explain", *args, "--backend", "reference")

        causal = explain("--sq", 64, "--causal")
        masked = explain("--sq", 64, "--mask", "causal")
        self.assertEqual((causal["counts_from"], masked["counts_from"]), ("geometry", "arrays"))
        for key in ("tiles_full", "tiles_edge", "tiles_empty", "visible_pairs", "flops"):
            self.assertEqual(causal[key], masked[key], key)
        self.assertEqual((masked["tiles_full"], masked["tiles_edge"], masked["visible_pairs"]), (1, 63, 64 * 65 / 2))
        nothing = explain("--sq", 64, "--heads", 3, "--batch", 2, "--mask", "B,H,S,S:random:0")
        self.assertEqual((nothing["tiles_empty"], nothing["visible_pairs"]), (6 * 64, 0))
        everything = explain("--sq", 64, "--heads", 3, "--mask", "random:1", "--block-map", "16x16:1")
        self.assertEqual((everything["tiles_full"], everything["tiles_edge"]), (3 * 64, 0))
        blocks = explain("--sq", 64, "--mask", "blocks:64:0.5")["visible_pairs"]
        self.assertIn(blocks, (0, 64 * 64))
        some = explain("--sq", 1000, "--mask", "random:0.7")["visible_pairs"]
        self.assertAlmostEqual(some / 1e6, 0.7, delta=0.01)
        self.assertEqual(some, explain("--sq", 1000, "--mask", "random:0.7")["visible_pairs"])  # every time the same

    def test_lengths(self):
        def explain(*args):
            return self.json("explain", *args, "--backend", "reference")

        packed = explain("--lengths", "3,5x2,7", "--heads", 2)
        self.assertEqual(packed["visible_pairs"], 2 * (9 + 25 + 25 + 49))
        self.assertEqual((packed["problem"]["batch"], packed["problem"]["ragged"]), (4, [20, 20]))
        run = explain("--lengths", "10-20:6")["visible_pairs"]
        self.assertEqual(run, sum(n * n for n in (10, 12, 14, 16, 18, 20)))
        keys = explain("--sq", 4, "--sk", 9, "--batch", 3, "--key-lengths", "9,2")["visible_pairs"]
        self.assertEqual(keys, 4 * (9 + 2 + 9))
        for more in ((), ("--page-size", 4), ("--cache", "2,50")):
            self.assertEqual(explain("--op", "decode", "--lengths", "30,50", *more)["visible_pairs"], 80, more)
        self.assertEqual(explain("--op", "decode", "--sk", 30, "--page-size", 16)["visible_pairs"], 30)

    def test_the_limit(self):
        self.assertEqual(self.json("explain", "--sq", 256)["limit"], "compute")
        decode = self.json("explain", "--op", "decode", "--kv-total-mb", 256, "--heads", 4, "--d", 128)
        self.assertEqual(decode["bytes"], 2**28)
        # Both are measured, and beside other work either may be the longer one.
        longer = "memory" if decode["seconds_at_stream"] > decode["seconds_at_peak"] else "compute"
        self.assertEqual(decode["limit"], longer)

    def test_sizes_that_no_machine_holds(self):
        plan = self.json("explain", "--op", "decode", "--batch", 2**40, "--d", 1, "--dtype", "bf16", "--sk", 8)
        self.assertEqual(plan["bytes"], 2**40 * 8 * 4)

    def test_svg(self):
        path = self.scratch / "tiles.svg"
        plan = self.json("explain", "--sq", 500, "--sk", 700, "--window", "100,3", "--heads", 2, "--svg", path,
                         "--svg-head", "0,1")
        root = xml.etree.ElementTree.parse(path).getroot()
        self.assertTrue(root.tag.endswith("svg"))
        text = "".join(root.itertext())
        self.assertIn("500 queries × 700 keys, head 1 of entry 0 · window 100,3", text)
        for name, key in (("full", "tiles_full"), ("edge: masked", "tiles_edge"), ("skipped", "tiles_empty")):
            self.assertIn(f"{name} {plan[key] // 2:,} (", text)  # one head of two
        self.done("explain", "--sq", 20000, "--mask", "1,1,1,S:random:0.5", "--svg", path)
        self.assertLess(path.stat().st_size, 2_000_000)  # however many tiles there are
        self.assertIn("a cell stands for", path.read_text(encoding="utf-8"))
        self.done("explain", "--sq", 0, "--svg", path)
        self.fails(REFUSED, "explain", "--svg", path, "--svg-head", "0,1")
        self.fails(FILE, "explain", "--svg", self.scratch / "no" / "folder.svg")

    def test_a_refused_problem_lists_every_refusal(self):
        run = heed("explain", "--dtype", "f64")
        self.assertEqual(run.returncode, REFUSED)
        self.assertIn("refused   cpu: ", run.stdout)
        self.assertIn("--backend reference", run.stdout)
        self.assertRegex(run.stderr, r"\Aheed: [^\n]+\n\Z")
        answer = json.loads(heed("explain", "--dtype", "f64", "--json").stdout)
        self.assertEqual(answer["status"], "refused")
        self.assertIn("cpu", [r["backend"] for r in answer["refused"]])
        self.assertEqual(answer["would_serve"], ["reference"])

    def test_an_invalid_problem_is_no_refusal(self):
        run = heed("explain", "--d", 0, "--json")
        self.assertEqual(run.returncode, REFUSED)
        answer = json.loads(run.stdout)
        self.assertEqual((answer["status"], answer["refused"]), ("invalid", []))
        self.assertIn("dim", answer["reason"])


if __name__ == "__main__":
    main()
