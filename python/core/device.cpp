// device.cpp: see device.h. Everything is asked of the module torch.cuda by its public names at each call.
#include "device.h"

namespace heed::python {
namespace {

nb::module_ TorchCuda() { return nb::module_::import_("torch.cuda"); }

nb::object DeviceOf(int device) {
  return nb::module_::import_("torch").attr("device")("cuda", device);
}

}  // namespace

// Known without asking the library, which would look for devices: a process that forks must not have.
bool HasCudaKernels() {
#ifdef HEED_PYTHON_CUDA
  return true;
#else
  return false;
#endif
}

OnDevice::OnDevice(int device) {
  if (device == kHost) return;
  const nb::module_ cuda = TorchCuda();
  nb::object guard = cuda.attr("device")(device);
  guard.attr("__enter__")();
  guard_ = std::move(guard);
  const nb::object stream = cuda.attr("current_stream")(device).attr("cuda_stream");
  stream_ = PyLong_AsVoidPtr(stream.ptr());
  if (stream_ == nullptr && PyErr_Occurred()) RaiseCurrent();
}

OnDevice::~OnDevice() {
  if (!guard_.is_valid()) return;
  try {
    guard_.attr("__exit__")(nb::none(), nb::none(), nb::none());
  } catch (nb::python_error& error) {
    error.discard_as_unraisable("heed: making the device before a call current again");
  }
}

void CheckDeviceIsServed(int device, const char* name) {
  if (device == kHost || HasCudaKernels()) return;
  Raise(std::string(name) + " lives on the device '" + DeviceText(device) +
        "' and this build of heed has no CUDA kernels: install a wheel of `make wheel-cuda`, or "
        "make it a "
        "CPU tensor");
}

nb::object DeviceBytes(std::size_t bytes, int device, void** data) {
  const nb::module_ torch = nb::module_::import_("torch");
  nb::object memory =
      torch.attr("empty")(nb::make_tuple(bytes), nb::arg("dtype") = torch.attr("uint8"),
                          nb::arg("device") = DeviceOf(device));
  *data = PyLong_AsVoidPtr(nb::object(memory.attr("data_ptr")()).ptr());
  if (*data == nullptr && PyErr_Occurred()) RaiseCurrent();
  return memory;
}

nb::object DeviceIntegers(std::int64_t value, std::int64_t count, int device) {
  const nb::module_ torch = nb::module_::import_("torch");
  return torch.attr("full")(nb::make_tuple(count), value, nb::arg("dtype") = torch.attr("int32"),
                            nb::arg("device") = DeviceOf(device));
}

}  // namespace heed::python
