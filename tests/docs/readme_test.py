"""The README says what is true: its program is the example that is built and run, its support table is what the backends
answer, its commands run, its links lead somewhere. Not here: the C++ build of the example (examples/CMakeLists.txt)."""
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ["HEED_SOURCE_DIR"])
PROGRAM = os.environ["HEED_PROGRAM"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SIZES = ["--batch", "2", "--sq", "48", "--sk", "64"]


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.S | re.M)


class Readme(unittest.TestCase):
    def test_program_is_the_example(self):
        self.assertEqual(blocks("cpp"), [(ROOT / "examples" / "first.cpp").read_text(encoding="utf-8")])

    def test_support_table_is_what_the_backends_say(self):
        table = README.split("<!-- support table")[1].split("\n\n")[0]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]
        self.assertEqual(rows[0], ["feature", "flags", "cpu", "reference"])
        self.assertGreater(len(rows), 15)
        for feature, flags, *answers in rows[1:]:
            asked = shlex.split(flags.strip("`"))
            sizes = SIZES + ([] if "--heads" in asked else ["--heads", "4"]) + ([] if "--d" in asked else ["--d", "32"])
            for backend, answer in zip(rows[0][2:], answers):
                with self.subTest(feature=feature, backend=backend):
                    run = subprocess.run([PROGRAM, "explain", *sizes, *asked, "--backend", backend], capture_output=True, text=True, check=False)
                    self.assertIn(run.returncode, (0, 3), run.stderr)
                    self.assertEqual(answer, "yes" if run.returncode == 0 else "refused", run.stderr)
                    if answer == "refused":
                        self.assertIn(backend, run.stdout + run.stderr)

    def test_gpu_table_is_what_is_planned_and_what_was_seen(self):
        table = README.split("<!-- GPU table")[1].split("\n\n")[0]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]
        self.assertEqual(rows[0], ["feature", "flags", "sm_75", "sm_80 and newer", "on hardware"])
        self.assertGreater(len(rows), 8)
        for feature, flags, *answers, seen in rows[1:]:
            for arch, answer in zip(("sm_75", "sm_80"), answers if flags else ()):
                with self.subTest(feature=feature, arch=arch):
                    asked = shlex.split(flags.strip("`"))
                    sizes = [*([] if "--sk" in asked else SIZES), *([] if "--heads" in asked else ["--heads", "4"]), "--d", "64"]
                    run = subprocess.run([PROGRAM, "explain", *sizes, *asked, "--backend", "cuda", "--arch", arch], capture_output=True,
                                         text=True, check=False)
                    self.assertEqual(answer, {0: "yes", 3: "refused"}.get(run.returncode), run.stderr)
            # What was seen has its results beside it.
            on = re.fullmatch(r"seen on (.+) on (\d{4}-\d\d-\d\d)", seen)
            if on:
                slug = re.sub(r"[^a-z0-9]+", "-", on[1].lower())
                self.assertTrue((ROOT / "bench" / "results" / f"{on[2]}-{slug}-cuda.md").exists(), seen)
            else:
                self.assertTrue(seen.endswith("emulated only, not yet seen on hardware"), seen)

    def test_commands_run(self):
        lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
        self.assertGreaterEqual(len(lines), 5)
        with tempfile.TemporaryDirectory() as scratch:
            for line in lines:
                words = shlex.split(line)
                self.assertEqual(words[0], "heed")
                if words[1:] == ["demo"]:
                    continue  # `make demo` and the command line's own tests run it
                if words[1] == "bench":
                    words.append("--any-peak")  # other tests may run beside this one
                words = [os.path.join(scratch, w) if w in ("out.safetensors", "tiles.svg") else w for w in words[1:]]
                with self.subTest(command=line):
                    run = subprocess.run([PROGRAM, *words], cwd=ROOT, capture_output=True, text=True, check=False)
                    self.assertEqual(run.returncode, 0, run.stderr)
                    self.assertTrue(run.stdout)

    def test_links_lead_somewhere(self):
        for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
            prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)  # lambdas are no links
            for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", prose):
                if "://" not in link:
                    self.assertTrue((page.parent / link).exists(), f"{page.name} links to {link}")

    def test_json_of_explain_names_the_refusals(self):
        run = subprocess.run([PROGRAM, "explain", *SIZES, "--d", "32", "--json"], capture_output=True, text=True, check=True)
        self.assertEqual(json.loads(run.stdout)["backend"], "cpu")


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=1))
