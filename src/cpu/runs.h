// runs.h: the keys that some rows of a tile see, as runs of units for the products. Not here: the
// products (tiles.h).
#pragma once

#include "cpu/live.h"
#include "cpu/tiles.h"

namespace heed::cpu::HEED_ISA {

inline constexpr int kMostRuns = 64 + 2;  // every other column, and the prefix apart

// Rows [row, row + count) of a tile and the block at k0; kPair keys are a unit. Probabilities of keys
// outside the runs may not have been written; those of a hidden key within a run are zero. Returns
// the number of runs.
template <int kPair>
HEED_INLINE int RunsOf(const RowState& rows, const Live& live, int row, int count, std::int64_t k0,
                       Run (&runs)[kMostRuns]) {
  Columns columns = live.masked ? LiveRows(live, row, count) : live.live;
  int prefix = live.prefix, x = static_cast<int>(Clamp(rows.first[row] - k0, 0, kMaxKeys)),
      y = static_cast<int>(Clamp(rows.last[row + count - 1] - k0, 0, kMaxKeys)), n = 0;
  if (x <= prefix) {
    x = 0;
    y = y > prefix ? y : prefix;
    prefix = 0;
  }
  const auto add = [&](int from, int to) __attribute__((always_inline)) {
    if (from < to) runs[n++] = {from / kPair, (to + kPair - 1) / kPair - from / kPair};
  };
  while (columns) {
    const int c = __builtin_ctzll(columns), end = c + OnesFrom(columns, c);
    columns &= ~BitRange(c, end);
    const int from = c * kKeys, to = end * kKeys;
    if (from < prefix) add(from, to < prefix ? to : prefix);
    add(from > x ? from : x, to < y ? to : y);
  }
  return n;
}

}  // namespace heed::cpu::HEED_ISA
