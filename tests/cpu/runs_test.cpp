// runs_test.cpp: the queries that the sums of dk and dv take, against the definition of who sees whom:
// everyone who sees one of the keys, and at the ends of a run nobody who does not; and the keys that
// those of o and dq take, likewise.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cpu/machine.h"
#include "runs_check.h"

namespace heed::cpu {
namespace {

std::vector<const RunsCheck*> UsableRuns() {
  std::vector<const RunsCheck*> usable;
  const RunsCheck* const built[] = {
#if defined(HEED_HAVE_AVX512BF16)
    &avx512bf16::kRuns,
#endif
#if defined(HEED_HAVE_AVX512)
    &avx512::kRuns,
#endif
#if defined(HEED_HAVE_AVX2)
    &avx2::kRuns,
#endif
#if defined(HEED_HAVE_NEON)
    &neon::kRuns,
#endif
    &scalar::kRuns,
  };
  for (const RunsCheck* runs : built)
    if (!WhyUnusable(runs->isa)) usable.push_back(runs);
  return usable;
}

class Runs : public ::testing::TestWithParam<const RunsCheck*> {
 protected:
  const RunsCheck& set = *GetParam();

  static bool SeesPair(const RunsCall& c, std::int64_t i, std::int64_t j) {
    return Sees(c.sees, i, j) && (!c.mask || c.mask[i * c.sees.sk + j]);
  }
  // Whether query i sees one of the call's keys.
  static bool SeesAny(const RunsCall& c, std::int64_t i) {
    for (std::int64_t j = c.k0 + c.from; j < c.k0 + c.to; j++)
      if (SeesPair(c, i, j)) return true;
    return false;
  }

  // tight: the ends of runs see something, too. Units start at the call's first query.
  void Check(const RunsCall& c, bool tight) const {
    UnitRun runs[kMostRunTiles];
    const int n = set.queries(c, runs);
    ASSERT_LE(n, c.tiles);
    const std::int64_t rows = Min(c.sees.sq - c.query, c.tiles * set.tile_rows);
    std::vector<int> taken(static_cast<std::size_t>(rows + c.pair));
    int end = -1;
    for (int r = 0; r < n; r++) {
      ASSERT_GT(runs[r].units, 0);
      ASSERT_GT(runs[r].first, end) << "runs overlap, or touch and are two";
      end = runs[r].first + runs[r].units;
      ASSERT_LT((end - 1) * c.pair, rows) << "a unit without a query";
      for (int i = runs[r].first * c.pair; i < end * c.pair; i++)
        taken[static_cast<std::size_t>(i)]++;
      if (!tight) continue;
      bool first = false, last = false;
      for (int i = 0; i < c.pair; i++) {
        first = first || SeesAny(c, c.query + runs[r].first * c.pair + i);
        last = last || SeesAny(c, c.query + (end - 1) * c.pair + i);
      }
      ASSERT_TRUE(first && last) << "keys " << c.from << " to " << c.to;
    }
    for (std::int64_t i = 0; i < rows; i++) {
      if (SeesAny(c, c.query + i)) {
        ASSERT_EQ(taken[static_cast<std::size_t>(i)], 1)
            << "query " << c.query + i << " sees keys " << c.from << " to " << c.to;
      }
    }
  }

  // Keys for rows [row, row + count) of the first tile.
  void CheckKeys(const RunsCall& c, int row, int count) const {
    UnitRun runs[kMostKeyRuns];
    std::uint64_t live = 0;
    const int n = set.keys(c, row, count, runs, &live);
    ASSERT_LE(n, kMostKeyRuns);
    std::vector<int> taken(static_cast<std::size_t>(c.keys + c.pair));
    for (int r = 0; r < n; r++) {
      ASSERT_GT(runs[r].units, 0);
      ASSERT_LT((runs[r].first + runs[r].units - 1) * c.pair, c.keys) << "a unit without a key";
      for (int i = 0; i < runs[r].units * c.pair; i++) {
        const int key = runs[r].first * c.pair + i;
        ASSERT_TRUE(live >> key / set.tile_keys & 1) << "key " << key << " was not computed";
        taken[static_cast<std::size_t>(key)]++;
      }
    }
    for (int key = 0; key < c.keys; key++) {
      const int times = taken[static_cast<std::size_t>(key)];
      ASSERT_LE(times, 1) << "key " << key << " is summed twice";
      for (std::int64_t i = c.query + row; i < Min(c.query + row + count, c.sees.sq); i++)
        ASSERT_TRUE(times == 1 || !SeesPair(c, i, c.k0 + key)) << "query " << i << " key " << key;
    }
  }

