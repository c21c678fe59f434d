#!/usr/bin/env python3
# The scripts that make gpu-test and make gpu-bench run, as far as no GPU and no torch are needed: flat
# cases are judged right and wrong, the C ABI through ctypes, what is built of which files, and one
# sentence where there is no GPU. Usage: gpu_scripts_test.py GPU_CASES LIBRARY
import argparse
import array
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "scripts")]

import engine  # pylint: disable=wrong-import-position
import flatten  # pylint: disable=wrong-import-position
import gpu_build  # pylint: disable=wrong-import-position
import gpu_test  # pylint: disable=wrong-import-position

CASES, LIBRARY = sys.argv[1:3] if len(sys.argv) > 2 else ("", "")


def cases(*arguments):
    return subprocess.run([CASES, "--backend", "reference", *arguments], capture_output=True, text=True,
                          check=False)


class FlatCases(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.number = flatten.flatten(os.path.join(ROOT, "tests", "data", "conformance"), self.folder)

    def test_every_case_is_right_in_every_dtype(self):
        done = cases("--folder", self.folder, "--threads", "2", "--backward")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"{3 * self.number} passed, 0 failed, 0 refused;", done.stdout)

    def test_lists_are_judged_for_a_time(self):
        done = cases("--lists", "small,small_backward", "--every", "40")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, "^9 passed, 0 failed, 0 refused;")
        done = cases("--lists", "options,backward", "--seconds", "1")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"^\d+ passed, 0 failed, 0 refused, \d+ not begun in time;")

    def change(self, edit):
        path = os.path.join(self.folder, "causal_square.case")
        with open(path, "rb") as f:
            data = f.read()
        with open(path, "wb") as f:
            f.write(edit(data))
        return cases("--folder", self.folder, "--only", "f32 causal_square", "--backward")

    def test_a_wrong_result_is_found(self):
        def edit(data):  # the last tensor's last number: whatever it was, it is not this
            return data[:-4] + struct.pack("<f", 123.0)
        done = self.change(edit)
        self.assertEqual(done.returncode, 1)
        self.assertIn("failed  f32 causal_square", done.stdout)

    def test_a_file_that_is_not_whole_is_said_to_be(self):
        self.assertIn("it ends within the tensor", self.change(lambda data: data[:-1]).stdout)
        self.assertIn("bytes follow the tensors", self.change(lambda data: data + b"12").stdout)

    def test_arguments(self):
        for arguments, words in (((), "nothing to do"), (("--folder",), "needs a value"),
                                 (("--folder", os.path.join(self.folder, "none")), "holds no .case file"),
                                 (("--every", "0", "--lists", "small"), "a number from 1 on"),
                                 (("--lists", "smal"), "no list is called 'smal': backward, dense, options, small"),
                                 (("--loud",), "is no argument"),
                                 (("--only", "nothing like it", "--lists", "small"), "no case is left")):
            done = cases(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(words, done.stderr)

    def test_a_backend_that_is_not_here_is_no_success(self):
        done = subprocess.run([CASES, "--lists", "small", "--only", "batch"], capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 3, done.stdout)
        self.assertIn("gpu_cases: cuda: ", done.stderr)


class Abi(unittest.TestCase):
    def setUp(self):
        self.engine = engine.Engine(LIBRARY)
        self.memory = {"q": array.array("f", [1.0] * 8), "k": array.array("f", [0.5] * 12),
                       "v": array.array("f", range(12)), "o": array.array("f", [0.0] * 8),
                       "lse": array.array("f", [0.0] * 2)}
        self.fields = {"batch": 1, "q_len": 2, "k_len": 3, "q_heads": 1, "dim": 4, "want_lse": True,
                       "causal": True, "window_left": -1, "scale": 0.5,
                       **{f"at.{name}": a.buffer_info()[0] for name, a in self.memory.items()}}

    def test_a_call_is_planned_run_and_judged(self):
        call = self.engine.prepare({**self.fields, "plan.backend": "cpu"})
        workspace = bytearray(call.workspace_bytes() + 1)
        hold = (engine.ctypes.c_char * len(workspace)).from_buffer(workspace)
        call.use(engine.ctypes.addressof(hold), call.workspace_bytes(), 0)
        call.run()
        # Query 0 sees keys 0 and 1, all equal; query 1 sees all three.
        self.assertEqual([round(x, 5) for x in self.memory["o"]], [2, 3, 4, 5, 4, 5, 6, 7])
        self.assertIn("plan      cpu", call.describe())
        right, words = self.engine.judge(self.fields)
        self.assertTrue(right, words)
        self.memory["o"][7] += 0.001
        right, words = self.engine.judge(self.fields)
        self.assertFalse(right)
        self.assertIn("o: worst error", words)

    def test_what_is_wrong_is_said_in_a_sentence(self):
        with self.assertRaisesRegex(engine.Failed, "no field 'q_length'"):
            self.engine.prepare({"q_length": 3})
        with self.assertRaisesRegex(engine.Failed, "dim"):
            self.engine.prepare({**self.fields, "dim": 0})
        with self.assertRaisesRegex(engine.Failed, "cannot be read"):
            self.engine.judge({"dim": "four"})
        call = self.engine.prepare({**self.fields, "plan.backend": "cpu", "at.q": 0})
        call.use(None, 0, 0)
        with self.assertRaisesRegex(engine.Failed, "q"):
            call.run()
        self.assertIsNone(self.engine.absent("cpu"))
        self.assertTrue(self.engine.absent("cuda"))
        self.assertIn("no backend called", self.engine.absent("cudda"))


class Backward(unittest.TestCase):
    """Two queries on one key: p is 1, ds is 0."""

    def setUp(self):
        self.engine = engine.Engine(LIBRARY)
        self.memory = {name: array.array("f", values) for name, values in
                       {"q": [1, 2, 3, 4], "k": [1, 1], "v": [5, 6], "dout": [1, 2, 3, 4], "dq": [0] * 4,
                        "dk": [0] * 2, "dv": [4, 6]}.items()}
        self.fields = {"op": "backward", "batch": 1, "q_len": 2, "k_len": 1, "q_heads": 1, "dim": 2,
                       **{f"at.{name}": a.buffer_info()[0] for name, a in self.memory.items()}}

    def test_gradients_are_judged(self):
        right, words = self.engine.judge(self.fields)
        self.assertTrue(right, words)
        for name in ("dq", "dk", "dv"):
            self.memory[name][1] += 0.001
            right, words = self.engine.judge(self.fields)
            self.assertFalse(right)
            self.assertIn(f"{name}: worst error", words)
            self.memory[name][1] -= 0.001
        right, words = self.engine.judge({**self.fields, "at.dk": 0})
        self.assertFalse(right)
        self.assertEqual(words, "dk is not given")


class Building(unittest.TestCase):
    def test_what_is_built_of_what(self):
        host = {step.source: step for step in gpu_build.steps("out", None)}
        device = {step.source: step for step in gpu_build.steps("out", "sm_90a")}
        self.assertFalse([path for path in host if path.endswith(".cu")])
        self.assertIn("tests/gpu/device_memory_host.cpp", host)
        self.assertIn("tests/gpu/device_memory.cu", device)
        self.assertNotIn("tests/gpu/device_memory_host.cpp", device)
        self.assertNotIn("src/cuda/no_device.cpp", device)
        for steps in (host, device):
            self.assertFalse([path for path in steps if path.endswith("_test.cpp") or "case_paths" in path])
            self.assertEqual(len({step.target for step in steps.values()}), len(steps))
        kernel = " ".join(device["tests/cuda/conformance_gpu.cu"].command)
        self.assertIn("arch=compute_90a,code=sm_90a", kernel)
        made = {name: command for name, _, command in gpu_build.programs("out", "sm_90a", device.values())}
        self.assertEqual(set(made), {"library", "cases", "conformance"})
        self.assertIn("-shared", made["library"])
        self.assertEqual(set(name for name, _, _ in gpu_build.programs("out", None, host.values())),
                         {"library", "cases"})

    def test_the_package_is_built_around_the_librarys_objects(self):
        before = list(sys.path)
        self.addCleanup(sys.path.__setitem__, slice(None), before)
        with tempfile.TemporaryDirectory() as tools:
            made = {"library": os.path.join(tools, "libheed_gpu.so"), "arch": None}
            if importlib.util.find_spec("nanobind") is None:
                self.assertIn("nanobind is not installed for ", gpu_build.why_no_package())
                with self.assertRaisesRegex(gpu_build.Stop, "nanobind is not installed for "):
                    gpu_build.build_package(made)
                os.mkdir(os.path.join(tools, "nanobind"))
                sys.path.insert(0, tools)
            for step in gpu_build.package_steps(tools, None):
                self.assertNotIn("-DHEED_PYTHON_CUDA", step.command)
            own = list(gpu_build.package_steps(tools, "sm_80"))
            for step in own:
                self.assertIn("-DHEED_PYTHON_CUDA", step.command)
            self.assertIn("python/core/module.cpp", [step.source for step in own])
            self.assertTrue(own[-1].source.endswith("nanobind/src/nb_combined.cpp"))
            folder, command = gpu_build.link_package(tools, "sm_80", [*gpu_build.steps(tools, "sm_80"), *own])
            self.assertTrue(os.path.exists(os.path.join(folder, "heed", "__init__.py")))
            objects = " ".join(command)
            for path in ("src-cuda-device.cu.o", "src-cpu-kernels.cpp.o", "python-nb_combined.cpp.o"):
                self.assertIn(os.path.join(tools, path), objects)
            for path in ("tests-gpu", "verify-", "tests-cases"):
                self.assertNotIn(path, objects)

    def test_a_compiler_that_is_missing_and_one_that_fails(self):
        path = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        with tempfile.TemporaryDirectory() as tools:
            os.environ["PATH"] = tools
            with self.assertRaisesRegex(gpu_build.Stop, r"g\+\+ is not on PATH"):
                gpu_build.build(tools, None, 2)
            with open(os.path.join(tools, "g++"), "w", encoding="utf-8") as f:
                f.write("#!/bin/sh\necho it is raining >&2\nexit 1\n")
            os.chmod(os.path.join(tools, "g++"), 0o755)
            os.environ["PATH"] = tools + ":" + path
            with self.assertRaisesRegex(gpu_build.Stop, "(?s)does not build.*it is raining"):
                gpu_build.build(os.path.join(tools, "out"), None, 2)

    def test_without_a_gpu_one_sentence(self):
        if gpu_build.gpu_arch():
            self.skipTest("there is a GPU here")
        for script in ("scripts/gpu_build.py", "tests/gpu/gpu_test.py", "bench/gpu_bench.py"):
            done = subprocess.run([sys.executable, os.path.join(ROOT, script)], capture_output=True, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stdout), (3, ""), script)
            self.assertEqual(done.stderr, "there is no NVIDIA GPU here: nvidia-smi finds none\n")

    def test_the_architecture_is_the_gpus(self):
        path = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        with tempfile.TemporaryDirectory() as tools:
            os.environ["PATH"] = tools
            for words, arch in (("9.0", "sm_90a"), ("8.0\n8.6", "sm_80"), ("7.5", "sm_75"), ("12.0", "sm_120"),
                                ("No devices were found", None)):
                with open(os.path.join(tools, "nvidia-smi"), "w", encoding="utf-8") as f:
                    f.write(f"#!/bin/sh\necho '{words}'\n")
                os.chmod(os.path.join(tools, "nvidia-smi"), 0o755)
                self.assertEqual(gpu_build.gpu_arch(), arch, words)


