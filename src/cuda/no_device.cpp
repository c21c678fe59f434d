// no_device.cpp: the device of a build without CUDA: there is none. Plans for any architecture can
// be made and read all the same.
#include "cuda/device.h"

namespace heed::cuda {
namespace {

class NoDevice final : public Device {
 public:
  const Facts* Now() const override { return nullptr; }
  const char* WhyNot() const override { return "this build has no CUDA kernels"; }
  bool Owns(const void*) const override { return false; }
  void* Take(std::size_t, void*) const override { return nullptr; }
  void Give(void*, void*) const override {}
  Status Run(const Launches&) const override { return {StatusCode::kDevice, WhyNot()}; }
};

}  // namespace

const Device& TheDevice() {
  static const NoDevice device;
  return device;
}

}  // namespace heed::cuda
