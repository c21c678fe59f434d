# test_verify.py: `python -m heed.verify` tells right from wrong. Not here: whether heed is right.
import importlib.util
import json
import sys

import pytest

import heed
from heed.verify import __main__ as command
from heed.verify import _check, cases, verify


@pytest.fixture
def few(monkeypatch):
    """Some of the cases, for the tests' time."""
    sample = [c for c in cases.attention() if "37 x 70" in c.name and ("dropout" in c.name or "bias" in c.name)]
    steps = list(cases.decode())
    monkeypatch.setattr(cases, "attention", lambda: sample)
    monkeypatch.setattr(cases, "decode", lambda: steps)


def test_everything_on_one_instruction_set():
    results, not_here = verify(only="scalar", pytorch=False)
    assert {(r.where, r.what) for r in results} == {("cpu:scalar", w) for w in ("forward", "backward", "decode")}
    assert {r.dtype for r in results} == {"f32", "f16", "bf16"}
    assert not [f for r in results for f in r.failed]
    assert all(r.checks >= 20 and 0 < r.worst < 1 for r in results)
    assert all(": " in line for line in not_here)


def test_json(few, capsys):
    assert command.main(["--json", "--no-pytorch"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["right"] and "works on this machine" in said["verdict"]
    assert {r["where"] for r in said["results"]} >= {"reference", "cpu:scalar"}


@pytest.mark.parametrize("name, wrong", [
    ("attention", lambda out: (out[0] * 1.01, *out[1:])), ("attention", lambda out: (out[0], out[1] + 1e-3, *out[2:])),
    ("attention_backward", lambda out: (out[0], out[1], out[2] * 1.01)), ("decode", lambda out: (out[0] * 1.02, out[1]))])
def test_what_is_wrong_is_seen(few, monkeypatch, capsys, name, wrong):
    real = getattr(heed, name)

    def broken(*args, **options):
        out = real(*args, **options)
        return out if options["backend"] == "reference" or args and args[0].dtype != "float32" else wrong(out)

    monkeypatch.setattr(heed, name, broken)
    assert command.main(["--no-pytorch", "--only", "scalar"]) == 1
    said = capsys.readouterr().out
    assert "computes WRONG results" in said and "times what rounding allows" in said


def test_not_a_number_is_wrong():
    result = _check.Result("here", "f32", "forward")
    result.add("nan", [float("nan")], [1.0], 1.0)
    result.add("shape", [[1.0]], [1.0], 1.0)
    result.add("both", [float("nan"), float("inf")], [float("nan"), float("inf")], 1.0)
    assert len(result.failed) == 2 and result.checks == 3


def test_refusals_without_rich_and_ml_dtypes(few, monkeypatch, capsys):
    for name in ("rich", "rich.console", "rich.table"):
        monkeypatch.setitem(sys.modules, name, None)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name, *a: None if name in ("ml_dtypes", "torch") else real(name, *a))

    def refuse(*args, **options):
        raise heed.Error("no such option")

    monkeypatch.setattr(heed, "decode", refuse)
    assert command.main(["--only", "scalar"]) == 1
    said = capsys.readouterr().out
    assert "refused: no such option" in said and "install ml_dtypes" in said and "verdict" in said


def test_nothing_fits(few, capsys):
    assert command.main(["--only", "no such backend"]) == 1
    assert "Nothing was checked" in capsys.readouterr().out


def test_through_pytorch():
    pytest.importorskip("torch")
    made = {}
    _check._pytorch(lambda *key: made.setdefault(key, _check.Result(*key)))
    (result,) = made.values()
    assert result.checks == 8 and not result.failed
