# test_docs.py: the Python of the README and of every page of docs/ runs as it stands, top to bottom.
import contextlib
import io
import os
import re

import pytest

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")


def pages():
    for folder in ("", "docs"):
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            page = os.path.join(folder, name)
            if name.endswith(".md"):
                with open(os.path.join(ROOT, page), encoding="utf-8") as f:
                    if "\n```python\n" in f.read():
                        yield page


@pytest.mark.parametrize("page", list(pages()))
def test_examples_run(page):
    torch = pytest.importorskip("torch")
    with open(os.path.join(ROOT, page), encoding="utf-8") as f:
        blocks = re.findall(r"^```python\n(.*?)^```", f.read(), re.S | re.M)
    assert blocks
    if any("import transformers" in block for block in blocks):
        pytest.importorskip("transformers", minversion="5.0")
    if any("override_torch" in block for block in blocks) and not hasattr(torch.library, "get_kernel"):
        pytest.skip("override_torch needs torch.library.get_kernel (PyTorch 2.13 has it)")
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks:
            exec(compile(block, page, "exec"), names)  # pylint: disable=exec-used
