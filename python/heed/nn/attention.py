# nn/attention.py: MultiHeadAttention, from the features of tokens to the features of tokens. Not here:
# masks (_masks.py), positions (_positions.py), the step with a cache (_step.py).
import torch
from torch import Tensor, nn

import heed

from .._core import ArgumentTypeError, Error
from . import _step
from ._positions import Rotary, alibi_slopes
from .cache import KVCache


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) with its projections; with fewer heads of keys and
    values than of queries: grouped (Ainslie et al. 2023), with one: multi-query (Shazeer 2019).

    Parameters
    ----------
    embed_dim : features of a query, and of the output.
    num_heads : of queries.
    num_kv_heads : of keys and values, a divisor of num_heads; num_heads by default.
    head_dim, v_head_dim : of a head; embed_dim / num_heads, and head_dim, by default.
    kdim, vdim : features of keys and values; embed_dim by default.
    bias : of the projections of q, k and v: one bool, or three.
    out_bias : of the last projection; by default as ``bias`` (as any of three).
    dropout : probability of dropping a weight while training.
    causal, align, window, prefix, chunk, softcap, scale : as in ``heed.attention``.
    rotary : entries of a head that rotary embedding turns, even; 0: none. Self-attention, or queries and
        keys counted from the same start.
    rotary_base, rotary_scale, rotary_interleaved : see ``rotary_tables`` and ``apply_rotary``.
    alibi : True, or slopes, float32 (num_heads,).
    sinks : a learned logit for each head (``sinks``, float32) that joins its softmax's sum.
    batch_first : (B, S, E) in and out; False: (S, B, E).
    backend, threads : as in ``heed.attention``.
    device, dtype : of the parameters.

    Weights are ``q_proj``, ``k_proj``, ``v_proj``, ``out_proj``, each an nn.Linear.
    ``load_state_dict`` also takes the names and shapes that ``convert_state_dict`` knows.

    Raises
    ------
    heed.Error for sizes that do not fit each other.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, num_kv_heads: int | None = None, *,
        head_dim: int | None = None, v_head_dim: int | None = None, kdim: int | None = None,
        vdim: int | None = None, bias: bool | tuple[bool, bool, bool] = True,
        out_bias: bool | None = None, dropout: float = 0.0, causal: bool = False,
        align: str = "bottom_right", window: tuple[int, int] | None = (-1, -1), prefix: int = 0,
        chunk: int = 0, softcap: float = 0.0, scale: float | None = None, rotary: int = 0,
        rotary_base: float = 10000.0, rotary_scale: float = 1.0, rotary_interleaved: bool = False,
        alibi: bool | Tensor = False, sinks: bool = False, batch_first: bool = True,
        backend: str | None = None, threads: int | None = None,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ):
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        for name, value in (("embed_dim", embed_dim), ("num_heads", num_heads),
                            ("num_kv_heads", num_kv_heads)):
            if not isinstance(value, int):
                raise ArgumentTypeError(f"{name} is a {type(value).__name__}: it must be an integer")
            if value < 1:
                raise Error(f"{name} is {value}: it must be at least 1")
        if num_heads % num_kv_heads:
            raise Error(f"num_heads is {num_heads} and num_kv_heads is {num_kv_heads}: the first must be a "
                        "multiple of the second")
        if head_dim is None and embed_dim % num_heads:
            raise Error(f"embed_dim is {embed_dim} and num_heads is {num_heads}: the first must be a "
                        "multiple of the second, or head_dim be given")
        head_dim = embed_dim // num_heads if head_dim is None else head_dim
        v_head_dim = head_dim if v_head_dim is None else v_head_dim
        if not 1 <= head_dim <= 1024 or not 1 <= v_head_dim <= 1024:
            raise Error(f"head_dim is {head_dim} and v_head_dim is {v_head_dim}: each must be from 1 to 1024")
        if rotary < 0 or rotary % 2 or rotary > head_dim:
            raise Error(f"rotary is {rotary}: it must be even, from 0 to head_dim ({head_dim})")
        if not 0 <= dropout < 1:
            raise Error(f"dropout is {dropout}: it must be in [0, 1)")
        if align not in ("bottom_right", "top_left"):
            raise Error(f'align is "{align}": it must be "bottom_right" or "top_left"')
        biases = (bias,) * 3 if isinstance(bias, bool) else tuple(bias)
        if len(biases) != 3 or not all(isinstance(b, bool) for b in biases):
            raise Error(f"bias is {bias!r}: it must be one bool, or three for q, k and v")
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, num_kv_heads
        self.head_dim, self.v_head_dim = head_dim, v_head_dim
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.causal, self.align, self.window = dropout, causal, align, window
        self.prefix, self.chunk, self.softcap, self.scale = prefix, chunk, softcap, scale
        self.batch_first, self.backend, self.threads = batch_first, backend, threads
        made = {"device": device, "dtype": dtype}
        self.q_proj = nn.Linear(embed_dim, num_heads * head_dim, bias=biases[0], **made)
        self.k_proj = nn.Linear(self.kdim, num_kv_heads * head_dim, bias=biases[1], **made)
        self.v_proj = nn.Linear(self.vdim, num_kv_heads * v_head_dim, bias=biases[2], **made)
        self.out_proj = nn.Linear(num_heads * v_head_dim, embed_dim,
                                  bias=any(biases) if out_bias is None else out_bias, **made)
        self.rotary = (Rotary(rotary, rotary_base, rotary_scale, rotary_interleaved) if rotary else None)
        slopes = alibi_slopes(num_heads) if alibi is True else alibi if isinstance(alibi, Tensor) else None
        if slopes is not None and tuple(slopes.shape) != (num_heads,):
            raise Error(f"alibi has the shape {tuple(slopes.shape)}: it must be ({num_heads},)")
        self.register_buffer("alibi_slopes", None if slopes is None else slopes.float().to(device),
                             persistent=False)
        self.sinks = nn.Parameter(torch.zeros(num_heads, dtype=torch.float32, device=device)) if sinks \
            else None
        self._check_options()
        self.reset_parameters()

    def _check_options(self):
        """A wrong window or cap is said where it is given, not at the first call."""
        q, k, v = (torch.empty((1, 1, heads, width), device="meta", dtype=torch.float32) for heads, width in (
            (self.num_heads, self.head_dim), (self.num_kv_heads, self.head_dim), (self.num_kv_heads, self.v_head_dim)))
        heed.explain(q, k, v, **{**self.options(), "alibi_slopes": None, "sinks": None, "backend": "reference"})

    def reset_parameters(self) -> None:
        """Uniform of Glorot and Bengio 2010 for the weights, 0 for biases and sinks."""
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        if self.sinks is not None:
            nn.init.zeros_(self.sinks)

    def extra_repr(self) -> str:
        said = f"{self.embed_dim}, num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}"
        for name, off in (("causal", False), ("window", (-1, -1)), ("softcap", 0.0), ("dropout", 0.0)):
            if getattr(self, name) != off:
                said += f", {name}={getattr(self, name)}"
        return said + (f", rotary={self.rotary.dim}" if self.rotary else "")

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        from .convert import rename_in_place
        rename_in_place(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, *args, **kwargs):
        # half() and to(bfloat16) must leave what the engine takes in float32.
        super()._apply(*args, **kwargs)
        if self.alibi_slopes is not None:
            self.alibi_slopes = self.alibi_slopes.float()
        return self

    def options(self) -> dict:
        """What heed.attention gets from the module."""
        return dict(
            scale=self.scale, causal=self.causal, align=self.align, window=self.window,
            prefix=self.prefix, chunk=self.chunk, softcap=self.softcap, alibi_slopes=self.alibi_slopes,
            sinks=None if self.sinks is None else self.sinks.float(), backend=self.backend,
            threads=self.threads)

    def project(self, key: Tensor, value: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory, (B, Sk, Hk, D) and (B, Sk, Hk, Dv): ``projected=`` of later calls,
        so that cross-attention in a loop projects them once. Differentiable."""
        value = key if value is None else value
        _step.check_features("key", key, self.kdim, self.k_proj.weight)
        _step.check_features("value", value, self.vdim, self.v_proj.weight)
        k = self.k_proj(key).unflatten(-1, (self.num_kv_heads, self.head_dim))
        v = self.v_proj(value).unflatten(-1, (self.num_kv_heads, self.v_head_dim))
        if not self.batch_first and key.dim() == 3:
            k, v = k.transpose(0, 1), v.transpose(0, 1)
        return k, v

    def forward(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None, *,
        key_padding_mask: Tensor | None = None, key_lengths: Tensor | None = None,
        attn_mask: Tensor | None = None, positions: Tensor | None = None,
        cu_seqlens_q: Tensor | None = None, cu_seqlens_k: Tensor | None = None,
        max_seqlen_q: int | None = None, max_seqlen_k: int | None = None,
        projected: tuple[Tensor, Tensor] | None = None, cache: KVCache | None = None,
        need_weights: bool = False, average_attn_weights: bool = True,
    ):
        """Attention of queries over keys.

        Parameters
        ----------
        query : (B, Sq, E), or (Sq, B, E) with batch_first=False; (Sq, E) for one entry; (T, E) with
            ``cu_seqlens_q``.
        key, value : likewise with kdim and vdim features; the query, and the key, by default.
        key_padding_mask : bool (B, Sk), True hides; or floating, added to the scores. As in torch.
        key_lengths : integers (B,): the same for keys from that number on. With ``cache``: how many of
            the new tokens of an entry exist.
        attn_mask : bool, True hides (as in torch), or floating, added: (Sq, Sk), (B·H, Sq, Sk), or 4-D that
            broadcasts. Differentiable.
        positions : int64 (S,) or (B, S): of rotary embedding, instead of 0, 1, …; self-attention.
        cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k : ragged batches, as in heed.attention.
        projected : from ``project``, instead of key and value.
        cache : a KVCache: the new tokens are written behind what it holds and attend to all of it.
        need_weights, average_attn_weights : also the weights after dropout, (B, Sq, Sk), or
            (B, H, Sq, Sk) if not averaged over the heads. They take the memory attention does without.

        Returns
        -------
        like query; with need_weights the tuple (output, weights).

        Raises
        ------
        heed.Error in a sentence.

        Notes
        -----
        A query that sees nothing gives ``out_proj`` of 0 (torch: NaN with need_weights).
        """
        return _step.forward(
            self, query, key, value, key_padding_mask, key_lengths, attn_mask, positions, cu_seqlens_q,
            cu_seqlens_k, max_seqlen_q, max_seqlen_k, projected, cache, need_weights,
            average_attn_weights)


class GroupedQueryAttention(MultiHeadAttention):
    """MultiHeadAttention whose num_kv_heads is to be said."""

    def __init__(self, embed_dim: int, num_heads: int, num_kv_heads: int, **options):
        super().__init__(embed_dim, num_heads, num_kv_heads, **options)


class MultiQueryAttention(MultiHeadAttention):
    """MultiHeadAttention with one head of keys and values."""

    def __init__(self, embed_dim: int, num_heads: int, **options):
        super().__init__(embed_dim, num_heads, 1, **options)
