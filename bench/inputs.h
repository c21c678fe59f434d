// bench/inputs.h: memory for every tensor a Problem names, filled with noise. Not here: files,
// timing.
#pragma once

#include <cstdint>
#include <vector>

#include "heed/heed.h"
#include "io/tensor.h"

namespace heed::bench {

/// Element offsets that a tensor of this shape reaches, all strides filled in; the last stride
/// is 1.
struct Extent {
  std::int64_t low = 0;       ///< of the lowest element, 0 or negative
  std::int64_t elements = 0;  ///< from the lowest to the highest
};
Extent ExtentOf(std::int64_t batch, std::int64_t rows, std::int64_t heads, std::int64_t width,
                const Strides& strides);

/// The tensors of one call. Normal noise (standard deviation 1) where a tensor is read, from a
/// fixed seed; what is written starts as NaN, so that an entry nobody computed shows.
class Inputs {
 public:
  /// For plan.problem(), a normal problem. kRefused where it needs index arrays whose content this
  /// cannot make up (ragged batches, caches), or more memory than there is.
  static Result<Inputs> Make(const Problem& problem, std::uint64_t seed);

  Buffers buffers() const { return buffers_; }
  const Problem& problem() const { return problem_; }

 private:
  void* Take(std::int64_t bytes);
  void* Noise(DType dtype, const Extent& extent, std::uint64_t seed);
  void* Blank(DType dtype, const Extent& extent);
  void FillScoreTerms(std::uint64_t seed);
  void FillBackward(std::uint64_t seed);

  Problem problem_;
  Buffers buffers_;
  std::vector<io::AlignedBytes> memory_;
};

/// `count` values of N(0, 1), the same for the same seed on every machine.
void FillNormal(float* out, std::int64_t count, std::uint64_t seed);

}  // namespace heed::bench
