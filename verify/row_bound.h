// verify/row_bound.h: how far the forward of one query row may be off in floating point, from its
// data. Not here: gradients, 16-bit tensors.
#pragma once

#include <cstdint>
#include <vector>

#include "verify/call.h"

namespace heed::verify {

/// Constants of an arithmetic. Derivations: docs/numerics.md.
struct Arithmetic {
  double u = 0;           ///< unit roundoff of products, sums and row state
  double exp2_error = 0;  ///< relative, of one exp2
  double tanh_error = 0;  ///< relative, of one tanh
  double flush = 0;       ///< what a product may lose to underflow
  double tiny = 0;        ///< a probability below it may come out as anything up to it
  double p_error = 0;  ///< relative, of rounding p before it meets v; the sum of p is not rounded

  static Arithmetic Of(DType tensors);
};

/// One visible key of a row, with p normalised.
struct KeyBound {
  std::int64_t j = 0;
  double s = 0, tanh = 0, p = 0;
  double raw_error = 0;  ///< of the score before softcap
  double error = 0;      ///< of log p before it is normalised
  bool keep = true;
};

/// Facts of a row in float64 and the bounds of its results.
class RowBound {
 public:
  RowBound(const Call& call, const Arithmetic& arithmetic) : call_(call), a_(arithmetic) {}

  void Compute(const Sequence& s, std::int64_t h, std::int64_t i);

  std::vector<KeyBound> keys;      ///< those with p > -infinity
  std::vector<double> o, o_bound;  ///< (Dv)
  std::vector<double> o_floor;     ///< (Dv), the part of o_bound that underflow alone can cause
  double lse = 0, lse_bound = 0;
  double max_score = 0;               ///< -infinity: the row sees nothing
  double normaliser = 0;              ///< |log| error of the sum of p, rounding included
  double sum_error = 0;               ///< relative, of a sum over the row's keys
  double p_sink = 0, sink_error = 0;  ///< as of a key
  bool not_finite = false;            ///< a score is NaN or +infinity: o is NaN, lse not finite
  bool overflow = false;              ///< f32 may overflow on the way: anything may come out

 private:
  void Scores(const Sequence& s, std::int64_t h, std::int64_t i);
  void ScoreErrors(double sink);
  void Output(const Sequence& s, std::int64_t h);

  const Call& call_;
  const Arithmetic& a_;
};

/// Scores at or below it are of the lowest floats that serve as masks: all such scores count as
/// equal.
inline constexpr double kLowestScore = -2e38;

}  // namespace heed::verify
