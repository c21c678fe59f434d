// bench/patterns.h: what the arrays of a made-up call hold: masks, block maps, lengths. Not here:
// the arrays (arrays.h), how a command line writes them (cli/options_patterns.h).
#pragma once

#include <cstdint>
#include <vector>

namespace heed::bench {

struct Patterns {
  enum class Mask : std::uint8_t {
    kNone,    ///< nothing was said: where a problem has a mask, coins
    kRandom,  ///< every pair is visible with the chance `mask_share`
    kBlocks,  ///< every block of mask_block x mask_block pairs is
    kCausal,  ///< key j is visible to query i iff j <= i + Sk - Sq
  };
  Mask mask = Mask::kNone;
  double mask_share = 0.5;
  std::int64_t mask_block = 64;

  bool map_given = false;
  double map_share = 0.5;  ///< the chance of a block of the map

  /// Of the sequences of a ragged batch (queries and keys alike), else how many keys an entry has;
  /// repeated where the batch is longer. Empty: all as long as they may be.
  std::vector<std::int64_t> lengths;

  bool v_in_k = false;  ///< v is the first Dv entries of the rows of k, in the same memory

  /// Something was said about arrays that decide who sees whom.
  bool decides() const { return mask != Mask::kNone || map_given || !lengths.empty(); }
};

}  // namespace heed::bench
