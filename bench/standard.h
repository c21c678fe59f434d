// bench/standard.h: attention the standard way: all scores in memory, a softmax of every row, two
// matrix products. The baseline, as good as a library of matrix products makes it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/blas.h"
#include "bench/kernels.h"
#include "heed/heed.h"
#include "io/tensor.h"

namespace heed::bench {

/// Standard attention over the tensors of one dense forward problem. Generous to it: 16-bit inputs
/// are converted to f32 before the clock starts, and one head's scores at a time are kept, not all.
class Standard {
 public:
  /// kRefused without OpenBLAS, for options other than scale, alignment, causal and window, and
  /// where the scores do not fit in memory. `problem` is normal (Plan::problem()).
  static Result<std::unique_ptr<Standard>> Make(const Problem& problem, const Buffers& buffers,
                                                int threads);

  void Run();

  /// Scores, converted inputs and output: what it takes besides the given tensors.
  std::int64_t bytes() const { return bytes_; }
  const std::string& core() const { return blas_->core(); }
  /// (B, Sq, Hq, Dv), f32, contiguous.
  const float* out() const { return out_; }

  /// Largest |o - out| over all entries of the buffers' o; NaN if any entry of either is NaN.
  double MaxAbsDifference() const;

 private:
  struct Source {  ///< f32 rows of one tensor
    const float* data = nullptr;
    Strides strides;
  };
  Source Floats(const void* data, std::int64_t rows, std::int64_t heads, std::int64_t width,
                const Strides& strides);
  float* Take(std::int64_t floats);
  void Softmax(std::int64_t first_row, std::int64_t rows);

  Problem problem_;
  Buffers buffers_;
  const Blas* blas_ = nullptr;
  const Kernels* kernels_ = nullptr;
  int threads_ = 1;
  Source q_, k_, v_;
  float* scores_ = nullptr;  ///< (Sq, row_)
  float* out_ = nullptr;     ///< (B, Sq, Hq, Dv)
  std::int64_t row_ = 0;     ///< floats of a row of scores: Sk, rounded up to whole cache lines
  std::int64_t bytes_ = 0;
  std::vector<io::AlignedBytes> memory_;
};

}  // namespace heed::bench
