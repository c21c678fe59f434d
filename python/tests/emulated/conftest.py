# conftest.py: CUDA devices that are none for the tests of this folder, where a process is set up for them:
# HEED_EMULATED_PACKAGE names the folder of a package whose extension has the emulated device
# (heed_python_emulated in python/CMakeLists.txt). Elsewhere there is nothing here to test.
import sys
import tempfile

import pytest
import stand_in as stand_ins

if stand_ins.PACKAGE:
    sys.path.insert(0, stand_ins.PACKAGE)
    with tempfile.TemporaryDirectory() as folder:
        DEVICES = stand_ins.StandIn(stand_ins.build(folder))
else:
    collect_ignore_glob = ["test_*"]


@pytest.fixture
def devices():
    return DEVICES


@pytest.fixture
def engine():
    """An emulated sm_80; each test may make it another."""
    from heed import _core
    library = stand_ins.engine(_core)
    library.heed_emulated_be(800)
    yield library
    library.heed_emulated_be(800)
    library.heed_emulated_arrays_are_wrong(0)
