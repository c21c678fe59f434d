// visibility_test.cpp: the derived forms of visibility against Sees, over all small rules. Not
// here: arrays, tiles of a plan.
#include "problem/visibility.h"

#include <gtest/gtest.h>

#include <vector>

namespace heed {
namespace {

std::string Show(const Visibility& v) {
  return "sq " + std::to_string(v.sq) + " sk " + std::to_string(v.sk) + " shift " +
         std::to_string(v.shift) + " left " + std::to_string(v.left) + " right " +
         std::to_string(v.right) + " prefix " + std::to_string(v.prefix) + " chunk " +
         std::to_string(v.chunk);
}

// Calls f with every rule of small numbers.
template <class F>
void ForEachRule(F f) {
  Visibility v;
  for (v.sq = 0; v.sq <= 6; v.sq++)
    for (v.sk = 0; v.sk <= 6; v.sk++)
      for (v.shift = -4; v.shift <= 8; v.shift++)
        for (v.left = -1; v.left <= 3; v.left++)
          for (v.right = -1; v.right <= 3; v.right++)
            for (v.prefix = 0; v.prefix <= 3; v.prefix++)
              for (v.chunk = 0; v.chunk <= 3; v.chunk++) {
                f(v);
                if (testing::Test::HasFailure()) return;
              }
}

// Sees, as a table, with the number of pairs in every rectangle from (0, 0).
struct Table {
  std::int64_t below[8][8] = {};  // pairs (i', j') with i' < i, j' < j

  explicit Table(const Visibility& v) {
    for (std::int64_t i = 0; i < v.sq; i++) {
      for (std::int64_t j = 0; j < v.sk; j++) {
        below[i + 1][j + 1] = below[i][j + 1] + below[i + 1][j] - below[i][j] + Sees(v, i, j);
      }
    }
  }
  std::int64_t Pairs(Interval rows, Interval keys) const {
    return below[rows.last][keys.last] - below[rows.first][keys.last] -
           below[rows.last][keys.first] + below[rows.first][keys.first];
  }
};

bool Holds(Interval x, std::int64_t n) { return x.first <= n && n < x.last; }

TEST(Sees, IsTheContract) {
  // Bottom-right causal, 2 queries of 4 keys: the last query sees the last key.
  const Visibility causal = {.sq = 2, .sk = 4, .shift = 2, .right = 0};
  EXPECT_TRUE(Sees(causal, 0, 2));
  EXPECT_FALSE(Sees(causal, 0, 3));
  EXPECT_TRUE(Sees(causal, 1, 3));
  // -left <= j - (i + shift) <= right
  const Visibility window = {.sq = 5, .sk = 5, .left = 1, .right = 2};
  EXPECT_FALSE(Sees(window, 2, 0));
  EXPECT_TRUE(Sees(window, 2, 1));
  EXPECT_TRUE(Sees(window, 2, 4));
  EXPECT_FALSE(Sees(window, 1, 4));
  // Chunks floor toward minus infinity: position -1 is not in the chunk of 0.
  const Visibility chunk = {.sq = 3, .sk = 4, .shift = -1, .chunk = 2};
  EXPECT_FALSE(Sees(chunk, 0, 0));
  EXPECT_TRUE(Sees(chunk, 1, 0));
  EXPECT_TRUE(Sees(chunk, 1, 1));
  EXPECT_FALSE(Sees(chunk, 1, 2));
  // The prefix is seen whatever the rest says, but only keys that exist.
  const Visibility prefix = {.sq = 2, .sk = 3, .shift = -9, .right = 0, .prefix = 9};
  EXPECT_TRUE(Sees(prefix, 0, 2));
  EXPECT_FALSE(Sees(prefix, 0, 3));
  EXPECT_FALSE(Sees(prefix, 2, 0));
}

TEST(Visibility, PrefixAndBandAreTheKeysThatARowSees) {
  ForEachRule([](const Visibility& v) {
    const Interval prefix = PrefixKeys(v);
    for (std::int64_t i = 0; i < v.sq; i++) {
      const Interval band = Band(v, i);
      ASSERT_GE(band.first, prefix.last) << Show(v) << " row " << i;
      ASSERT_LE(band.last, v.sk) << Show(v) << " row " << i;
      for (std::int64_t j = -2; j < v.sk + 2; j++) {
        ASSERT_EQ(Holds(prefix, j) || Holds(band, j), Sees(v, i, j))
            << Show(v) << " row " << i << " key " << j;
      }
    }
  });
}

TEST(Visibility, EndsOfBandsNeverFall) {
  ForEachRule([](const Visibility& v) {
    for (std::int64_t i = 1; i < v.sq; i++) {
      ASSERT_LE(Band(v, i - 1).first, Band(v, i).first) << Show(v) << " row " << i;
      ASSERT_LE(Band(v, i - 1).last, Band(v, i).last) << Show(v) << " row " << i;
    }
  });
}

TEST(Visibility, QueriesOfAreTheRowsThatSeeAKey) {
  ForEachRule([](const Visibility& v) {
    for (std::int64_t j = -2; j < v.sk + 2; j++) {
      const Interval rows = QueriesOf(v, j);
      for (std::int64_t i = -2; i < v.sq + 2; i++) {
        ASSERT_EQ(Holds(rows, i), Sees(v, i, j)) << Show(v) << " row " << i << " key " << j;
      }
    }
  });
}

TEST(Visibility, ClassifyCountsEveryTile) {
  ForEachRule([](const Visibility& v) {
    const Table table(v);
    for (Interval r = {0, 0}; r.first <= v.sq; r.first++)
      for (r.last = r.first; r.last <= v.sq; r.last++)
        for (Interval k = {0, 0}; k.first <= v.sk; k.first++)
          for (k.last = k.first; k.last <= v.sk; k.last++) {
            const std::int64_t seen = table.Pairs(r, k);
            const TileKind kind = seen == 0                     ? TileKind::kEmpty
                                  : seen == r.size() * k.size() ? TileKind::kFull
                                                                : TileKind::kEdge;
            ASSERT_EQ(static_cast<int>(Classify(v, r, k)), static_cast<int>(kind))
                << Show(v) << " rows [" << r.first << ", " << r.last << ") keys [" << k.first
                << ", " << k.last << ")";
          }
  });
}

TEST(Visibility, VisiblePairsCountsAll) {
  ForEachRule([](const Visibility& v) {
    ASSERT_EQ(VisiblePairs(v), Table(v).Pairs({0, v.sq}, {0, v.sk})) << Show(v);
  });
}

TEST(FloorDiv, FloorsAtEveryEnd) {
  EXPECT_EQ(FloorDiv(7, 3), 2);
  EXPECT_EQ(FloorDiv(-1, 3), -1);
  EXPECT_EQ(FloorDiv(-3, 3), -1);
  EXPECT_EQ(FloorDiv(-4, 3), -2);
  EXPECT_EQ(FloorDiv(INT64_MIN, INT64_MAX), -2);
  EXPECT_EQ(FloorDiv(INT64_MIN + 1, INT64_MAX), -1);
}

// Usable where the compiler knows the numbers: all forms are constexpr.
static_assert(Sees({.sq = 1, .sk = 1}, 0, 0));
static_assert(Band({.sq = 4, .sk = 4, .left = 1, .right = 0}, 2).first == 1);
static_assert(Classify({.sq = 4, .sk = 4, .right = 0}, {2, 4}, {0, 2}) == TileKind::kFull);

}  // namespace
}  // namespace heed
