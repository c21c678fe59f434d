// geometry.h: how much of the score matrix a Problem sees: pairs, tiles, flops, bytes; in closed
// form where there is one. Not here: the rule itself (visibility.h), what a backend moves or
// allocates.
#pragma once

#include <cstdint>

#include "heed/heed.h"
#include "problem/visibility.h"

namespace heed {

// Pairs of one head that see each other: VisiblePairs in O(1), with chunks O(Sq / chunk).
double CountPairs(const Visibility& v);

// Classify over all tiles of rows x keys of one head: O(Sq / rows).
struct TileCounts {
  double full = 0, edge = 0, empty = 0;
};
TileCounts CountTiles(const Visibility& v, std::int64_t rows, std::int64_t keys);

// Of a pair that sees each other. Forward: QK', PV. Backward: QK' again, dS K, dS'Q of D each; dO V',
// P'dO of Dv each.
double FlopsPerPair(const Problem& p);

// What is in arrays (masks, lengths) is not known here: every key of k_len exists, offsets are 0,
// the sequences of a ragged batch are equally long.
struct Work {
  TileCounts tiles;
  double pairs = 0, dense_pairs = 0;  // all heads
  double flops = 0, dense_flops = 0;
  double bytes_read = 0, bytes_written = 0;  // every input and output once
  double bytes_standard = 0;
};
Work CountWork(const Problem& normal, std::int64_t tile_rows, std::int64_t tile_keys);

}  // namespace heed
