"""`heed info` and `heed explain`: what they say, for people and for programs."""
import json
import unittest

from program import REFUSED, ProgramTest, heed, main

PLAN_KEYS = {"status", "problem", "backend", "isa", "kernel", "threads", "tile_rows", "tile_keys", "block_rows",
             "block_keys", "items", "tiles_full", "tiles_edge", "tiles_empty", "visible_pairs", "flops", "dense_flops",
             "bytes_min", "bytes_moved", "bytes_standard", "peak_gflops", "seconds_at_peak", "workspace_bytes",
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
                     ("--block-map", "1,1,2,2", "--block-size", "32,32"), ("--sinks",), ("--probs",), ("--lengths",),
                     ("--batch", 2, "--ragged", "100,100"), ("--cache", "2,96"), ("--cache", "9,16", "--pages", "6", "--new", "64"),
                     ("--cache", "2,96", "--leftpad", "--batch-idx"), ("--dropout", 0.1, "--seed", 7), ("--query-offsets",),
                     ("--cache", "2,96", "--new", 64, "--rotary", "half", "--rotary-dim", 32, "--rotary-rows", 200),
                     ("--op", "backward", "--dlse", "--f32-grads"), ("--dtype", "f64"), ("--dtype", "bf16", "--out-dtype", "f32")):
            with self.subTest(args=args):
                self.assertEqual(self.json("explain", "--sq", 64, *args, "--backend", "reference")["backend"], "reference")

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
