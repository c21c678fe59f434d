# _private.py: the names with an underscore that ring attention, Megatron-LM, TransformerEngine and
# diffusers import from flash-attn. Not here: the public functions (flash_attn_interface.py).
import torch
from torch import Tensor

from .. import _torch
from .._core import ArgumentTypeError, Error
from .._words import FLASH_ATTN, FLASH_ATTN_PRIVATE, spoken
from ._call import attend, bounds, cap, hidden_lse, length, round_up, tensor
from ._ragged import attend_ragged, covered


def maybe_contiguous(x: Tensor | None) -> Tensor | None:
    """x with a last stride of 1; None stays None."""
    return None if x is None else tensor("x", x)


def round_multiple(x: int, m: int) -> int:
    """x rounded up to a multiple of m."""
    return -(-x // m) * m


def _get_block_size_n(device: torch.device | str | None, head_dim: int, is_dropout: bool,
                      is_causal: bool) -> int:
    """How many keys a block of S_dmask covers: all of them, for heed gives exp(s − row maximum)."""
    return 1 << 30


def _forward(run, q, dropout_p, return_softmax):
    """(out, lse, S_dmask, rng_state) of a call that takes return_attn_probs and rng."""
    with torch.no_grad():
        rng = _torch.draw_rng(q) if dropout_p else torch.zeros(2, dtype=torch.int64)
        out, lse, probs = run(bool(return_softmax), rng if dropout_p else None)
        return out, lse, probs, rng


@spoken(FLASH_ATTN_PRIVATE)
def _flash_attn_forward(q: Tensor, k: Tensor, v: Tensor, dropout_p: float, softmax_scale: float | None,
                        causal: bool, window_size_left: int, window_size_right: int, softcap: float,
                        alibi_slopes: Tensor | None,
                        return_softmax: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(out, softmax_lse, S_dmask, rng_state): no gradient; rng_state int64 (2,) = (seed, offset)."""
    return _forward(
        lambda probs, rng: attend(q, k, v, dropout_p, softmax_scale, causal,
                                  (window_size_left, window_size_right), softcap, alibi_slopes, True,
                                  rng=rng, want_probs=probs),
        q, dropout_p, return_softmax)


@spoken(FLASH_ATTN_PRIVATE)
def _flash_attn_varlen_forward(q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor,
                               cu_seqlens_k: Tensor, max_seqlen_q: int | Tensor,
                               max_seqlen_k: int | Tensor, dropout_p: float, softmax_scale: float | None,
                               causal: bool, window_size_left: int = -1, window_size_right: int = -1,
                               softcap: float = 0.0, alibi_slopes: Tensor | None = None,
                               return_softmax: bool = False, block_table: Tensor | None = None,
                               leftpad_k: Tensor | None = None, seqused_k: Tensor | None = None,
                               zero_tensors: bool = False,
                               num_splits: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As _flash_attn_forward, ragged. leftpad_k, seqused_k: int32 (B,), keys leftpad_k[b] …
    seqused_k[b] − 1 of each slot count. zero_tensors: rows of no sequence are 0 always."""
    return _forward(
        lambda probs, rng: attend_ragged(
            q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, softmax_scale,
            causal, (window_size_left, window_size_right), softcap, alibi_slopes, True, block_table,
            leftpad_k, seqused_k, rng=rng, want_probs=probs),
        q, dropout_p, return_softmax)


def _rng(dropout_p, rng_state):
    if not dropout_p:
        return None
    if rng_state is None:
        raise Error(f"rng_state is None and dropout_p {dropout_p}: the backward needs the rng_state that "
                    "the forward returned")
    if not isinstance(rng_state, Tensor) or rng_state.dtype != torch.int64 or rng_state.shape != (2,):
        raise ArgumentTypeError(f"rng_state is {rng_state!r}: it must be an int64 tensor (2,), (seed, "
                                "offset)")
    return rng_state


@spoken(FLASH_ATTN)
def _backward(*arguments):
    return torch.ops.heed.attention_backward(*arguments)


def _gradients(dout, q, k, v, out, softmax_lse, into, dropout_p, softmax_scale, causal, window, softcap,
               rng_state, alibi_slopes=None, cu_seqlens_q=None, cu_seqlens_k=None, max_seqlen_q=None,
               max_seqlen_k=None):
    named = dict(dout=dout, q=q, k=k, v=v, out=out, softmax_lse=softmax_lse)
    tensors = {n: tensor(n, x).detach() for n, x in named.items()}
    _torch._check_tensors({**tensors, "alibi_slopes": alibi_slopes, "cu_seqlens_q": cu_seqlens_q,
                           "cu_seqlens_k": cu_seqlens_k})
    left, right = bounds(window)
    dout, q, k, v, out, lse = tensors.values()
    with torch.no_grad():
        *grads, _, _ = _backward(
            dout, None, q, k, v, out, hidden_lse(lse), None, None, None, alibi_slopes, None, None, None,
            cu_seqlens_q, cu_seqlens_k, _rng(dropout_p, rng_state), softmax_scale, bool(causal),
            "bottom_right", None, left, right, 0, 0, cap(softcap), 0, 0, max_seqlen_q, max_seqlen_k,
            dropout_p, None, None, False, False)
        for name, target, grad in zip(("dq", "dk", "dv"), into, grads):
            if target is None:
                continue
            if target.shape != grad.shape:
                raise Error(f"{name} has the shape {tuple(target.shape)}: it must be {tuple(grad.shape)}")
            target.copy_(grad)
        return torch.linalg.vecdot(dout.float(), out.float())  # the rows of softmax_d, head last


@spoken(FLASH_ATTN_PRIVATE)
def _flash_attn_backward(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, softmax_lse: Tensor,
                         dq: Tensor | None, dk: Tensor | None, dv: Tensor | None, dropout_p: float,
                         softmax_scale: float | None, causal: bool, window_size_left: int,
                         window_size_right: int, softcap: float, alibi_slopes: Tensor | None,
                         deterministic: bool, rng_state: Tensor | None = None) -> Tensor:
    """Writes dq, dk and dv (each may be None); returns softmax_d = Σ dout · out, float32 (B, H, Sq rounded
    up to a multiple of 128)."""
    rows = _gradients(dout, q, k, v, out, softmax_lse, (dq, dk, dv), dropout_p, softmax_scale, causal,
                      (window_size_left, window_size_right), softcap, rng_state, alibi_slopes)
    return torch.nn.functional.pad(rows.transpose(1, 2), (0, round_up(q.shape[1]) - q.shape[1]))


@spoken(FLASH_ATTN_PRIVATE)
def _flash_attn_varlen_backward(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor,
                                softmax_lse: Tensor, dq: Tensor | None, dk: Tensor | None,
                                dv: Tensor | None, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor,
                                max_seqlen_q: int | Tensor, max_seqlen_k: int | Tensor, dropout_p: float,
                                softmax_scale: float | None, causal: bool, window_size_left: int,
                                window_size_right: int, softcap: float, alibi_slopes: Tensor | None,
                                deterministic: bool, rng_state: Tensor | None = None,
                                zero_tensors: bool = False) -> Tensor:
    """As _flash_attn_backward, ragged; softmax_d is (H, Tq + 128 B), entry b from cu_seqlens_q[b] + 128 b."""
    ragged, _ = covered(tensor("q", q), tensor("k", k), cu_seqlens_q, cu_seqlens_k,
                        length("max_seqlen_q", max_seqlen_q, q.shape[0]),
                        length("max_seqlen_k", max_seqlen_k, k.shape[0]), alibi_slopes)
    rows = _gradients(dout, q, k, v, out, softmax_lse, (dq, dk, dv), dropout_p, softmax_scale, causal,
                      (window_size_left, window_size_right), softcap, rng_state, **ragged)
    total, batch = q.shape[0], cu_seqlens_q.numel() - 1
    at = torch.arange(total, device=q.device)
    entry = torch.bucketize(at, cu_seqlens_q[1:], right=True).clamp(max=max(batch - 1, 0))
    spread = rows.new_zeros((q.shape[1], total + 128 * batch))
    spread[:, at + 128 * entry] = rows.T
    return spread


_wrapped_flash_attn_forward = _flash_attn_forward
_wrapped_flash_attn_backward = _flash_attn_backward
_wrapped_flash_attn_varlen_forward = _flash_attn_varlen_forward
_wrapped_flash_attn_varlen_backward = _flash_attn_varlen_backward
