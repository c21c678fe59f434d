# stand_in.py: CUDA tensors for PyTorch's build for CPUs: two devices whose memory is the host's. Which device
# and stream are current, and autograd's threads for devices, are PyTorch's own (tests/cuda/torch_stand_in.cpp);
# operators on such tensors run on the same bytes as CPU tensors; what would wait for a device can be forbidden.
# heed's kernels are real ones, in the emulator. Not here: what is tested.
import contextlib
import ctypes
import functools
import os
import subprocess
import sys
import sysconfig

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PACKAGE = os.environ.get("HEED_EMULATED_PACKAGE", "")


def build(folder):
    """Compiles torch_stand_in.cpp against the PyTorch that is installed; before PyTorch is imported."""
    torch = os.path.join(sysconfig.get_paths()["purelib"], "torch")
    library = os.path.join(folder, "torch_stand_in.so")
    subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-O1", "-w", "-shared", "-fPIC",
                    "-I", os.path.join(torch, "include"),
                    os.path.join(ROOT, "tests", "cuda", "torch_stand_in.cpp"), "-o", library,
                    "-L", os.path.join(torch, "lib"), "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{torch}/lib"], check=True)
    return library


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("index", ctypes.c_int32)]


class _Tensor(ctypes.Structure):  # as far as it is written here
    _fields_ = [("data", ctypes.c_void_p), ("device", _Device)]


CPU, CUDA = 1, 2  # in DLPack's words
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def alias(t, kind, index=0):
    """The same bytes as a tensor of another device."""
    from torch import _C
    capsule = _C._to_dlpack(t)
    found = ctypes.cast(_pointer(capsule, b"dltensor"), ctypes.POINTER(_Tensor)).contents
    found.device.type, found.device.index = kind, index
    return _C._from_dlpack(capsule)


# What gives data of a device to the host, and so would wait for it.
WAITS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "is_nonzero", "_unique2", "unique_dim", "bincount"}


