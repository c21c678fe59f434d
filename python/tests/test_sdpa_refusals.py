# test_sdpa_refusals.py: heed.sdpa: bad input, every reason at once, the backends of a context, can_use. Not
# here: numbers (test_sdpa.py).
import threading
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.attention import SDPBackend  # noqa: E402
from torch.nn.attention.bias import causal_lower_right  # noqa: E402

import heed  # noqa: E402
from heed import sdpa  # noqa: E402
from heed.sdpa import scaled_dot_product_attention as attend  # noqa: E402

Q, K, V = (torch.randn(2, 6, s, 8) for s in (5, 7, 7))
NESTED = torch.nested.nested_tensor([torch.randn(3, 2, 8), torch.randn(4, 2, 8)], layout=torch.jagged)

BAD = [
    (dict(query=Q.numpy()), ["query is a ndarray: it must be a PyTorch tensor"]),
    (dict(key=[1.0]), ["key is a list"]),
    (dict(attn_mask=np.ones((5, 7), bool)), ["attn_mask is a ndarray"]),
    (dict(value=V.to_sparse()), ["value has the layout torch.sparse_coo"]),
    (dict(query=NESTED, key=NESTED), ["query is a nested tensor", "key is a nested tensor", "cu_seqlens_q"]),
    (dict(query=Q.to("meta")), ["query lives on 'meta', key lives on 'cpu'", "they must be on one device"]),
    (dict(attn_mask=torch.ones(5, 7, device="meta")), ["attn_mask lives on 'meta': they must be on one device"]),
    (dict(value=V[..., :0]), ["from 1 to 1024"]),
    (dict(key=K.bfloat16()), ["query is float32, key is bfloat16, value is float32: they must have one dtype"]),
    (dict(query=Q.int(), key=K.int(), value=V.int()), ["query is int32: it must be float32, bfloat16 or float16"]),
    (dict(query=Q.double(), key=K.double(), value=V.double()),
     ["cpu: dtype is f64", "the reference backend would serve it if asked by name"]),
    (dict(query=Q[0, 0, 0]), ["query has the shape (8,): it must have at least 2 axes"]),
    (dict(query=Q[0, 0], enable_gqa=True), ["query has the shape (5, 8): it must have at least 3 axes"]),
    (dict(query=Q[..., :4]), ["query has 4 columns and key 8: they must have as many (E)"]),
    (dict(value=V[:, :, :6]), ["key has 7 rows and value 6: they must have as many (S)"]),
    (dict(key=K[:, :2], value=V[:, :2]), ["query leads with (2, 6), key with (2, 2)", "enable_gqa=True lets heads"]),
    (dict(key=K[:, :4], value=V[:, :4], enable_gqa=True), ["query has 6 heads and key 4", "must be a multiple"]),
    (dict(key=K[:, :2], value=V[:, :3], enable_gqa=True), ["key has 2 heads and value 3"]),
    (dict(key=K.repeat(2, 1, 1, 1)), ["query leads with (2, 6), key with (4, 6), value with (2, 6)"]),
    (dict(attn_mask=torch.ones(5, 7, dtype=torch.int64)), ["attn_mask is int64: it must be bool, float32 or the"]),
    (dict(attn_mask=torch.ones(5, 7, dtype=torch.float64)), ["attn_mask is float64"]),
    (dict(attn_mask=torch.ones(5, 8)), ["attn_mask has the shape (5, 8): it must be broadcastable to (2, 6, 5, 7)"]),
    (dict(attn_mask=torch.ones(1, 2, 6, 5, 7)), ["attn_mask has the shape (1, 2, 6, 5, 7)"]),
    (dict(attn_mask=torch.ones(5, 7), is_causal=True), ["attn_mask is given and is_causal is True"]),
    (dict(attn_mask=causal_lower_right(5, 6)), ["causal bias of 5 queries by 6 keys: query and key have 5 and 7"]),
    (dict(attn_mask=causal_lower_right(5, 7), is_causal=True), ["attn_mask is given and is_causal is True"]),
    (dict(dropout_p=None), ["dropout_p is a NoneType: it must be a number from 0 to 1"]),
    (dict(is_causal="yes"), ["is_causal is a str: it must be True or False"]),
    (dict(is_causal=None), ["is_causal is a NoneType"]),
    (dict(dropout_p=1.5), ["dropout_p is 1.5: it must be from 0 to 1"]),
    (dict(dropout_p=-0.1), ["dropout_p is -0.1"]),
    (dict(dropout_p=float("nan")), ["dropout_p is nan"]),
    (dict(scale=float("nan")), ["scale is nan"]),
    (dict(scale=float("inf")), ["scale is inf"]),
    (dict(query=Q.repeat(1, 1, 1, 200), key=K.repeat(1, 1, 1, 200)), ["1600: it must be from 1 to 1024"]),
    (dict(query=Q[..., :0], key=K[..., :0]), ["D is 0: it must be from 1 to 1024"]),
    (dict(backend="gpu"), ["backend is 'gpu': it must be one of cpu, reference, cuda, cpu:"]),
    (dict(backend="cpu:mmx"), ["backend is 'cpu:mmx'"]),
    (dict(backend=7), ["backend is a int: it must be a name"]),
    (dict(backend=SDPBackend.CUDNN_ATTENTION), ["backend is SDPBackend.CUDNN_ATTENTION", "FLASH_ATTENTION"]),
    (dict(backend="cuda"), ["the cuda backend refuses: this build has no CUDA kernels"]),
    (dict(threads=0), ["threads is 0"]),
]


