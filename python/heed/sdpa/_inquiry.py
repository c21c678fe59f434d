# _inquiry.py: can_use and reasons: who would serve a call, without computing it. Not here: how the
# reasons are found (_reasons.py).
import warnings

from torch import Tensor

from . import _backends, _reasons


def reasons(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    backend: "str | _backends.Backend | None" = None,
) -> dict[str, list[str]]:
    """Why each backend would refuse this call of ``scaled_dot_product_attention``: its name and all its
    reasons, an empty list where it would serve.

    Takes the arguments of the call; meta tensors will do. ``backend``: only this one; otherwise every
    backend that the build knows, whatever ``backends`` allows. Where a gradient is wanted (grad mode is
    on and query, key or value requires one), the backward's reasons count as well.
    """
    given = (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    names = ([name for name, _ in _backends.known()] if backend is None
             else [_backends.backend_name(backend)])
    found = _reasons.of_the_call(*given)
    return {name: list(found) or _reasons.of_backend(name, *given) for name in names}


def can_use(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    backend: "str | _backends.Backend | None" = None,
    debug: bool = False,
) -> bool:
    """Whether ``scaled_dot_product_attention`` would serve this call, here and now.

    ``backend``: this one; otherwise any that the context ``backends`` allows. ``debug``: every reason of a
    refusal is a UserWarning. Source: ``torch.backends.cuda.can_use_flash_attention``.
    """
    given = (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    names = _backends.current_backends() if backend is None else (_backends.backend_name(backend),)
    found = _reasons.of_the_call(*given)
    if not found:
        by_name = [_reasons.of_backend(name, *given) for name in names]
        if any(not refused for refused in by_name):
            return True
        found = [reason for refused in by_name for reason in refused] or _reasons.everything(given, names)
    if debug:
        for reason in dict.fromkeys(found):
            warnings.warn(reason, UserWarning, stacklevel=2)
    return False
