// bench/needs.h: what a call has to compute and to move, once its arrays are known. Not here: times.
#pragma once

#include "heed/heed.h"

namespace heed::bench {

/// A core that does 2 x 16 x 2 flops a clock and reads 10 bytes a clock needs this many flops a
/// byte, times a margin of five.
inline constexpr double kComputeBound = 32;

struct Needs {
  TileTotals tiles;  ///< with what is in the arrays
  double flops = 0;  ///< of the pairs that are visible
  /// What a call must read and write at least; decoding: of keys and values those that somebody
  /// sees, whole tiles of them, and nothing else.
  double bytes = 0;

  /// Fewer than kComputeBound flops a byte, and more bytes than the last cache holds.
  bool memory_bound() const;
};

/// Of the buffers only what decides who sees whom is looked at. `v_in_k`: rows of v are part of
/// those of k.
Result<Needs> NeedsOf(const Plan& plan, const Buffers& buffers, bool v_in_k, bool decode);

}  // namespace heed::bench
