// emulated_device.h: the device of tests: runs the kernels of a call in the emulator, and knows of every
// byte what may be done with it. Linked into a test, it takes the place of the build's own device.
// Not here: the kernels' bodies (bodies.h).
#pragma once

#include <string>

#include "cuda/device.h"
#include "emu/launch.h"

namespace heed::cuda {

class EmulatedDevice final : public Device {
 public:
  // The one of the test program.
  static EmulatedDevice& The();

  // An architecture of the known ones (750, 800, …); 0: there is no device.
  void Be(int arch);

  // How blocks and threads are scheduled, when copies land, and the detector.
  emu::Config schedule;
  bool owns = true;  // what Owns says
  // Index arrays may be wrong: then what is written is not of interest, only that nothing else is.
  bool arrays_are_wrong = false;

  // Of the last call: "classify forward_mma join", and what was counted, all kernels together.
  mutable std::string ran;
  mutable emu::Stats stats;
  // Of everything that calls wrote since it was set to 0: the same bits give the same number.
  mutable std::uint64_t bits = 0;
  mutable int taken = 0, given = 0;
  mutable void* stream = nullptr;

  const Facts* Now() const override { return arch_ == 0 ? nullptr : &facts_; }
  const char* WhyNot() const override { return "no CUDA device"; }
  bool Owns(const void*) const override { return owns; }
  void* Take(std::size_t bytes, void* stream) const override;
  void Give(void* data, void* stream) const override;
  // kDevice with the emulator's report where it has one.
  Status Run(const Launches& launches) const override;

 private:
  int arch_ = 0;
  Facts facts_;
};

}  // namespace heed::cuda
