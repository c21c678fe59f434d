# _torch_values.py: the keywords of a call as the operators' schemas take them, seeds as tensors, with the
# sentences that the extension has where it reads them itself. Not here: tensors' data, the calls.
import operator

import numpy
import torch
from torch import Tensor

from ._core import ArgumentTypeError, Error


def wrong_type(name, value, accepted):
    return ArgumentTypeError(f"{name} is a {type(value).__name__}: it must be {accepted}")


def whole(name, value):
    """Whatever has __index__: also NumPy's integers and tensors of one element."""
    if torch.compiler.is_compiling():
        return int(value)
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):
        raise wrong_type(name, value, "an integer") from None


def whole_or_none(name, value):
    return None if value is None else whole(name, value)


def real(name, value):
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise wrong_type(name, value, "a number")


def flag(name, value):
    if isinstance(value, (int, float, numpy.bool_)) or isinstance(value, Tensor) and value.numel() == 1:
        return bool(value)
    raise wrong_type(name, value, "True or False")


def pair(name, value, default):
    if value is None:
        return default
    if torch.compiler.is_compiling():
        first, second = value
        return int(first), int(second)
    try:
        items = list(value)
    except TypeError:
        raise wrong_type(name, value, "a pair of integers") from None
    if len(items) != 2:
        raise Error(f"{name} has {len(items)} elements: it must be a pair of integers")
    return tuple(whole(name, item) for item in items)


def word(name, value, accepted):
    if isinstance(value, str):
        return value
    raise wrong_type(name, value, accepted)


def of_score(scale, causal, align, query_offset, window, prefix, chunk, softcap, block_map, block_size, *,
             read):
    """The numbers of every schema from scale to block_cols, and the tensor of query_offset or None. read:
    whether the extension has not read them and said what is wrong."""
    per_entry = query_offset if isinstance(query_offset, Tensor) and query_offset.dim() > 0 else None
    first = None if per_entry is not None else whole_or_none("query_offset", query_offset)
    left, right = pair("window", window, (-1, -1))
    rows, cols = pair("block_size", block_size, (0, 0))
    if read:
        if block_size is not None and block_map is None:
            raise Error("block_size is given without block_map: it is the size of its blocks")
        if block_size is None and block_map is not None:
            raise Error("block_map is given without block_size: give the queries and keys of a block, "
                        "(128, 128)")
        scale = None if scale is None else real("scale", scale)
        causal, softcap = flag("causal", causal), real("softcap", softcap)
        align = word("align", align, '"bottom_right", "top_left" or "offset"')
        prefix, chunk = whole("prefix", prefix), whole("chunk", chunk)
    return (scale, causal, align, first, left, right, prefix, chunk, softcap, rows, cols), per_entry


def of_plan(backend, threads):
    backend = None if backend is None else word("backend", backend, "a name or None")
    return backend, whole_or_none("threads", threads)


def in_autocast(device):
    """Whether autocast is on for a type of device; meta tensors have none."""
    return device != "meta" and torch.is_autocast_enabled(device)


# By how much a call moves the offset of a CUDA generator, which counts in fours.
_DRAWN = 4


def draw_rng(beside):
    """(seed, offset) of dropout as an int64 tensor (2,) on the CPU, from PyTorch's default generator: what
    torch.manual_seed repeats, and what an operator keeps for its backward. Beside a CUDA tensor from its
    device's generator, whose seed and offset PyTorch knows on the host: nothing waits."""
    if type(beside) in (Tensor, torch.nn.Parameter) and beside.is_cuda and not torch.compiler.is_compiling():
        if torch.cuda.is_current_stream_capturing():
            raise Error("dropout draws its seed while a CUDA graph is captured: every replay would drop the same; "
                        "give a seed to say that this is meant, or capture without dropout")
        generator = torch.cuda.default_generators[beside.device.index]
        seed, offset = generator.initial_seed(), generator.get_offset()
        generator.set_offset(offset + _DRAWN)
        return rng_of(seed % 2**64, offset)
    return torch.randint(0, 2**62, (2,), dtype=torch.int64, device="cpu")


def rng_of(seed, offset):
    """The same from given numbers, each from 0 to 2**64 - 1."""
    numbers = []
    for name, number in (("seed", seed), ("offset", offset)):
        if not 0 <= number < 2**64:
            raise Error(f"{name} is {number}: it must be from 0 to 18446744073709551615 (2^64 - 1)")
        numbers.append(number - 2**64 if number >= 2**63 else number)
    return torch.tensor(numbers, dtype=torch.int64, device="cpu")


def rng(seed, offset):
    """From whatever a caller may give. A tensor (seed, offset), as draw_rng makes it, is taken as it is:
    modules that hand the state on need not read it."""
    if not isinstance(seed, Tensor) or seed.dim() == 0:
        return rng_of(whole("seed", seed), whole("offset", offset))
    if seed.is_cuda:
        raise Error(f"seed lives on the device '{seed.device}': it must be a number or a CPU tensor, for a call does "
                    "not wait to read it")
    if seed.dtype != torch.int64 or tuple(seed.shape) != (2,):
        raise Error(f"seed is a tensor of the shape {tuple(seed.shape)} and the dtype {seed.dtype}: it must "
                    "be a number, or int64 (2,), the seed and the offset")
    if whole("offset", offset) != 0:
        raise Error(f"offset is {offset} and seed is a tensor, which has the offset in it: it must be 0")
    return seed
