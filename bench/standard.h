// bench/standard.h: attention the standard way: all scores in memory, a softmax of every row, two
// matrix products; backward four from the probabilities that the forward kept. The baseline, as good
// as a library of matrix products makes it.
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

struct StandardCall {
  Problem problem;  ///< normal (Plan::problem()), forward or backward
  Buffers buffers;
  int threads = 1;
  bool with_forward = false;  ///< of a backward: Run computes the forward, too
};

/// Standard attention over the tensors of one dense problem. Generous to it: 16-bit inputs are
/// converted to f32 before the clock starts, and the forward keeps one head's scores at a time, not
/// all. A backward needs the probabilities of all heads, as they are kept for it.
class Standard {
 public:
  /// kRefused without OpenBLAS, for options other than scale, alignment, causal and window, and
  /// where the scores do not fit in memory.
  static Result<std::unique_ptr<Standard>> Make(const StandardCall& call);

  void Run();

  /// Scores, converted inputs and results: what it takes besides the given tensors.
  std::int64_t bytes() const { return bytes_; }
  const std::string& core() const { return blas_->core(); }
  /// o: (B, Sq, Hq, Dv), f32, contiguous.
  const float* out() const { return out_; }

  /// Largest difference from the buffers' o, or of a backward from their dq, dk and dv; NaN if any
  /// entry of either is NaN.
  double MaxAbsDifference() const;

 private:
  struct Source {  ///< f32 rows of one tensor
    const float* data = nullptr;
    Strides strides;
  };
  Source Floats(const void* data, std::int64_t rows, std::int64_t heads, std::int64_t width,
                const Strides& strides);
  float* Take(std::int64_t floats);
  /// work(first, rows) over all queries, on as many threads as are worth it.
  template <class F>
  void EachRow(const F& work) const;
  void Softmax(float* scores, std::int64_t first_row, std::int64_t rows) const;
  void Forward(std::int64_t b, std::int64_t h);
  void Backward(std::int64_t b, std::int64_t h);
  const float* At(const Source& x, std::int64_t b, std::int64_t head) const {
    return x.data + b * x.strides.batch + head * x.strides.head;
  }
  /// Of one head: the backward's are all kept.
  float* ScoresOf(std::int64_t b, std::int64_t h) const {
    return scores_ + (backward() ? (b * problem_.q_heads + h) * problem_.q_len * row_ : 0);
  }
  bool backward() const { return problem_.op == Op::kBackward; }

  Problem problem_;
  Buffers buffers_;
  const Blas* blas_ = nullptr;
  const Kernels* kernels_ = nullptr;
  int threads_ = 1;
  bool with_forward_ = false;
  Source q_, k_, v_, dout_;
  float* scores_ = nullptr;   ///< (Sq, row_); backward (B, Hq, Sq, row_)
  float* dscores_ = nullptr;  ///< (Sq, row_)
  float* out_ = nullptr;      ///< (B, Sq, Hq, Dv)
  float* dq_ = nullptr;       ///< these three contiguous, too
  float* dk_ = nullptr;
  float* dv_ = nullptr;
  std::int64_t row_ = 0;  ///< floats of a row of scores: Sk, rounded up to whole cache lines
  std::int64_t bytes_ = 0;
  std::vector<io::AlignedBytes> memory_;
};

}  // namespace heed::bench
