# test_calls.py: what `make gpu-test` runs of the package on a GPU (tests/gpu/python_calls.py), on emulated
# devices: the kernels are the GPU's, PyTorch's operators and autograd threads are real. Not here: streams and
# devices as heed takes them (test_device.py).
import pytest
import python_calls
import torch

DEVICE = torch.device("cuda", 0)
# Of streams and graphs there are none here; the emulator computes for one thread; memory is the host's.
NOT_HERE = {"check_streams", "check_graphs", "check_threads", "check_memory", "check_override"}
CHECKS = [check for check in python_calls.CHECKS if check.__name__ not in NOT_HERE]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check(check, engine):
    # Rows of no sequence are nobody's to write, which the emulator would take for a mistake.
    engine.arrays_are_wrong(check is python_calls.check_rows_of_none)
    check(DEVICE)
    assert engine.taken == 0, "the library took memory that PyTorch should have given"


def test_turing(engine):
    engine.be(750)
    q, k, v = python_calls.qkv(DEVICE, torch.float16, grad=True)
    out = python_calls.heed.attention(q, k, v, causal=True)
    grads = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
    python_calls.judge(q, k, v, out, None, grads, torch.ones_like(out), causal=True)
    with pytest.raises(python_calls.heed.Error, match="sm_75 does not multiply bf16"):
        python_calls.heed.attention(*(t.to(torch.bfloat16) for t in (q, k, v)))


def test_a_check_finds_what_is_wrong(engine):
    """The judge of all of these, and the ban on waiting, must be able to fail."""
    q, k, v = python_calls.qkv(DEVICE)
    out = python_calls.heed.attention(q, k, v)
    python_calls.judge(q, k, v, out)
    wrong = out.clone()
    wrong[1, 3, 2, 5] += 0.01
    with pytest.raises(AssertionError, match=r"out\[1\]\[3, 2, 5\] is"):
        python_calls.judge(q, k, v, wrong)
    for waits in (lambda: q.sum().item(), lambda: q.cpu(), lambda: q.nonzero(), lambda: torch.equal(q, q),
                  lambda: bool((q == q).all()), lambda: torch.tensor([1.0], device=DEVICE)):
        with pytest.raises(RuntimeError, match="synchronizing"), python_calls.nothing_waits(DEVICE):
            waits()
