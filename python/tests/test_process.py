# test_process.py: the package in a process: imports, fork, threads, the GIL, leaks, stubs, docstrings.
import ast
import inspect
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import heed

PACKAGE = os.path.dirname(heed.__file__)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_numpy_alone():
    """Neither importing nor computing imports PyTorch or JAX, even where they are installed."""
    run("import sys, numpy as np, heed\n"
        "x = np.ones((1, 4, 2, 8), np.float32)\n"
        "heed.attention(x, x, x, causal=True); heed.explain(x, x, x); heed.decode(x, x, x); heed.merge([x], [x[..., 0].transpose(0, 2, 1).copy()])\n"
        "assert not {'torch', 'jax', 'ml_dtypes'} & set(sys.modules), sorted(sys.modules)")


def test_heed_before_torch():
    pytest.importorskip("torch")
    run("import heed, torch\n"
        "q = torch.randn(1, 3, 2, 8)\n"
        "f = torch.compile(lambda q: heed.attention(q, q, q, causal=True), fullgraph=True, backend='aot_eager')\n"
        "assert torch.equal(f(q), heed.attention(q, q, q, causal=True))")


def test_no_second_pool():
    """libgomp and BLAS are not among what the extension links."""
    done = subprocess.run(["ldd", heed._core.__file__], capture_output=True, text=True, check=True)
    assert "gomp" not in done.stdout and "blas" not in done.stdout


def test_fork():
    """A child of a process whose pool is awake computes, and the same bits."""
    out = run("import os, sys, numpy as np, heed\n"
              "x = np.random.default_rng(0).standard_normal((2, 300, 4, 64)).astype(np.float32)\n"
              "before = heed.attention(x, x, x)\n"
              "for _ in range(3):\n"
              "    child = os.fork()\n"
              "    if child == 0:\n"
              "        ok = np.array_equal(heed.attention(x, x, x), before)\n"
              "        draws = heed.attention(x[:, :9], x[:, :9], x[:, :9], dropout_p=0.5).tobytes()\n"
              "        os.write(1, (str(ok) + ' ' + str(hash(draws)) + '\\n').encode()); os._exit(0)\n"
              "    os.waitpid(child, 0)\n"
              "assert np.array_equal(heed.attention(x, x, x), before)\n")
    lines = out.split("\n")[:3]
    assert all(line.startswith("True") for line in lines)
    assert len({line.split()[1] for line in lines}) == 3, "children draw different seeds"


def test_threads():
    """Many threads at once, each with its own shapes: the same bits as alone."""
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((1, n, 2, 32)).astype(np.float32) for n in (5, 33, 64, 120)]
    alone = [heed.attention(x, x, x, causal=True) for x in inputs]
    wrong = []

    def work(x, expected):
        for _ in range(50):
            if not np.array_equal(heed.attention(x, x, x, causal=True), expected):
                wrong.append(x.shape)
    threads = [threading.Thread(target=work, args=pair) for pair in list(zip(inputs, alone)) * 2]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_daemon_threads_do_not_end_the_process():
    """Those that compute while the interpreter shuts down neither abort it nor touch Python again."""
    for _ in range(3):
        run("import threading, time, numpy as np, heed\n"
            "x = np.random.default_rng(0).standard_normal((1, 500, 4, 64)).astype(np.float32)\n"
            "def work():\n"
            "    while True:\n"
            "        out, lse = heed.attention(x, x, x, threads=1, return_lse=True)\n"
            "        heed.merge([out] * 9, [lse] * 9)\n"
            "for _ in range(3): threading.Thread(target=work, daemon=True).start()\n"
            "time.sleep(0.2)\n")


def test_loading_the_extension_again():
    """Errors are those that the package already has."""
    run("import importlib, sys, warnings, numpy as np, heed\n"
        "warnings.simplefilter('ignore')\n"
        "del sys.modules['heed._core']; importlib.import_module('heed._core')\n"
        "x = np.ones((1, 4, 2, 8), np.float32)\n"
        "try: heed.attention(x, x, x, scale=float('nan'))\n"
        "except heed.Error: sys.exit(0)\n"
        "sys.exit('no error')")


def test_pytorch_that_is_too_old():
    """It is let alone: NumPy's arrays are computed on, tensors get a sentence."""
    run("import sys, types, numpy as np\n"
        "torch = types.ModuleType('torch'); torch.__version__ = '2.4.1'\n"
        "torch.Tensor = type('Tensor', (), {}); torch.library = types.ModuleType('torch.library')\n"
        "sys.modules |= {'torch': torch, 'torch.library': torch.library}\n"
        "import heed\n"
        "x = np.ones((1, 4, 2, 8), np.float32)\n"
        "out, lse = heed.attention(x, x, x, return_lse=True); heed.decode(x, x, x); heed.explain(x, x, x)\n"
        "heed.merge([out], [lse]); heed.attention_backward(out, x, x, x, out, lse)\n"
        "try: heed.attention(torch.Tensor(), x, x)\n"
        "except ImportError as error: assert '2.5 and later, and this is PyTorch 2.4.1' in str(error), error\n"
        "else: sys.exit('no error')")


