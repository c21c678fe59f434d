// cuda_engines.cpp: the engine that tests of options run on when they are linked with this file instead
// of tests/options/engines.cpp: the cuda backend on an emulated sm_80, which has kernels for all dtypes.
#include "emulated_device.h"
#include "options/options_testing.h"

namespace heed::testing_options {

std::vector<Engine> Isas() {
  cuda::EmulatedDevice::The().Be(800);
  return {{"cuda", "auto"}};
}

std::vector<Engine> Engines() { return Isas(); }

}  // namespace heed::testing_options
