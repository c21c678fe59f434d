// device.h: a CUDA device as the backend sees it: a few facts, memory, and launching. Two of them
// exist: the real one (device.cu, where the build has CUDA) and the tests', which runs the same
// kernels on the CPU. Not here: which kernels a call takes (cuda_call.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "cuda/backward_call.h"
#include "heed/heed.h"

namespace heed::cuda {

struct Facts {
  std::string name;  // "NVIDIA H200"
  int arch = 0;      // 750, 800, 860, …: compute capability times 100
  int multiprocessors = 0;
  // Bytes of shared memory: a block's at most, and a multiprocessor's.
  std::int64_t shared_block = 0, shared_multiprocessor = 0;
  std::int64_t l2_bytes = 0;
  double clock_hz = 0;
  double bytes_per_second = 0;  // of its memory
};

// One kernel of a call: a row of kernels.def on so many blocks.
struct Launch {
  int row = 0;
  std::int64_t blocks = 0;
};

// Kernels that see one call, in this order; those of the backward see `backward`, which is null where
// there are none, and whose forward `call` is. Problem and Buffers are what it was made of: a
// device that checks every access knows from them what belongs to the call.
struct Launches {
  std::span<const Launch> all;
  const ForwardCall& call;
  const Problem& problem;
  const Buffers& buffers;
  const BackwardCall* backward = nullptr;
};

// All members may be called from any thread at once.
class Device {
 public:
  virtual ~Device() = default;
  // Of the device that is current on this thread; null: there is none, and WhyNot says why.
  virtual const Facts* Now() const = 0;
  virtual const char* WhyNot() const = 0;
  // Whether the pointer is memory of a device, or managed by one.
  virtual bool Owns(const void* data) const = 0;
  // Memory for one call on buffers.stream; null: there is none.
  virtual void* Take(std::size_t bytes, void* stream) const = 0;
  virtual void Give(void* data, void* stream) const = 0;
  // Puts the kernels on buffers.stream and returns: no waiting, no allocation.
  virtual Status Run(const Launches& launches) const = 0;
};

// The one of this program; which one that is decides the linker.
const Device& TheDevice();

}  // namespace heed::cuda
