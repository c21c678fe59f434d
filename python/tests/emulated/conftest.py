# conftest.py: CUDA devices that are none for the tests of this folder, where a process is set up for them:
# HEED_EMULATED_PACKAGE names the folder of a package whose extension has the emulated device
# (heed_python_emulated in python/CMakeLists.txt). Elsewhere there is nothing here to test.
import os
import sys
import tempfile

import pytest
import stand_in as stand_ins

if stand_ins.PACKAGE:
    sys.path[:0] = [stand_ins.PACKAGE, os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                    os.path.join(stand_ins.ROOT, "tests", "gpu")]
    with tempfile.TemporaryDirectory() as folder:
        DEVICES = stand_ins.StandIn(stand_ins.build(folder))
    import python_calls
    python_calls.load()
else:
    collect_ignore_glob = ["test_*"]


@pytest.fixture
def devices():
    return DEVICES


@pytest.fixture
def engine():
    """An emulated sm_80; each test may make it another."""
    from heed import _core
    emulated = stand_ins.Engine(_core)
    emulated.be(800)
    yield emulated
    emulated.arrays_are_wrong(False)
