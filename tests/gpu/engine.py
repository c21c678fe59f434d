"""libheed_gpu.so from Python: calls as dictionaries of fields (request.h). Not here: tensors (calls.py)."""
import ctypes

ROOM = 16384


class Failed(Exception):
    """The library's own sentence."""


def text_of(fields):
    """The lines of request.h."""
    def value(x):
        if isinstance(x, bool):
            return "1" if x else "0"
        return " ".join(map(value, x)) if isinstance(x, (list, tuple)) else str(x)
    return "".join(f"{name} {value(x)}\n" for name, x in fields.items())


class Engine:
    """The library."""

    def __init__(self, path):
        lib = self.lib = ctypes.CDLL(path)
        text, room, call = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p
        lib.heed_gpu_absent.argtypes = [text, text, room]
        lib.heed_gpu_prepare.argtypes = [text, text, room]
        lib.heed_gpu_prepare.restype = call
        lib.heed_gpu_release.argtypes = [call]
        lib.heed_gpu_workspace_bytes.argtypes = [call]
        lib.heed_gpu_workspace_bytes.restype = ctypes.c_int64
        lib.heed_gpu_set_workspace.argtypes = [call, call, ctypes.c_int64]
        lib.heed_gpu_set_stream.argtypes = [call, call]
        lib.heed_gpu_describe.argtypes = [call, text, room]
        lib.heed_gpu_run.argtypes = [call, text, room]
        lib.heed_gpu_judge.argtypes = [text, text, room]

    def absent(self, backend):
        """Why the backend cannot run here; None: it can."""
        says = ctypes.create_string_buffer(ROOM)
        return says.value.decode() if self.lib.heed_gpu_absent(backend.encode(), says, ROOM) else None

    def prepare(self, fields):
        return Call(self.lib, fields)

    def judge(self, fields):
        """(whether the results are right, the worst error in words) of a call in host memory."""
        says = ctypes.create_string_buffer(ROOM)
        code = self.lib.heed_gpu_judge(text_of(fields).encode(), says, ROOM)
        if code == 2:
            raise Failed(says.value.decode())
        return code == 0, says.value.decode()


class Call:
    """A plan with its buffers."""

    def __init__(self, lib, fields):
        self.lib = lib
        self.says = ctypes.create_string_buffer(ROOM)
        self.handle = lib.heed_gpu_prepare(text_of(fields).encode(), self.says, ROOM)
        if not self.handle:
            raise Failed(self.says.value.decode())

    def workspace_bytes(self):
        return self.lib.heed_gpu_workspace_bytes(self.handle)

    def use(self, workspace, size, stream):
        self.lib.heed_gpu_set_workspace(self.handle, workspace, size)
        self.lib.heed_gpu_set_stream(self.handle, stream)

    def describe(self):
        says = ctypes.create_string_buffer(ROOM)
        self.lib.heed_gpu_describe(self.handle, says, ROOM)
        return says.value.decode()

    def run(self):
        if self.lib.heed_gpu_run(self.handle, self.says, ROOM):
            raise Failed(self.says.value.decode())

    def __del__(self):
        if getattr(self, "handle", None):
            self.lib.heed_gpu_release(self.handle)
