// gradient_runs.h: the queries that see some keys of a block, as runs of units for the sums of dk and
// dv. Not here: the sums (tiles.h), the keys that some queries see (runs.h).
#pragma once

#include "cpu/live.h"
#include "cpu/tiles.h"

namespace heed::cpu::HEED_ISA {

// Rows [first, last) of a tile that see one of keys [from, to) of the block at k0, as far as
// intervals know.
HEED_INLINE void RowsThatSee(const RowState& rows, const Live& live, std::int64_t k0, int from,
                             int to, int* first, int* last) {
  if (from < live.prefix) return;  // all of them
  while (*first < *last && rows.last[*first] <= k0 + from) ++*first;
  while (*last > *first && rows.first[*last - 1] >= k0 + to) --*last;
}

// Keys [from, to) of the block against tile t: appends its run, in units of kPair queries counted
// over all tiles. P and dS of hidden pairs within it are zero.
template <int kPair>
HEED_INLINE int AddRowRun(const RowState& rows, const Live& live, int t, std::int64_t k0, int from,
                          int to, Run* runs, int n) {
  const Columns columns = BitRange(from / kKeys, (to + kKeys - 1) / kKeys) & live.live;
  if (!columns) return n;
  int at = 0, end = rows.vectors;
  while (!(live.any[at] & columns)) at++;
  while (!(live.any[end - 1] & columns)) end--;
  int first = at * W, last = end * W < rows.rows ? end * W : rows.rows;
  RowsThatSee(rows, live, k0, from, to, &first, &last);
  if (first >= last) return n;
  first = (t * kRows + first) / kPair;
  last = (t * kRows + last + kPair - 1) / kPair;
  if (n > 0 && runs[n - 1].first + runs[n - 1].units == first)
    runs[n - 1].units += last - first;
  else
    runs[n++] = {first, last - first};
  return n;
}

}  // namespace heed::cpu::HEED_ISA