class StandIn:
    """The devices. `waiting` is whether a call may wait for them, `capturing` what PyTorch says of its stream,
    `log` which operators ran on them."""

    def __init__(self, library):
        assert "torch" not in sys.modules, "the devices must be there when PyTorch first looks"
        self.native = ctypes.CDLL(library)
        self.native.stand_in_stream.restype = ctypes.c_longlong
        self.native.stand_in_set_stream.argtypes = [ctypes.c_int, ctypes.c_longlong]
        import torch
        self.torch = torch
        self.waiting, self.capturing, self.log = True, False, []
        self._register()
        self._be_torch_cuda()

    def _operator(self, op, *args, **kwargs):
        """Any operator on these tensors: on the host's, whose results are the device's again."""
        torch = self.torch
        name = op._schema.name.removeprefix("aten::")
        self.log.append(name)
        places = {}
        on = None

        def down(x):
            nonlocal on
            if isinstance(x, torch.Tensor) and x.is_cuda:
                assert on in (None, x.device.index) or name == "copy_", f"{name} on tensors of two devices"
                on = x.device.index if on is None else on
                low = alias(x, CPU)
                places[id(low)] = (low, x)
                return low
            if isinstance(x, torch.device) and x.type == "cuda":
                on = x.index if x.index is not None else self.native.stand_in_device()
                return torch.device("cpu")
            return x

        from torch.utils import _pytree
        low_args, low_kwargs = _pytree.tree_map(down, (args, kwargs))
        crosses = name == "copy_" and args[0].device != args[1].device and not (len(args) > 2 and args[2])
        if not self.waiting and (name in WAITS or crosses or (
                name == "repeat_interleave" and kwargs.get("output_size") is None)):
            raise RuntimeError(f"called a synchronizing CUDA operation: {name}")
        # Results that are to be written are empty at first, and host memory of another owner does not grow.
        grown = {}
        for argument in op._schema.arguments:
            written = argument.kwarg_only and argument.alias_info is not None and argument.alias_info.is_write
            if written and isinstance(kwargs.get(argument.name), torch.Tensor):
                grown[argument.name] = low_kwargs[argument.name] = torch.empty((0,), dtype=kwargs[argument.name].dtype)
        out = op(*low_args, **low_kwargs)
        for argument, low in grown.items():
            given = kwargs[argument]
            if given.shape == low.shape:
                alias(given, CPU).copy_(low)
            else:
                given.data = alias(low, CUDA, on)
            places[id(low)] = (low, given)

        def up(x):
            if not isinstance(x, torch.Tensor) or on is None:
                return x
            return places[id(x)][1] if id(x) in places else alias(x, CUDA, on)

        return _pytree.tree_map(up, out)

    def _register(self):
        self._libraries = [self.torch.library.Library("_", "IMPL"), self.torch.library.Library("aten", "IMPL")]
        self._libraries[0].fallback(self._operator, "CUDA")
        # PyTorch has one kernel for all devices there, which would come first.
        for name in ("copy_",):
            op = getattr(self.torch.ops.aten, name).default
            self._libraries[1].impl(name, functools.partial(self._operator, op), "CUDA")

    def _be_torch_cuda(self):
        cuda, native, stand_in = self.torch.cuda, self.native, self

        class Device(contextlib.AbstractContextManager):
            def __init__(self, device):
                self.index = device if isinstance(device, int) else device.index

            def __enter__(self):
                self.before = native.stand_in_device()
                native.stand_in_set_device(self.index)

            def __exit__(self, *_):
                native.stand_in_set_device(self.before)

        class Stream:
            def __init__(self, number):
                self.cuda_stream = number

        class Generator:
            """Seed and offset of a device, as a torch.Generator("cuda") has them on the host."""

            def __init__(self):
                self.manual_seed(0)

            def manual_seed(self, seed):
                self.seed, self.offset = seed, 0

            def initial_seed(self):
                assert not stand_in.capturing
                return self.seed

            def get_offset(self):
                return self.offset

            def set_offset(self, offset):
                assert offset % 4 == 0
                self.offset = offset

        def seed_all(seed):
            for generator in cuda.default_generators:
                generator.manual_seed(seed)

        def stream_of(device=None):
            index = native.stand_in_device() if device is None else device if isinstance(device, int) else device.index
            return Stream(native.stand_in_stream(index))

        def debug(mode):
            stand_in.waiting = mode != "error"

        cuda.default_generators = (Generator(), Generator())
        for name, value in {
                "_lazy_init": lambda: None, "is_available": lambda: True, "device_count": lambda: 2,
                "current_device": lambda: native.stand_in_device(), "device": Device, "current_stream": stream_of,
                "is_current_stream_capturing": lambda: stand_in.capturing, "synchronize": lambda device=None: None,
                "set_sync_debug_mode": debug, "manual_seed_all": seed_all, "_is_in_bad_fork": lambda: False,
                "get_device_capability": lambda device=None: (8, 0),
                "is_bf16_supported": lambda including_emulation=True: True,
                "get_rng_state": lambda device=None: self.torch.zeros(16, dtype=self.torch.uint8),
                "set_rng_state": lambda state, device=None: None,
                "get_device_name": lambda device=None: "stand-in"}.items():
            setattr(cuda, name, value)

    @contextlib.contextmanager
    def stream(self, number, device=0):
        before = self.native.stand_in_stream(device)
        self.native.stand_in_set_stream(device, number)
        try:
            yield
        finally:
            self.native.stand_in_set_stream(device, before)

    @contextlib.contextmanager
    def nothing_waits(self):
        self.waiting = False
        try:
            yield
        finally:
            self.waiting = True


class Engine:
    """The emulated device in heed's extension, which is current whichever PyTorch's is."""

    def __init__(self, core):
        self._core = core
        self._native = ctypes.CDLL(core.__file__)
        self._native.heed_emulated_ran.restype = ctypes.c_char_p
        self._native.heed_emulated_stream.restype = ctypes.c_void_p

    def be(self, arch, forget=True):
        """750, 800, …; 0: no device. Plans are kept by PyTorch's device, which is the same still: forget."""
        self._native.heed_emulated_be(arch)
        if forget:
            self._core.forget_plans()

    def arrays_are_wrong(self, yes):
        self._native.heed_emulated_arrays_are_wrong(int(yes))

    @property
    def ran(self):
        return self._native.heed_emulated_ran().decode()

    @property
    def stream(self):
        return self._native.heed_emulated_stream()

    @property
    def taken(self):
        return self._native.heed_emulated_taken()
