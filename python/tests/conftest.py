# conftest.py: fixtures of all tests of the package. Not here: arrays and their comparison (arrays.py).
import hypothesis
import numpy as np
import pytest

# Numbers that a failure names are found again: the tests of a release must not depend on luck.
hypothesis.settings.register_profile("heed", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("heed")


@pytest.fixture(params=["numpy", "torch"])
def library(request):
    if request.param == "torch":
        pytest.importorskip("torch")
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20)
