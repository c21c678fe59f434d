"""Conformance cases in the form that a build without packages reads (flat_case.h): lines that say what is
there, then the bytes. Not here: what a case is (tests/data/conformance/README.md)."""
import json
import os
import struct


def flat(data):
    """The bytes of a .safetensors file in the other form."""
    length, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    settings = header.pop("__metadata__", {})
    lines = [f"set {key} {value}" for key, value in settings.items()]
    tensors = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    lines += [" ".join(["tensor", name, t["dtype"], *map(str, t["shape"])]) for name, t in tensors]
    if any("\n" in line for line in lines):
        raise ValueError("a name or a setting has more than one line")
    first = 8 + length
    return "\n".join([*lines, "data\n"]).encode() + b"".join(
        data[first + t["data_offsets"][0]:first + t["data_offsets"][1]] for _, t in tensors)


def flatten(source, target):
    """Every case of a folder; their number."""
    os.makedirs(target, exist_ok=True)
    names = sorted(name for name in os.listdir(source) if name.endswith(".safetensors"))
    for name in names:
        with open(os.path.join(source, name), "rb") as f:
            data = f.read()
        with open(os.path.join(target, name.removesuffix(".safetensors") + ".case"), "wb") as f:
            f.write(flat(data))
    return len(names)
