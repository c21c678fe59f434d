# test_transformers_kernel.py: the folder for the kernels package, its functions, and (slow) the whole road
# in an environment of its own with versions that fit each other. Not here: flash-attn's functions.
import inspect
import json
import os
import subprocess
import sys
import sysconfig

import pytest

torch = pytest.importorskip("torch")
os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("transformers", minversion="5.0")

import heed  # noqa: E402
from heed.transformers import kernel_folder  # noqa: E402

# The latest transformers whose range of kernels versions holds one that PyPI has.
TRANSFORMERS, KERNELS = "5.22.2", "0.17.2"


def test_the_folder(tmp_path):
    value = kernel_folder(tmp_path / "k")
    assert value == kernel_folder(tmp_path / "k")  # its own files are replaced
    repositories = dict(part.split("=") for part in value.split(":"))
    assert set(repositories.values()) == {str(tmp_path / "k")}
    assert "kernels-community/flash-attn2" in repositories
    variant = tmp_path / "k" / "torch-cpu"
    assert json.loads((variant / "metadata.json").read_text())["backend"] == {"type": "cpu"}
    assert "heed" in (variant / "__init__.py").read_text()


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("x")
    for path, words in ((tmp_path / "theirs", "other files"), (tmp_path / "theirs" / "file", "other files"),
                        (tmp_path / "a:b", "separates"), (tmp_path / "a=b", "separates")):
        with pytest.raises(heed.Error, match=words):
            kernel_folder(path)


def test_the_command(tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "heed.transformers", *map(str, arguments)],
                              capture_output=True, text=True, check=False)

    done = run("kernel-folder", tmp_path / "k")
    assert done.returncode == 0 and done.stdout.startswith(
        "export LOCAL_KERNELS='kernels-community/flash-attn2=")
    done = run("demo", tmp_path / "nothing")
    assert done.returncode == 2 and "it must be a capture" in done.stderr


def plain(q, k, v, causal, sinks):
    q, k, v = (t.double().transpose(1, 2) for t in (q, k, v))
    s = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    if causal:  # bottom right
        seen = torch.ones(s.shape[-2:], dtype=torch.bool).tril(s.shape[-1] - s.shape[-2])
        s = s.masked_fill(~seen, -float("inf"))
    s = torch.cat([s, sinks.double().view(1, -1, 1, 1).expand(*s.shape[:3], 1)], -1)
    return (s.softmax(-1)[..., :-1] @ v).transpose(1, 2)


@pytest.fixture
def functions():
    pytest.importorskip("heed.flash_attn")
    from heed.transformers import _flash
    return _flash


def test_signatures_hide_nothing(functions):
    """transformers sends only what a signature names."""
    for name in ("flash_attn_func", "flash_attn_varlen_func", "flash_attn_with_kvcache"):
        parameters = inspect.signature(getattr(functions, name)).parameters
        assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values())
        theirs = inspect.signature(getattr(heed.flash_attn, name)).parameters
        assert list(parameters) == [*theirs, "s_aux"]
        assert all(parameters[p].default == theirs[p].default for p in theirs)


def test_sinks_and_lengths_as_tensors(functions):
    q, k, v = (torch.randn(2, n, 3, 8) for n in (5, 7, 7))
    sinks = torch.randn(3).bfloat16()
    none = torch.full((3,), -float("inf"))
    cu_q, cu_k = torch.tensor([0, 5, 10]), torch.tensor([0, 7, 14])
    for s_aux in (sinks, None):
        want = plain(q, k, v, True, none if s_aux is None else sinks)
        got = functions.flash_attn_func(q, k, v, causal=True, s_aux=s_aux)
        assert (got - want).abs().max() < 1e-5
        got = functions.flash_attn_varlen_func(
            *(t.flatten(0, 1) for t in (q, k, v)), cu_q, cu_k, torch.tensor(5), torch.tensor(7), causal=True,
            s_aux=s_aux)
        assert (got.view(2, 5, 3, 8) - want).abs().max() < 1e-5
        got = functions.flash_attn_with_kvcache(
            q, k, v, cache_seqlens=torch.tensor([7, 7]), causal=True, s_aux=s_aux)
        assert (got - want).abs().max() < 1e-5
    with pytest.raises(heed.Error, match="s_aux is given together with block_table"):
        functions.flash_attn_varlen_func(q[0], k[0], v[0], cu_q[:2], cu_k[:2], 5, 7, s_aux=sinks,
                                         block_table=torch.zeros(1, 1, dtype=torch.int32))


ROAD = """
import os, sys
import heed.transformers
os.environ["LOCAL_KERNELS"] = heed.transformers.kernel_folder(sys.argv[1])
os.environ["HF_HUB_OFFLINE"] = "1"
import copy, torch
import test_transformers as models
for make in (models.llama, models.mistral, models.gemma2, models.gpt_oss):
    models.register_plain()
    with heed.transformers.register():
        model, exact = models.pair(make)
        model.set_attn_implementation("flash_attention_2")
        assert model.config._attn_implementation.startswith("kernels-community/"), model.config._attn_implementation
        x, mask = models.words(2, 19), torch.ones(2, 19, dtype=torch.long)
        mask[0, :6] = 0
        models.close(*(m(x, attention_mask=mask, use_cache=False).logits[mask.bool()] for m in (model, exact)))
        a, b = (m.generate(x, attention_mask=mask, max_new_tokens=6, do_sample=False) for m in (model, exact))
        assert torch.equal(a, b)
        positions = torch.cat([torch.arange(7), torch.arange(12)])[None]
        packed = model(x[:1], position_ids=positions, use_cache=False).logits
        models.close(packed, torch.cat([exact(p, use_cache=False).logits for p in x[:1].split((7, 12), 1)], 1))
        loss = [m(x, labels=x, use_cache=False).loss for m in (model, exact)]
        [l.backward() for l in loss]
        models.gradients_agree(model, exact)
        print(make.__name__, "through", model.config._attn_implementation)
"""


@pytest.mark.slow
def test_flash_attention_2_resolves_to_heed(functions, tmp_path):
    """transformers 5.23 wants kernels 0.18.2 or later, which PyPI does not have; these two fit each other."""
    import venv
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    lib = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                         capture_output=True, text=True, check=True).stdout.strip()
    # What this process imports is there as well, behind what is installed.
    roots = [p for p in sys.path if p.endswith("site-packages")] + [sysconfig.get_path("purelib")]
    package = os.path.dirname(os.path.dirname(os.path.abspath(heed.__file__)))
    with open(os.path.join(lib, "outer.pth"), "w", encoding="utf-8") as f:
        f.write("\n".join(dict.fromkeys([*roots, package])))
    install = subprocess.run([python, "-m", "pip", "install", "-q", f"transformers=={TRANSFORMERS}",
                              f"kernels=={KERNELS}"], capture_output=True, text=True, check=False)
    if install.returncode:
        pytest.skip(
            f"transformers {TRANSFORMERS} and kernels {KERNELS} cannot be had: {install.stderr[-300:]}")
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    done = subprocess.run([python, "-c", ROAD, tmp_path / "kernel"], capture_output=True, text=True, check=False,
                          env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("through kernels-community/") == 4