class Steps(unittest.TestCase):
    def test_a_program_passes_fails_or_cannot_run_here(self):
        ends = lambda code, **more: gpu_test.program(["/bin/sh", "-c", f"echo one; echo two; exit {code}"], **more)
        self.assertEqual(ends(0, skips=3), "two")
        with self.assertRaisesRegex(gpu_test.Skip, "^two$"):
            ends(3, skips=3)
        for code, more in ((3, {}), (1, {"skips": 3})):
            with self.assertRaisesRegex(RuntimeError, f"(?s)exit {code}.*one.*two"):
                ends(code, **more)
        with self.assertRaisesRegex(RuntimeError, "sleep took more than 0.1 s"):
            gpu_test.program(["sleep", "9"], seconds=0.1)

    def test_the_sanitizer_runs_small_cases_of_both_directions(self):
        path = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        with tempfile.TemporaryDirectory() as tools:
            with open(os.path.join(tools, "compute-sanitizer"), "w", encoding="utf-8") as f:
                f.write('#!/bin/sh\necho "$@"\n')
            os.environ["PATH"] = tools
            with self.assertRaisesRegex(gpu_test.Skip, "compute-sanitizer is not installed"):
                gpu_test.sanitize("memcheck", ["cases"], False)
            os.chmod(os.path.join(tools, "compute-sanitizer"), 0o755)
            said = gpu_test.sanitize("racecheck", ["cases", "--backward"], False)
        self.assertRegex(said, "^--tool racecheck --error-exitcode 9 .* cases --backward --lists small,small_backward "
                               r"--seconds \d+$")

    def test_the_package_is_skipped_in_a_sentence(self):
        if importlib.util.find_spec("heed"):
            self.skipTest("it is installed here")
        args = argparse.Namespace(library="built/libheed_gpu.so", rehearse=False, jobs=1)
        with self.assertRaisesRegex(gpu_test.Skip, "was built before, and the package is not installed either"):
            gpu_test.python_package(args, {})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
