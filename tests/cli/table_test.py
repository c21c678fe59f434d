"""`make bench`'s script: its rows are calls that the program takes, and it writes what it promises."""
import json
import subprocess
import sys
from pathlib import Path

from program import PROGRAM, ROOT, ProgramTest, heed, main

sys.path.insert(0, str(ROOT / "bench"))
import run  # noqa: E402
import table  # noqa: E402


class Table(ProgramTest):
    def test_every_call_is_one_that_the_program_takes(self):
        usable = {i["name"] for b in self.json("info")["backends"] for i in b["isas"] if i["usable"]}
        calls = {args for row in table.rows() for args in row.calls()}
        for op in table.PLOTTED:
            calls |= {args for *_, args in table.sweep(op)} | {args for _, args in table.standard(op)}
        for args in sorted(calls):
            if "--isa" in args and args[args.index("--isa") + 1] not in usable:
                continue
            plan = [a for a in args if a not in ("--one-shot", "--standard")]  # explain times nothing
            answer = heed("explain", *plan, "--json")
            self.assertEqual(answer.returncode, 0, (args, answer.stderr))

    def test_every_row_has_a_target(self):
        rows = list(table.rows())
        self.assertEqual(len(rows), len({(r.section, r.label) for r in rows}))
        for row in rows:
            self.assertGreater(row.target, 0, row)
            self.assertIn(row.kind, table.KINDS)
            self.assertEqual(bool(row.against), row.kind in ("relative", "speedup", "loss", "proportional"), row)

    def test_what_a_row_is_about(self):
        one = {"seconds_median": 2.0, "fraction_of_peak": 0.4, "flops": 7, "dense_flops": 10, "fraction_of_stream": 0.8,
               "fraction_of_limit": 0.9}
        two = one | {"seconds_median": 3.0, "fraction_of_peak": 0.5}
        for kind, expected, good, bad in (("share", 0.4, 0.4, 0.41), ("dense", 4 / 7, 0.571, 0.572), ("stream", 0.8, 0.8, 0.9),
                                          ("limit", 0.9, 0.9, 1), ("relative", 0.8, 0.8, 0.9), ("speedup", 1.5, 1.5, 1.6),
                                          ("latency", 2, 2, 1.9), ("loss", 0.1, 0.1, 0.09), ("proportional", 0.25, 0.25, 0.2)):
            with self.subTest(kind=kind):
                for target, met in ((good, True), (bad, False)):
                    row = table.Row("", "", ("a",), target, kind, ("b",))
                    self.assertAlmostEqual(run.value(row, [one, two]), expected)
                    self.assertEqual(run.meets(row, run.value(row, [one, two])), met)
                    self.assertTrue(run.shown(kind, expected))
        self.assertIsNone(run.value(table.Row("", "", (), 1), [None]))

    def test_the_ragged_batch_and_its_dense_counterpart_have_as_many_pairs(self):
        for row in table.ragged_rows():
            if row.against:
                a, b = (self.json("explain", *args)["visible_pairs"] for args in row.calls())
                self.assertAlmostEqual(a / b, 1, delta=0.001)

    def test_what_a_busy_machine_left_is_dropped(self):
        """The peak of the first round is half of the second's: only the second counts."""
        class Fake(run.Bench):
            peaks = iter((50, 100))

            def run(self, args):
                peak = next(self.peaks)
                self.usual[run.kind_of(args)] = max(self.usual.get(run.kind_of(args), 0), peak)
                return {"peak_gflops": peak, "fraction_of_peak": peak / 200, "flops": 1, "dense_flops": 1, "fraction_of_limit": None}
        row = table.Row("", "", ("--dtype", "f32", "--threads", "1"), 0.4)
        (out,) = run.run_table(Fake("", 0), [row], 2)
        self.assertEqual((out["rounds"], out["measured"], out["meets"]), ([0.5], 0.5, True))
        Fake.peaks = iter((50, 100))
        (out,) = run.run_table(Fake("", 0, any_peak=True), [row], 2)
        self.assertEqual(out["rounds"], [0.25, 0.5])

    def test_it_writes_the_table(self):
        done = subprocess.run([sys.executable, "-B", ROOT / "bench" / "run.py", "--heed", PROGRAM, "--group", "forward", "--only", "latency",
                              "--rounds", "2", "--seconds", "0.01", "--any-peak", "--no-plots", "--out", self.scratch],
                             capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        written = {p.suffix: p for p in Path(self.scratch).iterdir()}
        self.assertEqual(set(written), {".json", ".md"})
        self.assertRegex(written[".json"].name, r"^\d{4}-\d\d-\d\d-[a-z0-9-]+-forward\.json$")
        result = json.loads(written[".json"].read_text(encoding="utf-8"))
        self.assertEqual([len(row["rounds"]) for row in result["table"]], [2, 2])
        self.assertTrue(result["machine"]["cpu"] and result["build"]["compiler"])
        self.assertIn("| one-shot | ≤ 2.00 µs |", written[".md"].read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
