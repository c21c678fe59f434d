#!/usr/bin/env python3
"""The Python half of `make demo`: the wheel in an environment of its own with PyTorch and transformers, then
real text through heed.flash_attn and a BERT-like model through attn_implementation="heed". Needs pip, venv,
the network once."""
import os
import subprocess
import sys

import test_python
import wheel

WORK = os.path.join(wheel.ROOT, "build", "python-demo")
PACKAGES = ["numpy", test_python.TORCH, "transformers==5.23.0"]


def main():
    print("\n=== the Python package: building the wheel; PyTorch and transformers, once: some minutes", flush=True)
    try:
        made = wheel.build(os.path.join(WORK, "dist"))
        python = wheel.environment(os.path.join(WORK, "venv"), PACKAGES)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", made], check=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"the Python half of the demo needs {', '.join(PACKAGES)} from pip: {error}")
    print(flush=True)
    for command in (["examples/python/real_text.py"], ["-m", "heed.transformers", "demo"]):
        code = subprocess.run([python, *command], cwd=wheel.ROOT, check=False).returncode
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
