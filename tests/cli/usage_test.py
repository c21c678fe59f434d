"""`heed` as a program: help, versions, wrong usage, pipes. Not here: what a command computes."""
import os
import subprocess
import unittest

from program import DONE, FILE, PROGRAM, REFUSED, USAGE, ProgramTest, heed, main

COMMANDS = ("info", "explain", "attend", "check", "bench", "demo")


class Usage(ProgramTest):
    def test_help_has_every_command_and_examples(self):
        text = self.done("--help")
        for command in COMMANDS:
            self.assertIn(f"\n  {command} ", text)
        self.assertIn("Examples:", text)
        self.assertIn("Exit codes:", text)

    def test_every_command_has_help_with_examples_and_exit_codes(self):
        for command in COMMANDS:
            with self.subTest(command=command):
                text = self.done(command, "--help")
                self.assertIn(f"Examples:\n  heed {command}", text)
                self.assertIn("Exit codes:", text)
                self.assertIn("--json", text)

    def test_version(self):
        self.assertRegex(self.done("--version"), r"^heed \d+\.\d+\.\d+\n$")

    def test_wrong_usage_is_one_sentence_and_code_2(self):
        for args in ((), ("fly",), ("info", "extra"), ("explain", "--sq"), ("explain", "--sq", "many"),
                     ("explain", "--frobnicate"), ("explain", "--dtype", "f8"), ("explain", "--align", "left"),
                     ("explain", "--window", "5"), ("explain", "--window", "1,2,3"), ("explain", "--window", "a,b"),
                     ("explain", "--bias", "1,1,4"), ("explain", "--bias", "1,1,SS,4"), ("explain", "--mask", "random"),
                     ("explain", "--mask", "random:2"), ("explain", "--mask", "blocks:0:1"), ("explain", "--mask", "noise:1"),
                     ("explain", "--block-map", "64x128"), ("explain", "--block-map", "64:0.5"), ("explain", "--lengths", ""),
                     ("explain", "--lengths", "1,,2"), ("explain", "--lengths", "5-2:3"), ("explain", "--lengths", "1-5"),
                     ("explain", "--lengths", "4x0"), ("explain", "--lengths", "7", "--sq", "7"), ("explain", "--page-size", "0"),
                     ("explain", "--page-size", "4", "--cache", "1,2"), ("explain", "--key-lengths", "9", "--sk", "8"),
                     ("explain", "--kv-total-mb", "8", "--batch", "2"), ("explain", "--v-in-k", "--d", "8", "--dv", "9"),
                     ("explain", "--svg-head", "0,0"), ("explain", "--svg", "x.svg", "--svg-head", "0"), ("explain", "--op", "sideways"), ("explain", "--op", "forward+backward"), ("explain", "--layout", "dhsb"),
                     ("explain", "--threads", "few"), ("bench", "--seconds", "-1"), ("check",), ("attend",),
                     ("check", "x", "--dtype", "f64"), ("demo", "--tokens", "1"), ("info", "explain")):
            with self.subTest(args=args):
                self.assertIn("--help", self.fails(USAGE, *args))

    def test_nonsense_problems_are_invalid_and_code_3(self):
        for args in (("--sq", "-5"), ("--batch", "-1"), ("--d", "0"), ("--d", "1025"), ("--heads", "6", "--kv-heads", "4"),
                     ("--scale", "nan"), ("--scale", "inf"), ("--softcap", "-1"), ("--dropout", "1"), ("--dropout", "nan"),
                     ("--sq", "9223372036854775807"), ("--heads", "9223372036854775807", "--layout", "bhsd"),
                     ("--sq", "4611686018427387904", "--layout", "qkv"), ("--query-offset", "3", "--align", "top-left"),
                     ("--window", "-7,0"), ("--isa", "quantum"), ("--backend", "abacus"), ("--threads", "-3"),
                     ("--bias", "2,3,4,5"), ("--block-map", "1,1,1,1", "--block-size", "0,0"), ("--cache", "-1,5"),
                     ("--lengths", "9000000000000000000x4"), ("--batch", "1099511627776", "--key-lengths", "3"),
                     ("--batch", "1099511627776", "--lengths", "3,1"), ("--sk", "1099511627776", "--page-size", "1", "--lengths", "5")):
            for command in ("explain", "bench"):
                with self.subTest(args=args, command=command):
                    self.fails(REFUSED, command, *args)

    def test_an_unknown_instruction_set_in_the_environment(self):
        self.assertIn("quantum", self.fails(REFUSED, "explain", env={"HEED_ISA": "quantum"}))

    def test_a_closed_pipe_ends_it_quietly(self):
        run = subprocess.run(["bash", "-c", f"'{PROGRAM}' explain --help | true; '{PROGRAM}' info --json | head -c 1"],
                             capture_output=True, text=True, check=False)
        self.assertEqual(run.stderr, "")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_full_disk_is_reported(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            run = subprocess.run([PROGRAM, "info"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(run.returncode, FILE)
        self.assertRegex(run.stderr, r"^heed: standard output: ")

    def test_help_is_not_an_error(self):
        self.assertEqual(heed("bench", "--help").returncode, DONE)


if __name__ == "__main__":
    main()