  // Every group of keys that an accumulate tile may take, of every block, against every two tiles.
  void CheckAll(RunsCall c, int block, bool tight) const {
    for (c.pair = 1; c.pair <= 2; c.pair++) {
      if (set.tile_rows % c.pair) continue;  // such a set has no pairs
      for (c.query = 0; c.query < c.sees.sq; c.query += set.tile_rows) {
        c.tiles =
            static_cast<int>(Min(2, (c.sees.sq - c.query + set.tile_rows - 1) / set.tile_rows));
        for (c.k0 = 0; c.k0 < c.sees.sk; c.k0 += block) {
          c.keys = static_cast<int>(Min(block, c.sees.sk - c.k0));
          for (const int count : {1, 3, set.tile_rows})
            for (int row = 0; row + count <= set.tile_rows; row += count)
              ASSERT_NO_FATAL_FAILURE(CheckKeys(c, row, count))
                  << "rows from " << row << ", block at " << c.k0;
          for (const int step : {1, 3, 6, 12})
            for (c.from = 0; c.from < c.keys; c.from += step) {
              c.to = static_cast<int>(Min(c.from + step, c.keys));
              ASSERT_NO_FATAL_FAILURE(Check(c, tight))
                  << c.sees.sq << " x " << c.sees.sk << " shift " << c.sees.shift << " left "
                  << c.sees.left << " right " << c.sees.right << " prefix " << c.sees.prefix
                  << " chunk " << c.sees.chunk << ", block at " << c.k0;
            }
        }
      }
    }
  }

  int Block() const { return 2 * (set.lanes > set.tile_keys ? set.lanes : set.tile_keys); }
};

TEST_P(Runs, OfIntervals) {
  const std::int64_t sq = 2 * set.tile_rows + 5, sk = 3 * Block() + 3;
  for (const std::int64_t shift : {sk - sq, std::int64_t{0}, std::int64_t{-7}, sk / 2})
    for (const std::int64_t left : {-1, 0, 5, 40})
      for (const std::int64_t right : {-1, 0, 3, 40}) {
        RunsCall c;
        c.sees = {.sq = sq, .sk = sk, .shift = shift, .left = left, .right = right};
        // A query whose interval is empty at the ends of the sequence may be taken: it lies between
        // two that see something, or costs nothing that is not zero.
        bool full = true;
        for (std::int64_t i = 0; i < sq; i++) full = full && !Band(c.sees, i).empty();
        CheckAll(c, Block(), full);
      }
}

TEST_P(Runs, OfPrefixAndChunks) {
  const std::int64_t sq = 2 * set.tile_rows + 5, sk = 3 * Block() + 3;
  for (const std::int64_t prefix : {0, 1, 9, 1000})
    for (const std::int64_t chunk : {0, 1, 11})
      for (const std::int64_t right : {-1, 0}) {
        RunsCall c;
        c.sees = {.sq = sq, .sk = sk, .right = right, .prefix = prefix, .chunk = chunk};
        CheckAll(c, Block(), false);
      }
}

// Masks of rows, of blocks and of single pairs, with and without a rule beside them.
TEST_P(Runs, OfMasks) {
  const std::int64_t sq = 2 * set.tile_rows + 5, sk = 3 * Block() + 3;
  for (int kind = 0; kind < 4; kind++)
    for (const std::int64_t right : {-1, 0}) {
      std::vector<std::uint8_t> mask(static_cast<std::size_t>(sq * sk));
      std::uint32_t random = 1;
      for (std::int64_t i = 0; i < sq; i++)
        for (std::int64_t j = 0; j < sk; j++) {
          random = random * 1664525 + 1013904223;
          const bool pairs = random >> 24 < 8, blocks = (i / 16 * 3 + j / 8) % 5 == 0;
          const bool seen[] = {pairs, blocks, i % 7 == 3, false};
          mask[static_cast<std::size_t>(i * sk + j)] = seen[kind];
        }
      RunsCall c;
      c.mask = mask.data();
      for (const std::int64_t prefix : {0, 9}) {
        c.sees = {.sq = sq, .sk = sk, .shift = sk - sq, .right = right, .prefix = prefix};
        CheckAll(c, Block(), false);
      }
    }
}

// Tiles that touch become one run, and a tile of which nothing is seen leaves a gap.
TEST_P(Runs, OfTilesSideBySide) {
  const int rows = set.tile_rows, keys = Block();
  RunsCall c;
  c.sees = {.sq = 3 * rows, .sk = keys};
  c.keys = c.to = keys;
  c.tiles = 3;
  UnitRun runs[kMostRunTiles];
  ASSERT_EQ(set.queries(c, runs), 1);
  EXPECT_EQ(runs[0].first, 0);
  EXPECT_EQ(runs[0].units, 3 * rows);
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(3 * rows * keys), 1);
  for (int i = rows; i < 2 * rows; i++)
    for (int j = 0; j < keys; j++) mask[static_cast<std::size_t>(i * keys + j)] = 0;
  c.mask = mask.data();
  ASSERT_EQ(set.queries(c, runs), 2);
  EXPECT_EQ(runs[0].units, rows);
  EXPECT_EQ(runs[1].first, 2 * rows);
  EXPECT_EQ(runs[1].units, rows);
}

INSTANTIATE_TEST_SUITE_P(Isa, Runs, ::testing::ValuesIn(UsableRuns()),
                         [](const auto& param) { return std::string(param.param->isa); });

}  // namespace
}  // namespace heed::cpu
