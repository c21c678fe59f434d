// emulated_python.cpp: the emulated device as a test of the Python package steers it, by ctypes: this file
// and the device stand in a build of the extension that is for tests alone. Not here: a device that PyTorch
// takes for one (torch_stand_in.cpp).
#include "emulated_device.h"

#define HEED_FOR_CTYPES extern "C" __attribute__((visibility("default")))

using heed::cuda::EmulatedDevice;

/// 750, 800, …; 0: there is no device.
HEED_FOR_CTYPES void heed_emulated_be(int arch) { EmulatedDevice::The().Be(arch); }
/// Whether index arrays may be wrong: what is written is not looked at then, only where.
HEED_FOR_CTYPES void heed_emulated_arrays_are_wrong(int yes) {
  EmulatedDevice::The().arrays_are_wrong = yes != 0;
}
/// Of the last call: its kernels, "classify forward_mma"; its stream.
HEED_FOR_CTYPES const char* heed_emulated_ran() { return EmulatedDevice::The().ran.c_str(); }
HEED_FOR_CTYPES void* heed_emulated_stream() { return EmulatedDevice::The().stream; }
/// Memory that the library took by itself, which it should not where PyTorch gives it.
HEED_FOR_CTYPES int heed_emulated_taken() { return EmulatedDevice::The().taken; }
