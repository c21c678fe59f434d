"""`make bench`'s script: its rows are calls that the program takes, and it writes what it promises."""
import json
import subprocess
import sys
from pathlib import Path

from program import PROGRAM, ROOT, ProgramTest, heed, main

sys.path.insert(0, str(ROOT / "bench"))
import table  # noqa: E402


class Table(ProgramTest):
    def test_every_call_is_one_that_the_program_takes(self):
        usable = {i["name"] for b in self.json("info")["backends"] for i in b["isas"] if i["usable"]}
        calls = {args for row in table.rows() for args in row.calls()}
        calls |= {args for *_, args in table.sweep()} | {args for _, args in table.standard()}
        for args in sorted(calls):
            if "--isa" in args and args[args.index("--isa") + 1] not in usable:
                continue
            plan = [a for a in args if a not in ("--one-shot", "--standard")]  # explain times nothing
            run = heed("explain", *plan, "--json")
            self.assertEqual(run.returncode, 0, (args, run.stderr))

    def test_every_row_has_a_target(self):
        rows = list(table.rows())
        self.assertEqual(len(rows), len({(r.section, r.label) for r in rows}))
        for row in rows:
            self.assertGreater(row.target, 0, row)

    def test_it_writes_the_table(self):
        run = subprocess.run([sys.executable, "-B", ROOT / "bench" / "run.py", "--heed", PROGRAM, "--only", "latency",
                              "--rounds", "2", "--seconds", "0.01", "--no-plots", "--out", self.scratch],
                             capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        written = {p.suffix: p for p in Path(self.scratch).iterdir()}
        self.assertEqual(set(written), {".json", ".md"})
        self.assertRegex(written[".json"].name, r"^\d{4}-\d\d-\d\d-[a-z0-9-]+-forward\.json$")
        result = json.loads(written[".json"].read_text(encoding="utf-8"))
        self.assertEqual([len(row["rounds"]) for row in result["table"]], [2, 2])
        self.assertTrue(result["machine"]["cpu"] and result["build"]["compiler"])
        self.assertIn("| one-shot | ≤ 2.00 µs |", written[".md"].read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
