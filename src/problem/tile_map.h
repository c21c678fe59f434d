// tile_map.h: who sees whom once lengths, mask and block map are known, for one query head. Host
// memory, one pair of loops: for maps and counts, not for kernels. Not here: the public calls
// (tile_map.cpp).
#pragma once

#include <cstdint>

#include "heed/heed.h"
#include "problem/visibility.h"

namespace heed {

// Sizes and shift of batch entry b of a normal problem, from the arrays where it has them.
Visibility VisibilityOfEntry(const Problem& normal, const Buffers& buffers, std::int64_t b);

// Query head h of entry b.
class Seen {
 public:
  Seen(const Problem& normal, const Buffers& buffers, std::int64_t b, std::int64_t h);

  const Visibility& geometry() const { return v_; }
  // Pairs of rows x keys that see each other. Both lie within the entry.
  std::int64_t Count(Interval rows, Interval keys) const;
  // What that makes of the tile; adds the pairs to *pairs.
  Tile Classify(Interval rows, Interval keys, double* pairs) const;

 private:
  std::int64_t CountRow(std::int64_t i, Interval keys) const;
  std::int64_t CountMask(std::int64_t i, Interval keys) const;

  const Problem& p_;
  Visibility v_;
  const std::uint8_t* mask_ = nullptr;  // of (b, h); null where there is none
  const std::uint8_t* map_ = nullptr;
};

}  // namespace heed
