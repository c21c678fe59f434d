# nn/replace.py: torch.nn.MultiheadAttention that computes with heed, and the swap in a model. Not here:
# heed's own module (attention.py).
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._core import ArgumentTypeError, Error
from . import _masks
from ._engine import attention
from ._step import check_features
from ._weights import attention_and_weights


class MultiheadAttention(nn.MultiheadAttention):
    """torch.nn.MultiheadAttention with its arguments, parameters and state_dict, computed by heed.

    Differences: the numbers that dropout draws; a query that sees nothing gives 0 before the last
    projection (PyTorch: NaN where weights are returned); ``is_causal=True`` means causal from the first
    key, whatever ``attn_mask`` (which must be given) holds; nested tensors are refused. Weights are
    differentiable.
    """

    heed_backend: str | None = None
    heed_threads: int | None = None

    @property
    def _qkv_same_embed_dim(self):
        # PyTorch's encoder layers ask this before they compute past the module in one call of their own.
        return False

    @_qkv_same_embed_dim.setter
    def _qkv_same_embed_dim(self, value):
        self.__dict__["_qkv_same_embed_dim"] = value

    def _project(self, query, key, value):
        bias = self.in_proj_bias
        if self.in_proj_weight is None:
            weights = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        elif query is key and key is value:
            return F.linear(query, self.in_proj_weight, bias).chunk(3, -1)
        elif key is value:
            e = self.embed_dim
            q = F.linear(query, self.in_proj_weight[:e], None if bias is None else bias[:e])
            k, v = F.linear(key, self.in_proj_weight[e:], None if bias is None else bias[e:]).chunk(2, -1)
            return q, k, v
        else:
            weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch.nn.MultiheadAttention.forward."""
        for name, x, size in (("query", query, self.embed_dim), ("key", key, self.kdim),
                              ("value", value, self.vdim)):
            check_features(name, x, size, self.out_proj.weight)
        if not query.dim() == key.dim() == value.dim() or key.shape[:-1] != value.shape[:-1]:
            raise Error(f"query, key and value have the shapes {tuple(query.shape)}, {tuple(key.shape)} and "
                        f"{tuple(value.shape)}: all must have a batch or none, and key and value be equally long")
        batched, first = query.dim() == 3, 0 if self.batch_first or query.dim() == 2 else 1
        if batched and query.shape[first] != key.shape[first]:
            raise Error(f"query has {query.shape[first]} entries and key {key.shape[first]}: they must agree "
                        f"(batch_first is {self.batch_first})")
        if is_causal and attn_mask is None:
            raise Error("is_causal is True without attn_mask: it is a hint about that mask, as in PyTorch; give "
                        "both (nn.Transformer.generate_square_subsequent_mask makes the mask)")
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)) for x in self._project(query, key, value))
        if not batched:
            q, k, v = q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0)
            if key_padding_mask is not None and key_padding_mask.dim() == 1:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
        extra = (self.bias_k is not None) + self.add_zero_attn
        causal = is_causal and not extra
        found = _masks.options(q.shape[0], self.num_heads, q.shape[1], k.shape[1], q.dtype,
                               None if causal else attn_mask, key_padding_mask)
        if extra:
            k, v, found = self._more_keys(k, v, extra, found)
        options = {**found, "causal": causal, "align": "top_left", "backend": self.heed_backend,
                   "threads": self.heed_threads, "dropout_p": self.dropout if self.training else 0.0}
        weights = None
        if need_weights:
            out, weights = attention_and_weights(q, k, v, **options)
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            out = attention(q, k, v, **options)
        out = out.flatten(-2)
        if not batched:
            out, weights = out.squeeze(0), None if weights is None else weights.squeeze(0)
        elif not self.batch_first:
            out = out.transpose(0, 1)
        return self.out_proj(out), weights

    def _more_keys(self, k, v, extra, found):
        """Rows of bias_k and bias_v, then of zeros, which every query sees."""
        batch, sk = k.shape[:2]
        if self.bias_k is not None:
            row = (1, 1, self.num_heads, self.head_dim)
            k = torch.cat((k, self.bias_k.to(k.dtype).reshape(row).expand(batch, -1, -1, -1)), 1)
            v = torch.cat((v, self.bias_v.to(v.dtype).reshape(row).expand(batch, -1, -1, -1)), 1)
        if self.add_zero_attn:
            k, v = (torch.cat((x, x.new_zeros(batch, 1, *x.shape[2:])), 1) for x in (k, v))
        found = dict(found)
        if "key_lengths" in found:  # the new rows stand behind the padding
            seen = (torch.arange(sk, device=k.device) < found.pop("key_lengths")[:, None])[:, None, None]
            found["mask"] = seen & found["mask"] if "mask" in found else seen
        if "mask" in found:
            found["mask"] = F.pad(found["mask"].expand(*found["mask"].shape[:-1], sk), (0, extra), value=True)
        if "bias" in found:
            found["bias"] = F.pad(found["bias"].expand(*found["bias"].shape[:-1], sk), (0, extra))
        return k, v, found


def replace(model: nn.Module, *, backend: str | None = None, threads: int | None = None,
            strict: bool = True) -> nn.Module:
    """Every torch.nn.MultiheadAttention in `model` computes with heed from now on; in place.

    Modules stay the same objects with the same parameters, hooks and state_dict: optimizers and
    checkpoints do not notice. Encoder layers that would compute past the module in evaluation
    (PyTorch's fast path, nested tensors) no longer do.

    Parameters
    ----------
    model : a module, itself a torch.nn.MultiheadAttention or one that holds some.
    backend, threads : as in ``heed.attention``, for all of them.
    strict : a subclass of torch.nn.MultiheadAttention is an error; False: it is left as it is.

    Returns
    -------
    model.

    Raises
    ------
    heed.Error, before anything is changed, for subclasses (their forward may differ) and for a model
    without any torch.nn.MultiheadAttention.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"model is a {type(model).__name__}: it must be a torch.nn.Module")
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)}
    own = {n: m for n, m in found.items() if type(m) in (nn.MultiheadAttention, MultiheadAttention)}
    others = {n: m for n, m in found.items() if n not in own}
    if others and strict:
        raise Error("not replaced, for their classes may compute otherwise than torch.nn.MultiheadAttention: "
                    + ", ".join(f"{n or 'the model'} ({type(m).__name__})" for n, m in others.items())
                    + "; strict=False leaves them as they are")
    if not own:
        raise Error(f"the model ({type(model).__name__}) holds no torch.nn.MultiheadAttention: attention written "
                    "with F.scaled_dot_product_attention is reached by heed.sdpa.override_torch")
    for module in own.values():
        module.__class__ = MultiheadAttention
        module.heed_backend, module.heed_threads = backend, threads
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and any(m in own.values() for m in module.modules()):
            module.__dict__.setdefault("_heed_nested", module.use_nested_tensor)
            module.use_nested_tensor = False
    return model


def restore(model: nn.Module) -> nn.Module:
    """Undoes ``replace``, in place; returns the model."""
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"model is a {type(model).__name__}: it must be a torch.nn.Module")
    for module in model.modules():
        if type(module) is MultiheadAttention:
            module.__class__ = nn.MultiheadAttention
            module.__dict__.pop("heed_backend", None)
            module.__dict__.pop("heed_threads", None)
        if isinstance(module, nn.TransformerEncoder) and "_heed_nested" in module.__dict__:
            module.use_nested_tensor = module.__dict__.pop("_heed_nested")
    return model
