// verify/compare.h: the comparator: expected values, what was got, and how far apart they may be.
// Not here: where bounds come from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "verify/array.h"

namespace heed::verify {

/// How one tensor fared. The worst element is the one with the largest error in units of its bound.
struct Comparison {
  std::int64_t count = 0;  ///< elements compared
  std::int64_t failures =
      0;             ///< elements outside their bound or against a rule of NaN and infinity
  double ratio = 0;  ///< error / bound of the worst element; infinite where a rule is broken
  double error = 0,
         bound = 0;  ///< of the worst element; error is NaN where a rule of NaN is broken
  double expected = 0, got = 0;  ///< of the worst element
  std::vector<std::int64_t> at;  ///< its coordinate; empty where nothing was compared
  std::string problem;  ///< not empty: the arrays do not fit each other, nothing was compared

  bool passed() const { return failures == 0 && problem.empty(); }
  /// One sentence: "worst error 1e-7 of 3e-7 at [0, 2, 1]: got 0.5 for 0.49".
  std::string Describe() const;
};

/// Compares element by element. `bound` has expected's shape, or one element that serves all.
///
/// NaN expected: NaN must be got, and NaN nowhere else. An infinity expected: the same one must be
/// got. Finite expected: |got - expected| <= bound, and an infinity is taken only where the bound
/// reaches what rounds to infinity in `type` (what was got is of that dtype; only 16-bit results
/// may overflow). An infinite bound says that anything will do, NaN too; a bound that is NaN or
/// negative is a failure. -0 equals 0.
Comparison Compare(const Array& expected, const Array& bound, const Array& got, DType type);

/// The same with what was got read through a view.
Comparison Compare(const Array& expected, const Array& bound, const View& got);

}  // namespace heed::verify