@pytest.mark.parametrize("change,words", BAD, ids=[str(sorted(c)) + w[0][:30] for c, w in BAD])
def test_bad_input(change, words):
    if change.get("backend") == "cuda" and sdpa.can_use(Q, K, V, backend="cuda"):
        pytest.skip("this build has CUDA kernels")
    arguments = {"query": Q, "key": K, "value": V, **change}
    with pytest.raises(heed.Error) as error:
        attend(**arguments)
    for word in words:
        assert word in str(error.value)


def test_wrong_types_are_type_errors():
    for change in (dict(query=Q.numpy()), dict(backend=7), dict(attn_mask=3)):
        with pytest.raises(TypeError):
            attend(**{"query": Q, "key": K, "value": V, **change})


def test_every_reason_at_once():
    with pytest.raises(heed.Error) as error:
        attend(Q[..., :4], K.half(), V[:, :, :3], torch.ones(4, 4, dtype=torch.int8), dropout_p=7, is_causal=True,
               scale=float("nan"))
    said = str(error.value)
    assert said.startswith("6 reasons: (1) ")
    for part in ("one dtype", "attn_mask is int8", "query has 4 columns and key 8", "key has 7 rows and value 3",
                 "dropout_p is 7", "scale is nan"):
        assert part in said


def test_refusal_of_several_backends_lists_each():
    wide = torch.randn(1, 1, 2, 8, dtype=torch.float64)
    with sdpa.backends(["cpu", "cuda"]), pytest.raises(heed.Error) as error:
        attend(wide, wide, wide)
    assert "2 reasons: (1) the cpu backend refuses: dtype is f64" in str(error.value)
    assert "(2) the cuda backend refuses" in str(error.value)


def test_contexts():
    q = torch.randn(1, 1, 2, 8, dtype=torch.float64)
    assert sdpa.current_backends() == ("auto",)
    with sdpa.backends(sdpa.Backend.REFERENCE) as names:
        assert names == sdpa.current_backends() == ("reference",)
        assert attend(q, q, q).dtype == torch.float64
        with sdpa.backends(["cpu"]), pytest.raises(heed.Error, match="dtype is f64"):
            attend(q, q, q)
        assert sdpa.current_backends() == ("reference",)
    assert sdpa.current_backends() == ("auto",)
    with sdpa.backends(["reference", "cpu", "cpu"]):
        assert sdpa.current_backends() == ("cpu", "reference")  # not in the order given
    with sdpa.backends(["reference", "cpu"], set_priority=True):
        assert sdpa.current_backends() == ("reference", "cpu")
        exact = attend(Q, K, V)
    assert torch.equal(exact, attend(Q, K, V, backend="reference"))
    assert not torch.equal(exact, attend(Q, K, V, backend="cpu"))
    with sdpa.backends([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]):
        assert sdpa.current_backends() == ("cpu", "reference")
    with sdpa.backends([]), pytest.raises(heed.Error, match="no backend is enabled"):
        attend(Q, K, V)
    for bad in ("gpu", ["cpu", 3], 3, None, [SDPBackend.EFFICIENT_ATTENTION]):
        with pytest.raises(heed.Error):
            sdpa.backends(bad)


def test_a_context_ends_with_an_exception():
    with pytest.raises(KeyError), sdpa.backends("reference"):
        raise KeyError
    assert sdpa.current_backends() == ("auto",)


def test_contexts_belong_to_their_thread():
    seen, ready, leave = [], threading.Event(), threading.Event()

    @sdpa.backends("reference")
    def inside(depth=2):
        seen.append(sdpa.current_backends())
        if depth:
            return inside(depth - 1)
        ready.set()
        leave.wait(10)

    thread = threading.Thread(target=inside)
    thread.start()
    assert ready.wait(10)
    assert sdpa.current_backends() == ("auto",)
    with sdpa.backends("cpu"):
        leave.set()
        thread.join()
        assert sdpa.current_backends() == ("cpu",)
    assert seen == [("reference",)] * 3 and sdpa.current_backends() == ("auto",)


def test_compiled_code_follows_the_context():
    compiled = torch.compile(lambda q: attend(q, q, q), fullgraph=True, backend="aot_eager")
    usual = compiled(Q)
    with sdpa.backends("reference"):
        exact = compiled(Q)
    assert torch.equal(usual, attend(Q, Q, Q)) and torch.equal(exact, attend(Q, Q, Q, backend="reference"))
    assert torch.equal(compiled(Q), usual)

    def within(q):
        with sdpa.backends("reference"):
            return attend(q, q, q)

    assert torch.equal(torch.compile(within, fullgraph=True, backend="aot_eager")(Q), exact)
    assert sdpa.current_backends() == ("auto",)


def test_can_use_and_reasons():
    wide = torch.randn(2, 6, 5, 8, dtype=torch.float64, requires_grad=True)
    assert sdpa.can_use(Q, K, V) and sdpa.reasons(Q, K, V)["cpu"] == []
    assert not sdpa.can_use(wide, wide, wide) and sdpa.can_use(wide, wide, wide, backend="reference")
    with sdpa.backends(["cpu", "reference"]):
        assert sdpa.can_use(wide, wide, wide)
    found = sdpa.reasons(wide, wide, wide)
    assert set(found) == {name for name, *_ in heed._core.backends()}
    assert found["reference"] == [] and "dtype is f64" in found["cpu"][0]
    assert sdpa.can_use(*(t.to("meta") for t in (Q, K, V)), torch.ones(5, 7, device="meta"))
    both = sdpa.reasons(Q, K, V, torch.ones(5, 7), is_causal=True, dropout_p=2, backend="cpu")
    assert list(both) == ["cpu"] and len(both["cpu"]) == 2
    with pytest.warns(UserWarning) as warned:
        assert not sdpa.can_use(Q, K, V, torch.ones(5, 7), is_causal=True, dropout_p=2, debug=True)
    assert len(warned) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sdpa.can_use(Q, K, V, debug=True)
