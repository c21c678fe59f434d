// geometry_test.cpp: closed forms of pairs and tiles against counting; flops and bytes against
// figures worked out by hand.
#include "problem/geometry.h"

#include <gtest/gtest.h>

#include "problem/normal.h"

namespace heed {
namespace {

TEST(CountPairs, EqualsVisiblePairs) {
  Visibility v;
  for (v.sq = 0; v.sq <= 7; v.sq += 1)
    for (v.sk = 0; v.sk <= 7; v.sk++)
      for (v.shift = -5; v.shift <= 9; v.shift += 2)
        for (v.left = -1; v.left <= 4; v.left++)
          for (v.right = -1; v.right <= 4; v.right++)
            for (v.prefix = 0; v.prefix <= 4; v.prefix++)
              for (v.chunk = 0; v.chunk <= 4; v.chunk++) {
                ASSERT_EQ(CountPairs(v), static_cast<double>(VisiblePairs(v)))
                    << v.sq << " " << v.sk << " " << v.shift << " " << v.left << " " << v.right
                    << " " << v.prefix << " " << v.chunk;
              }
}

TEST(CountTiles, EqualsClassifyOverAllTiles) {
  Visibility v;
  for (v.sq = 0; v.sq <= 6; v.sq += 2)
    for (v.sk = 0; v.sk <= 7; v.sk++)
      for (v.shift = -4; v.shift <= 8; v.shift += 2)
        for (v.left = -1; v.left <= 3; v.left++)
          for (v.right = -1; v.right <= 3; v.right++)
            for (v.prefix = 0; v.prefix <= 4; v.prefix++)
              for (v.chunk = 0; v.chunk <= 3; v.chunk++)
                for (std::int64_t rows = 1; rows <= 4; rows++)
                  for (std::int64_t keys = 1; keys <= 4; keys++) {
                    double counts[3] = {};
                    for (std::int64_t i = 0; i < v.sq; i += rows)
                      for (std::int64_t j = 0; j < v.sk; j += keys) {
                        counts[static_cast<int>(
                            Classify(v, {i, Min(i + rows, v.sq)}, {j, Min(j + keys, v.sk)}))]++;
                      }
                    const TileCounts tiles = CountTiles(v, rows, keys);
                    const auto say = [&] {
                      return testing::Message()
                             << v.sq << " " << v.sk << " " << v.shift << " " << v.left << " "
                             << v.right << " " << v.prefix << " " << v.chunk << " tiles " << rows
                             << " " << keys;
                    };
                    ASSERT_EQ(tiles.empty, counts[static_cast<int>(TileKind::kEmpty)]) << say();
                    ASSERT_EQ(tiles.full, counts[static_cast<int>(TileKind::kFull)]) << say();
                    ASSERT_EQ(tiles.edge, counts[static_cast<int>(TileKind::kEdge)]) << say();
                  }
}

TEST(CountPairs, LongSequencesInClosedForm) {
  const std::int64_t n = std::int64_t{1} << 30;
  const double all = static_cast<double>(n);
  EXPECT_EQ(CountPairs({.sq = n, .sk = n, .right = 0}), all * (all + 1) / 2);
  EXPECT_EQ(CountPairs({.sq = n, .sk = n, .left = 0, .right = 0}), all);
  EXPECT_EQ(CountPairs({.sq = n, .sk = n, .chunk = n / 4}), all * all / 4);
}

TEST(CountWork, DenseForward) {
  // q 2x4x2x8, k 2x6x1x8, v 2x6x1x3 of bf16; o 2x4x2x3 of bf16, lse 2x2x4 of f32.
  const Problem p = Normalize({.batch = 2,
                               .q_len = 4,
                               .k_len = 6,
                               .q_heads = 2,
                               .k_heads = 1,
                               .dim = 8,
                               .dim_v = 3,
                               .dtype = DType::kBF16,
                               .causal = true,
                               .want_lse = true});
  const Work work = CountWork(p, 2, 2);
  EXPECT_EQ(work.pairs, 2 * 2 * (3 + 4 + 5 + 6));
  EXPECT_EQ(work.dense_pairs, 2 * 2 * 4 * 6);
  EXPECT_EQ(work.flops, work.pairs * 2 * (8 + 3));
  EXPECT_EQ(work.dense_flops, work.dense_pairs * 2 * (8 + 3));
  EXPECT_EQ(work.bytes_read, 2 * (2 * 4 * 2 * 8 + 2 * 6 * 8 + 2 * 6 * 3));
  EXPECT_EQ(work.bytes_written, 2 * (2 * 4 * 2 * 3) + 4 * 2 * 2 * 4);
  // S written and read, P written and read, f32.
  EXPECT_EQ(work.bytes_standard, work.bytes_read + work.bytes_written + 4 * 4 * work.dense_pairs);
}

TEST(CountWork, DenseBackward) {
  const Problem p = Normalize(
      {.q_len = 4, .k_len = 6, .q_heads = 2, .dim = 8, .op = Op::kBackward, .dlse = true});
  const Work work = CountWork(p, 2, 2);
  EXPECT_EQ(work.flops, 2 * 4 * 6 * (6 * 8 + 4 * 8));
  const double q = 4 * 4 * 2 * 8, k = 4 * 6 * 2 * 8, row = 4 * 2 * 4;
  EXPECT_EQ(work.bytes_read, q + 2 * k + 2 * q + 2 * row);  // q k v; o dout; lse dlse
  EXPECT_EQ(work.bytes_written, q + 2 * k);
  EXPECT_EQ(work.bytes_standard, work.bytes_read + work.bytes_written + 7 * 4 * work.dense_pairs);
}

TEST(CountWork, AccumulatedGradientsAreReadToo) {
  Problem p = {.q_len = 4, .k_len = 6, .q_heads = 2, .dim = 8, .op = Op::kBackward};
  p.bias = {.given = true, .rows = 4, .cols = 6};
  p.want_dbias = true;
  const Work plain = CountWork(Normalize(p), 2, 2);
  p.accumulate = true;
  const Work adding = CountWork(Normalize(p), 2, 2);
  EXPECT_EQ(adding.bytes_written, plain.bytes_written);
  EXPECT_EQ(adding.bytes_read, plain.bytes_read + plain.bytes_written);
}

TEST(CountWork, RaggedSequencesAreTakenAsEquallyLong) {
  // 3 sequences of 2, 2, 1 queries and 3, 2, 2 keys.
  const Problem p = Normalize({.batch = 3,
                               .q_len = 5,
                               .k_len = 7,
                               .q_heads = 2,
                               .dim = 1,
                               .ragged = true,
                               .total_q = 5,
                               .total_k = 7});
  const Work work = CountWork(p, 1, 1);
  EXPECT_EQ(work.pairs, 2 * (2 * 3 + 2 * 2 + 1 * 2));
  EXPECT_EQ(work.tiles.full, work.pairs);
}

TEST(CountWork, CacheIsReadUpToItsCapacityAndWrittenWhereNew) {
  Problem p = {.batch = 2, .q_len = 1, .dim = 4};
  p.cache = {.given = true, .slots = 9, .rows = 10, .new_len = 3};
  const Work work = CountWork(Normalize(p), 1, 1);
  EXPECT_EQ(work.pairs, 2 * 10);
  EXPECT_EQ(work.bytes_read, 4 * (2 * 4 + 2 * (2 * 10 * 4) + 2 * (2 * 3 * 4)));
  EXPECT_EQ(work.bytes_written, 4 * (2 * (2 * 3 * 4) + 2 * 4));
}

TEST(CountWork, NothingToDo) {
  const Work work = CountWork(Normalize({.batch = 0, .q_len = 4, .k_len = 6, .dim = 8}), 2, 2);
  EXPECT_EQ(work.pairs, 0);
  EXPECT_EQ(work.tiles.full + work.tiles.edge + work.tiles.empty, 0);
  EXPECT_EQ(CountWork(Normalize({.batch = 0, .dim = 8, .ragged = true}), 2, 2).pairs, 0);
}

}  // namespace
}  // namespace heed
