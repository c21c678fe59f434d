# conformance.py: the cases of tests/data/conformance as arrays and keywords of heed. Not here: what they
# are compared with (plain.py, and the results in the files).
import json
import os

import numpy as np
from arrays import ARRAYS, DATA, NUMPY

FOLDER = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "data", "conformance")
NAMES = sorted(f[:-12] for f in os.listdir(FOLDER) if f.endswith(".safetensors"))
TYPES = {"F32": np.float32, "F64": np.float64, "I32": np.int32, "I64": np.int64, "BOOL": np.bool_}


def read(path):
    """(tensors, metadata) of a .safetensors file."""
    with open(path, "rb") as f:
        data = f.read()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + first:8 + size + last], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).copy()
    return tensors, metadata


class Case:
    def __init__(self, name, dtype):
        self.tensors, settings = read(os.path.join(FOLDER, name + ".safetensors"))
        for key in DATA:
            if key in self.tensors:
                self.tensors[key] = self.tensors[key].astype(NUMPY[dtype])
        self.layout = settings["layout"]
        self.options = {}
        for key in ("causal", "window", "prefix", "chunk", "scale", "softcap", "dropout_p", "seed", "offset",
                    "block_size"):
            if key in settings:
                value = json.loads(settings[key])
                self.options[key] = tuple(value) if isinstance(value, list) else value
        self.options["align"] = settings.get("align", "bottom_right")
        self.options |= {n: self.tensors[n] for n in ARRAYS if n in self.tensors}
        if "query_offset" in self.tensors:
            offset = self.tensors["query_offset"]
            self.options["query_offset"] = int(offset[0]) if offset.size == 1 else offset
        self.rotary = settings.get("rotary", "none")
        self.wanted = tuple(n for n in ("dbias", "dsinks") if n in self.tensors)
