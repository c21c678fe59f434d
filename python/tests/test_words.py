# test_words.py: what is wrong is called by the name that the caller's function has for it. Not here: that
# each of these is refused at all (test_errors.py and its neighbours).
import inspect

import pytest

torch = pytest.importorskip("torch")
import heed  # noqa: E402
from heed import _words, flash_attn, nn, sdpa, transformers  # noqa: E402
from heed.flash_attn import flash_attn_3, flash_attn_interface  # noqa: E402
from heed.flash_attn.modules.mha import FlashSelfAttention, SelfAttention  # noqa: E402
from heed.transformers import _flash  # noqa: E402

NAN = float("nan")
X = torch.ones(2, 4, 4, 8)  # both (B, S, H, D) and (B, H, S, D)
T = torch.ones(8, 4, 8)
CU = torch.tensor([0, 3, 8], dtype=torch.int32)
LONG = CU.long()
SLOPES = torch.ones(3)
RAGGED = (CU, CU, 5, 5)
FALLING = torch.tensor([0, 9, 8], dtype=torch.int32)
LSE = torch.zeros(2, 4, 4)

# (function, arguments, {argument: what is wrong with it, alone})
DENSE = {"softmax_scale": NAN, "softcap": "a", "window_size": (1.5, 2), "alibi_slopes": SLOPES, "dropout_p": 2.0}
RAGGED_TOO = DENSE | {"cu_seqlens_q": LONG, "cu_seqlens_k": FALLING, "max_seqlen_q": 2, "max_seqlen_k": "a"}
CACHE = {"softmax_scale": NAN, "window_size": "ab", "cache_seqlens": 5, "cache_batch_idx": LONG, "k": X[:, :1, :2],
         "rotary_cos": X, "block_table": CU, "alibi_slopes": SLOPES, "cache_leftpad": LONG}
THIRD = {"softmax_scale": NAN, "window_size": (1,), "attention_chunk": -1, "s_aux": SLOPES}
PRIVATE = {"softmax_scale": NAN, "dropout_p": 2.0, "alibi_slopes": SLOPES, "window_size_left": "a"}
PLAIN = {"scale": NAN, "dropout_p": 2.0, "attn_mask": torch.ones(3, 3), "key": X[..., :4], "threads": 0}
CALLS = {
    "flash_attn_func": (flash_attn.flash_attn_func, (X, X, X), DENSE | {"k": X[:1], "v": X[:, :2]}),
    "kvpacked": (flash_attn.flash_attn_kvpacked_func, (X, torch.stack((X, X), 2)), DENSE | {"kv": torch.stack((X, X), 2).half()}),
    "qkvpacked": (flash_attn.flash_attn_qkvpacked_func, (torch.stack((X, X, X), 2),), DENSE),
    "varlen": (flash_attn.flash_attn_varlen_func, (T, T, T, *RAGGED), RAGGED_TOO),
    "varlen kvpacked": (flash_attn.flash_attn_varlen_kvpacked_func, (T, torch.stack((T, T), 1), *RAGGED),
                        RAGGED_TOO | {"kv": torch.stack((T, T), 1)[..., :4]}),
    "varlen qkvpacked": (flash_attn.flash_attn_varlen_qkvpacked_func, (torch.stack((T, T, T), 1), CU, 5),
                         DENSE | {"cu_seqlens": LONG, "max_seqlen": 2}),
    "cache": (flash_attn.flash_attn_with_kvcache, (X[:, :1], X.clone(), X.clone()), CACHE),
    "_flash_attn_forward": (flash_attn_interface._flash_attn_forward,
                            (X, X, X, 0.0, None, False, -1, -1, 0.0, None, False), PRIVATE),
    "_flash_attn_varlen_forward": (flash_attn_interface._flash_attn_varlen_forward,
                                   (T, T, T, *RAGGED, 0.0, None, False), PRIVATE | {"seqused_k": LONG[:2]}),
    "_flash_attn_backward": (flash_attn_interface._flash_attn_backward,
                             (X, X, X, X, X, LSE, None, None, None, 0.0, None, False, -1, -1, 0.0, None, False),
                             {"softmax_scale": NAN, "softmax_lse": X, "out": X[:, :1], "window_size_right": "a"}),
    "flash-attn 3": (flash_attn_3.flash_attn_func, (X, X, X), THIRD),
    "flash-attn 3 varlen": (flash_attn_3.flash_attn_varlen_func, (T, T, T, *RAGGED), THIRD | {"cu_seqlens_q": LONG}),
    "flash-attn 3 cache": (flash_attn_3.flash_attn_with_kvcache, (X[:, :1], X.clone(), X.clone()),
                           THIRD | {"page_table": CU, "k": X[:, :1]}),
    "flash-attn 3 combine": (flash_attn_3.flash_attn_combine, (torch.ones(2, 1, 3, 2, 4), torch.ones(2, 1, 3, 2)),
                             {"out_partial": torch.ones(2, 1, 3, 2, 4).double()}),
    "transformers' flash": (_flash.flash_attn_func, (X, X, X, 0.0, None, False, (-1, -1), 0.0, None, False, False,
                                                     torch.ones(4)), {"softmax_scale": NAN, "s_aux": SLOPES}),
    "transformers' cache": (_flash.flash_attn_with_kvcache, (X[:, :1], X.clone(), X.clone()),
                            {"softmax_scale": NAN, "cache_seqlens": 5}),
    "sdpa": (sdpa.scaled_dot_product_attention, (X, X, X), PLAIN | {"is_causal": "a", "value": X[:, :, :2]}),
    "transformers": (transformers.attention_forward, (torch.nn.Module(), X, X, X, None),
                     {"scaling": NAN, "dropout": 2.0, "key": X[..., :4], "value": X[:, :, :2], "query": X[:, :3, :, :4], "softcap": NAN,
                      "attention_mask": torch.ones(1, 1, 3, 3, dtype=torch.bool), "position_bias": torch.ones(3, 3),
                      "sliding_window": 0, "threads": 0}),
    "MultiHeadAttention": (nn.MultiHeadAttention(32, 4).eval(), (torch.ones(2, 4, 32),),
                           {"attn_mask": torch.ones(3, 3), "key": torch.ones(2, 4, 3), "key_lengths": SLOPES}),
}


