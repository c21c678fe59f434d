// device.h: a call on a CUDA device by PyTorch's own means: the device made current, its stream, memory of
// its allocator. Not here: kernels, CUDA itself (the library's).
#pragma once

#include <cstdint>

#include "views.h"

namespace heed::python {

/// Makes a device current on this thread while it lives, as `with torch.cuda.device(index)` does, and
/// knows PyTorch's stream there. For the host it does nothing. The GIL must be held.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  /// torch.cuda.current_stream(index), asked once; null on the host.
  void* stream() const { return stream_; }

 private:
  nb::object guard_;
  void* stream_ = nullptr;
};

/// Whether the library was built with kernels for devices; there may be no device all the same.
bool HasCudaKernels();
/// Fails with a sentence where this build cannot compute on the device that the array lives on.
void CheckDeviceIsServed(int device, const char* name);

/// Uninitialised memory from PyTorch's allocator, which knows of streams and captured graphs: it may be
/// given back as soon as work on the current stream that uses it was queued.
nb::object DeviceBytes(std::size_t bytes, int device, void** data);
/// int32 (count,), each the same number, written on the device.
nb::object DeviceIntegers(std::int64_t value, std::int64_t count, int device);

}  // namespace heed::python
