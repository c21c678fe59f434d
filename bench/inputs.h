// bench/inputs.h: memory for every tensor a Problem names, filled with noise. Not here: files,
// timing.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/arrays.h"
#include "bench/memory.h"
#include "heed/heed.h"

namespace heed::bench {

/// The tensors of one call. Normal noise (standard deviation 1) where a tensor is read, from a
/// fixed seed; what is written starts as NaN, so that an entry nobody computed shows.
class Inputs {
 public:
  /// For plan.problem(), a normal problem; masks, lengths and places as `patterns` says;
  /// `huge_keys`: keys and values on huge pages. kRefused where it needs more memory than there is.
  static Result<Inputs> Make(const Problem& problem, const Patterns& patterns, std::uint64_t seed,
                             bool huge_keys = false);

  Buffers buffers() const { return buffers_; }
  const Problem& problem() const { return problem_; }

 private:
  void* Take(std::int64_t bytes, bool huge = false);
  void* Noise(DType dtype, const Extent& extent, std::uint64_t seed, bool huge = false);
  void* Rounded(const std::vector<float>& values);  // to the tensors' dtype
  void* Blank(DType dtype, const Extent& extent);
  void FillKeysAndValues(bool v_in_k, std::uint64_t seed);
  void FillCache(bool v_in_k, std::uint64_t seed);
  void FillScoreTerms(std::uint64_t seed);
  void FillBackward(std::uint64_t seed);

  Problem problem_;
  Buffers buffers_;
  bool huge_keys_ = false;
  Arrays arrays_;
  std::vector<Memory> memory_;
};

/// `count` values of N(0, 1), the same for the same seed on every machine. Beyond a million they
/// repeat: a benchmark should not spend its time on logarithms.
void FillNormal(float* out, std::int64_t count, std::uint64_t seed);

}  // namespace heed::bench