@pytest.mark.parametrize("name, argument", [(n, a) for n, (_, _, wrong) in CALLS.items() for a in wrong])
def test_names_are_the_callers(name, argument):
    function, given, wrong = CALLS[name]
    parameters = inspect.signature(getattr(function, "forward", function)).parameters
    bound = inspect.signature(getattr(function, "forward", function)).bind(*given)
    bound.arguments[argument] = wrong[argument]
    assert argument in parameters
    with pytest.raises(heed.Error) as caught:
        function(*bound.args, **bound.kwargs)
    said = str(caught.value)
    assert argument in said.split(": ")[0], said
    # None of heed's own names that the function does not have.
    table = {n for t in (_words.FLASH_ATTN_3, _words.SDPA, _words.TRANSFORMERS, _words.NN) for n in t}
    words = {w.strip(",.;()'") for w in said.replace("[", " ").split()}
    assert not (table & words) - set(parameters) - {"o", "a", "mask", "bias"}, said


@pytest.mark.parametrize("make, word", [
    (lambda: nn.MultiHeadAttention(32, 4, window=(-5, 0)), "window"),
    (lambda: nn.MultiHeadAttention(32, 4, softcap=NAN), "softcap"),
    (lambda: nn.MultiHeadAttention(32, 4, scale=NAN), "scale"),
    (lambda: SelfAttention(softmax_scale=NAN)(torch.stack((X, X, X), 2)), "softmax_scale"),
    (lambda: FlashSelfAttention(softmax_scale=NAN)(torch.stack((X, X, X), 2)), "softmax_scale"),
    (lambda: SelfAttention()(torch.stack((X, X, X), 2), key_padding_mask=torch.ones(2, 3)), "key_padding_mask")])
def test_of_modules(make, word):
    with pytest.raises(heed.Error, match=rf"^{word}\b"):
        make()


def test_things_that_are_no_names():
    words = {"mask": "attn_mask", "k": "key", "scale": "softmax_scale", "window": "window_size"}
    for said, expected in (
            ("k has the shape (2, 3)", "key has the shape (2, 3)"),
            ("the number of q's heads must be a multiple of k's", "the number of q's heads must be a multiple of key's"),
            ("a bool array is a mask", "a bool array is a mask"), ("window[0] is -5", "window_size[0] is -5"),
            ('align is "k": it must be', 'align is "k": it must be'), ("window_size is", "window_size is"),
            ("k_cache and mask.shape[-1]", "k_cache and attn_mask.shape[-1]"),
            ("scale is 'k'", "softmax_scale is 'k'")):
        assert _words.translated(said, words) == expected
    assert inspect.signature(flash_attn.flash_attn_varlen_qkvpacked_func).parameters["cu_seqlens"]
