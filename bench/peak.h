// bench/peak.h: the most this machine can compute, measured beside whatever is timed. Not here: the
// instructions (kernels.cpp), reading (stream.h).
#pragma once

#include <cstdint>
#include <string>

#include "bench/kernels.h"
#include "heed/types.h"

namespace heed::bench {

/// Flops per second of `threads` threads together, in the arithmetic that the instruction set has
/// for a dtype: bf16 dot products where it has them, else f32 multiply-adds. Clocks drift, so take
/// samples before, after and between the timed runs: the best of all is the peak, and a share of it
/// above 1 would be a fault of the probe.
class PeakProbe {
 public:
  PeakProbe(const std::string& isa, DType dtype, int threads);

  /// False if this build has no probe of that name: then best() is 0.
  bool valid() const { return run_ != nullptr; }
  /// "bf16 dot" or "f32 fma".
  const char* unit() const { return unit_; }

  /// Measures that many windows of about 0.4 ms each; the best of them, 0 where there is no probe.
  double Sample(int windows);
  double best() const { return best_; }

 private:
  double Window();

  double (*run_)(std::int64_t) = nullptr;
  const char* unit_ = "";
  int threads_ = 1;
  std::int64_t rounds_ = 0;
  double best_ = 0;
};

}  // namespace heed::bench
