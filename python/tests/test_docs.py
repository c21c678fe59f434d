# test_docs.py: the Python of docs/python.md and of the README runs as it stands, top to bottom.
import contextlib
import io
import os
import re

import pytest

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")


@pytest.mark.parametrize("page", ["docs/python.md", "README.md"])
def test_examples_run(page):
    pytest.importorskip("torch")
    with open(os.path.join(ROOT, page), encoding="utf-8") as f:
        blocks = re.findall(r"^```python\n(.*?)^```", f.read(), re.S | re.M)
    assert blocks
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks:
            exec(compile(block, page, "exec"), names)  # pylint: disable=exec-used
