// bench/stream.h: how fast this machine reads memory in order, measured beside whatever is timed.
// Not here: the instructions (kernels.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/kernels.h"
#include "bench/memory.h"

namespace heed::bench {

/// Bytes per second of a prefetching sequential read by `threads` threads over `bytes` of huge
/// pages, each thread its part. Memory speed drifts with the neighbours' traffic: take samples
/// between the timed runs, over as many bytes as they read; the median of both is a fair share.
class ReadStream {
 public:
  ReadStream(const std::string& isa, int threads, std::int64_t bytes);

  /// Reads everything once.
  void Sample();
  /// 0 if this build has no such probe, there was no memory, or no sample was taken.
  double median() const;

 private:
  const Kernels* kernels_ = nullptr;
  std::int64_t bytes_ = 0;     ///< of one thread
  std::vector<Memory> parts_;  ///< one per thread
  std::vector<double> rates_;
};

}  // namespace heed::bench
