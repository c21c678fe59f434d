// runs_check.h: which queries the sums of dk and dv take, and which keys those of o and dq, from one
// instruction set's kernel text, as plain functions. Not here: what is right (runs_test.cpp).
#pragma once

#include <cstdint>

#include "problem/visibility.h"

namespace heed::cpu {

// Keys [from, to) of the block at k0 against the first `tiles` tiles of queries from `query` on.
struct RunsCall {
  Visibility sees;
  const std::uint8_t* mask = nullptr;  // (sq, sk), or null: all true
  std::int64_t query = 0, k0 = 0;
  int keys = 0, tiles = 1;  // the block's
  int from = 0, to = 0;
  int pair = 1;  // queries of a unit: 1 or 2
};
struct UnitRun {
  int first, units;
};
inline constexpr int kMostRunTiles = 4, kMostKeyRuns = 66;

struct RunsCheck {
  const char* isa;
  int tile_rows, lanes, tile_keys, most_keys;
  // Both return how many runs.
  int (*queries)(const RunsCall& call, UnitRun* runs);
  // Of rows [row, row + count) of the first tile; pair: keys of a unit. live: bit c, keys [c *
  // tile_keys, (c + 1) * tile_keys) of the block were computed.
  int (*keys)(const RunsCall& call, int row, int count, UnitRun* runs, std::uint64_t* live);
};

#define HEED_DECLARE_RUNS_CHECK(isa) \
  namespace isa {                    \
  extern const RunsCheck kRuns;      \
  }
HEED_DECLARE_RUNS_CHECK(avx512bf16)
HEED_DECLARE_RUNS_CHECK(avx512)
HEED_DECLARE_RUNS_CHECK(avx2)
HEED_DECLARE_RUNS_CHECK(neon)
HEED_DECLARE_RUNS_CHECK(scalar)
#undef HEED_DECLARE_RUNS_CHECK

}  // namespace heed::cpu