def test_the_gil_is_free_while_computing():
    """Python counts on in another thread during one long call."""
    x = np.random.default_rng(0).standard_normal((1, 3000, 4, 64)).astype(np.float32)
    counted, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)
    counter = threading.Thread(target=count)
    counter.start()
    heed.attention(x, x, x, threads=1)  # warm: the workspace is there
    before = counted[0]
    heed.attention(x, x, x, threads=1)
    during = counted[0] - before
    stop.set()
    counter.join()
    assert during > 5


def test_nothing_leaks():
    code = ("import gc, resource, sys, numpy as np, heed\n"
            "q = np.ones((1, 64, 4, 64), np.float32)\n"
            "m = np.ones((64, 64), bool)\n"
            "def work(n):\n"
            "    for i in range(n):\n"
            "        o, l = heed.attention(q, q, q, mask=m, return_lse=True)\n"
            "        heed.attention_backward(o, q, q, q, o, l, mask=m)\n"
            "        try: heed.attention(q, q, q, scale=float('nan'))\n"
            "        except heed.Error: pass\n"
            "        try: heed.attention(q, q, [1])\n"
            "        except heed.Error: pass\n"
            "        str(heed.explain(q, q, q))\n"
            "work(200); gc.collect()\n"
            "references, kept = sys.getrefcount(q), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "work(2000); gc.collect()\n"
            "assert sys.getrefcount(q) == references\n"
            "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - kept\n"
            "assert grown < 4000, f'{grown} KiB more'\n"  # 2 KiB a call would be 4000
            "q.resize((2, 64, 4, 64), refcheck=False)\n")  # fails where a buffer is still held
    run(code)


def test_torch_leaks_nothing():
    pytest.importorskip("torch")
    run("import gc, torch, heed\n"
        "x = torch.randn(1, 32, 2, 16, requires_grad=True)\n"
        "def work(n):\n"
        "    for _ in range(n):\n"
        "        heed.attention(x, x, x, dropout_p=0.1).sum().backward()\n"
        "        with torch.no_grad(): heed.attention(x, x, x)\n"
        "        x.grad = None\n"
        "count = lambda: sum(isinstance(o, torch.Tensor) for o in gc.get_objects())\n"
        "work(20); gc.collect(); before = count(); work(200); gc.collect()\n"
        "assert count() <= before, (before, count())\n")


def test_subinterpreter():
    """Refused or working, but no crash."""
    run("import sys\n"
        "try:\n"
        "    import _interpreters as i\n"
        "    def go(): s = i.create(); i.exec(s, 'import heed._core')\n"
        "except ImportError:\n"
        "    import _xxsubinterpreters as i\n"
        "    def go(): s = i.create(); i.run_string(s, 'import heed._core')\n"
        "import heed\n"
        "try: go()\n"
        "except Exception as e: print(e)\n")


def test_stub_says_what_the_extension_takes():
    with open(os.path.join(PACKAGE, "_core.pyi"), encoding="utf-8") as f:
        tree = ast.parse(f.read())
    stubs = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    public = {n for n in dir(heed._core) if not n.startswith("_")}
    assert public <= set(stubs), public - set(stubs)
    names = [a.arg for a in stubs["attention"].args.args]
    assert names[:4] == ["q", "k", "v", "scale"] and names[-1] == "heads_first"
    # The package's own keywords are those of the extension, in its order.
    mine = [n for n in inspect.signature(heed.attention).parameters]
    assert [n for n in names if n in mine] == [n for n in mine if n not in ("return_lse", "return_probs", "backend", "threads")] + ["backend", "threads", "return_lse", "return_probs"]
    assert os.path.exists(os.path.join(PACKAGE, "py.typed"))


def test_the_signature_is_the_documented_one():
    text = str(inspect.signature(heed.attention).replace(
        parameters=[p.replace(annotation=p.empty) for p in inspect.signature(heed.attention).parameters.values()],
        return_annotation=inspect.Signature.empty))
    assert text == (
        "(q, k, v, *, scale=None, causal=False, align='bottom_right', query_offset=None, window=(-1, -1), prefix=0, "
        "chunk=0, softcap=0.0, alibi_slopes=None, bias=None, mask=None, block_map=None, block_size=None, sinks=None, "
        "key_lengths=None, cu_seqlens_q=None, cu_seqlens_k=None, max_seqlen_q=None, max_seqlen_k=None, dropout_p=0.0, "
        "seed=None, offset=0, return_lse=False, return_probs=False, backend=None, threads=None)")


@pytest.mark.parametrize("name", heed.__all__)
def test_docstrings(name):
    thing = getattr(heed, name)
    if name == "__version__":
        assert thing.count(".") == 2
    elif inspect.isfunction(thing):
        assert thing.__doc__ and (name == "show_config" or "Raises" in thing.__doc__)
        for option in inspect.signature(thing).parameters:
            if name in ("attention",):
                assert option in thing.__doc__, option
    else:
        assert thing.__doc__
