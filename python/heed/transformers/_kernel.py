# _kernel.py: a folder that the kernels package loads as one of its kernels. Not here: the functions that
# are found in it (_flash.py).
import json
from pathlib import Path

import heed
from heed import Error

# What transformers asks for when flash_attention_2 (or 3) is wanted and the package is not installed.
REPOSITORIES = ("kernels-community/flash-attn2", "kernels-community/vllm-flash-attn3")

_SOURCE = '''\
# Written by heed.transformers.kernel_folder: flash-attn's functions, computed by heed on the CPU.
from heed.transformers._flash import flash_attn_func, flash_attn_varlen_func, flash_attn_with_kvcache

__all__ = ["flash_attn_func", "flash_attn_varlen_func", "flash_attn_with_kvcache"]
'''


def kernel_folder(path: str | Path) -> str:
    """Writes a folder for the ``kernels`` package and returns what the variable LOCAL_KERNELS has to hold.

    With ``LOCAL_KERNELS`` set so before the model is made, ``attn_implementation="flash_attention_2"``
    (and "flash_attention_3") resolves to heed, with nothing fetched. transformers and kernels must fit
    each other: docs/transformers.md.

    Parameters
    ----------
    path : where; made if it is not there. Files of an earlier call are replaced, other files stop it.

    Returns
    -------
    str : "kernels-community/flash-attn2=PATH:…", for ``os.environ["LOCAL_KERNELS"]``.

    Raises
    ------
    heed.Error where the path holds something else, or has a ":" or "=" in it.
    """
    folder = Path(path).absolute()
    if ":" in str(folder) or "=" in str(folder):
        raise Error(f"path is {str(folder)!r}: LOCAL_KERNELS separates by ':' and '=', so the path must "
                    "have neither")
    variant = folder / "torch-cpu"
    if folder.exists() and (not folder.is_dir() or any(child != variant for child in folder.iterdir())):
        raise Error(f"path is {str(folder)!r} and holds other files: give a new folder, or one that this "
                    "function wrote")
    variant.mkdir(parents=True, exist_ok=True)
    metadata = {"id": "heed_flash_attn_torch_cpu", "name": "heed-flash-attn", "version": 1,
                "license": "Apache-2.0", "python-depends": [], "backend": {"type": "cpu"}}
    (variant / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
    (variant / "__init__.py").write_text(_SOURCE)
    return ":".join(f"{repository}={folder}" for repository in REPOSITORIES)
