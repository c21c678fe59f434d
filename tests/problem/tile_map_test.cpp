// tile_map_test.cpp: maps of tiles and their counts against the definition, pair by pair. Not here:
// geometry alone (geometry_test.cpp).
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "plan_testing.h"
#include "problem/normal.h"
#include "problem/schedule.h"

namespace heed {
namespace {

// A problem with the arrays that decide who sees whom, filled with bits that follow from `seed`.
struct Case {
  Problem problem;
  Buffers buffers;
  std::vector<std::uint8_t> mask, blocks;
  std::vector<std::int32_t> lengths, offsets, cu_q, cu_k, cache, pad;
  FakeBackend backend;
  std::vector<Candidate> candidates{{&backend, true, false}};

  Plan MakePlan(std::int64_t rows, std::int64_t keys) {
    const auto impl = std::make_shared<Plan::Impl>();
    const Status status = Decide(problem, {}, candidates, impl.get());
    EXPECT_TRUE(status) << status.message();
    impl->tuning.tile_rows = rows;
    impl->tuning.tile_keys = keys;
    return Plan(impl);
  }

  void Fill(unsigned seed) {
    const auto bits = [&](std::vector<std::uint8_t>* to, std::size_t n) {
      to->resize(n);
      for (std::uint8_t& bit : *to) {
        seed = seed * 1664525u + 1013904223u;
        bit = (seed >> 16) % 3 != 0 ? 1 : 0;
      }
    };
    bits(&mask, 4096);
    bits(&blocks, 4096);
    if (problem.mask.given) buffers.mask = mask.data() + 2048;
    if (problem.block_map.given) buffers.block_map = blocks.data() + 2048;
  }

  // The definition.
  std::int64_t Sq(std::int64_t b) const {
    return problem.ragged ? cu_q[b + 1] - cu_q[b] : problem.q_len;
  }
  std::int64_t Sk(std::int64_t b) const {
    if (problem.key_lengths) return lengths[b];
    if (problem.ragged) return cu_k[b + 1] - cu_k[b];
    if (!problem.cache.given) return problem.k_len;
    return cache[b] + problem.cache.new_len - (problem.cache.leftpad ? pad[b] : 0);
  }
  bool Visible(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) const {
    const Problem p = Normalize(problem);
    const std::int64_t shift = p.align == Align::kTopLeft ? 0
                               : p.align == Align::kOffset
                                   ? p.query_offset.value_or(p.query_offsets ? offsets[b] : 0)
                                   : Sk(b) - Sq(b);
    const Visibility v = {.sq = Sq(b),
                          .sk = Sk(b),
                          .shift = shift,
                          .left = p.window_left,
                          .right = p.window_right,
                          .prefix = p.prefix,
                          .chunk = p.chunk};
    const auto at = [&](const Broadcast& t, const std::uint8_t* data, std::int64_t r,
                        std::int64_t c) {
      return !t.given ||
             data[b * t.stride_batch + h * t.stride_head + r * t.stride_row + c * t.stride_col] !=
                 0;
    };
    return Sees(v, i, j) && at(p.mask, buffers.mask, i, j) &&
           (!p.block_map.given ||
            at(p.block_map, buffers.block_map, i / p.block_rows, j / p.block_cols));
  }

  // Every tile of every head, and the totals, against the definition.
  void Check(std::int64_t tile_rows, std::int64_t tile_keys) {
    const Plan plan = MakePlan(tile_rows, tile_keys);
    TileTotals sum;
    for (std::int64_t b = 0; b < problem.batch; b++) {
      for (std::int64_t h = 0; h < problem.q_heads; h++) {
        const Result<TileMap> map = MapTiles(plan, buffers, b, h);
        ASSERT_TRUE(map) << map.status().message();
        ASSERT_EQ(map->q_len, Sq(b));
        ASSERT_EQ(map->k_len, Sk(b));
        ASSERT_EQ(map->rows, CeilDiv(Sq(b), tile_rows));
        ASSERT_EQ(map->cols, CeilDiv(Sk(b), tile_keys));
        CheckHead(*map, b, h, &sum);
      }
    }
    const Result<TileTotals> counted = CountVisible(plan, buffers);
    ASSERT_TRUE(counted) << counted.status().message();
    EXPECT_EQ(counted->full, sum.full);
    EXPECT_EQ(counted->edge, sum.edge);
    EXPECT_EQ(counted->empty, sum.empty);
    EXPECT_EQ(counted->visible_pairs, sum.visible_pairs);
  }

  void CheckHead(const TileMap& map, std::int64_t b, std::int64_t h, TileTotals* sum) const {
    TileTotals here;
    for (std::int64_t row = 0; row < map.rows; row++) {
      for (std::int64_t col = 0; col < map.cols; col++) {
        std::int64_t seen = 0, all = 0;
        for (std::int64_t i = row * map.tile_rows; i < Min((row + 1) * map.tile_rows, Sq(b)); i++) {
          for (std::int64_t j = col * map.tile_keys; j < Min((col + 1) * map.tile_keys, Sk(b));
               j++) {
            all++;
            seen += Visible(b, h, i, j);
          }
        }
        const Tile expected = seen == 0 ? Tile::kEmpty : seen == all ? Tile::kFull : Tile::kEdge;
        ASSERT_EQ(map.At(row, col), expected) << b << " " << h << " " << row << " " << col;
        (expected == Tile::kEmpty ? here.empty : expected == Tile::kFull ? here.full : here.edge)++;
        here.visible_pairs += static_cast<double>(seen);
      }
    }
    EXPECT_EQ(map.totals.full, here.full);
    EXPECT_EQ(map.totals.edge, here.edge);
    EXPECT_EQ(map.totals.empty, here.empty);
    EXPECT_EQ(map.totals.visible_pairs, here.visible_pairs);
    sum->full += here.full;
    sum->edge += here.edge;
    sum->empty += here.empty;
    sum->visible_pairs += here.visible_pairs;
  }

  void CheckAllCuts() {
    for (const auto& [rows, keys] :
         std::vector<std::pair<int, int>>{{1, 1}, {2, 3}, {3, 2}, {4, 8}, {1, 16}}) {
      Check(rows, keys);
    }
  }
};

void SetGeometry(int which, Problem* p) {
  switch (which) {
    case 1:
      p->causal = true;
      break;
    case 2:
      p->window_left = 1;
      p->window_right = 2;
      break;
    case 3:
      p->causal = true;
      p->prefix = 2;
      p->align = Align::kTopLeft;
      break;
    case 4:
      p->chunk = 3;
      p->align = Align::kOffset;
      p->query_offset = -2;
      break;
    default:
      break;
  }
}

constexpr int kGeometries = 5;

TEST(TileMap, GeometryAlone) {
  for (int which = 0; which < kGeometries; which++) {
    for (std::int64_t sq : {0, 1, 5, 9}) {
      for (std::int64_t sk : {0, 1, 4, 11}) {
        Case c;
        c.problem = {.batch = 2, .q_len = sq, .k_len = sk, .q_heads = 2, .dim = 4};
        SetGeometry(which, &c.problem);
        c.CheckAllCuts();
        const Plan plan = c.MakePlan(2, 3);
        const PlanInfo info = plan.Info();
        const Result<TileTotals> counted = CountVisible(plan, {});
        ASSERT_TRUE(counted);
        EXPECT_EQ(counted->full, info.tiles_full);
        EXPECT_EQ(counted->edge, info.tiles_edge);
        EXPECT_EQ(counted->empty, info.tiles_empty);
        EXPECT_EQ(counted->visible_pairs, info.visible_pairs);
      }
    }
  }
}

TEST(TileMap, MasksOfEveryShape) {
  for (int which = 0; which < kGeometries; which++) {
    for (int shape = 0; shape < 16; shape++) {
      Case c;
      c.problem = {.batch = 2, .q_len = 5, .k_len = 9, .q_heads = 3, .dim = 4};
      SetGeometry(which, &c.problem);
      c.problem.mask = {.given = true,
                        .batch = (shape & 1) != 0 ? 2 : 1,
                        .heads = (shape & 2) != 0 ? 3 : 1,
                        .rows = (shape & 4) != 0 ? 5 : 1,
                        .cols = (shape & 8) != 0 ? 9 : 1};
      c.Fill(static_cast<unsigned>(shape * 7 + which));
      c.CheckAllCuts();
    }
  }
}

TEST(TileMap, MasksOfAnyStrides) {
  Case c;
  c.problem = {.batch = 2, .q_len = 5, .k_len = 9, .q_heads = 3, .dim = 4, .causal = true};
  c.problem.mask = {.given = true, .batch = 2, .heads = 3, .rows = 5, .cols = 9};
  c.problem.mask.stride_batch = -200;
  c.problem.mask.stride_head = 1;
  c.problem.mask.stride_row = 0;
  c.problem.mask.stride_col = 7;
  c.Fill(3);
  c.CheckAllCuts();
  c.problem.mask.stride_row = -60;
  c.problem.mask.stride_col = 0;
  c.CheckAllCuts();
}

TEST(TileMap, BlockMapsAndMasksTogether) {
  for (int which = 0; which < kGeometries; which++) {
    for (const auto& [rows, cols] :
         std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {2, 3}, {4, 5}, {16, 16}}) {
      for (const bool per_head : {false, true}) {
        for (const bool masked : {false, true}) {
          Case c;
          c.problem = {.batch = 2, .q_len = 7, .k_len = 11, .q_heads = 2, .dim = 4};
          SetGeometry(which, &c.problem);
          c.problem.block_rows = rows;
          c.problem.block_cols = cols;
          c.problem.block_map = {.given = true,
                                 .batch = 1,
                                 .heads = per_head ? 2 : 1,
                                 .rows = CeilDiv(7, rows),
                                 .cols = CeilDiv(11, cols)};
          if (masked) c.problem.mask = {.given = true, .batch = 2, .cols = 11};
          c.Fill(static_cast<unsigned>(which + rows));
          c.CheckAllCuts();
        }
      }
    }
  }
}

TEST(TileMap, Lengths) {
  for (int which = 0; which < kGeometries; which++) {
    Case c;
    c.problem = {.batch = 4, .q_len = 6, .k_len = 9, .q_heads = 2, .dim = 4};
    SetGeometry(which, &c.problem);
    c.problem.key_lengths = true;
    c.lengths = {9, 0, 4, 1};
    c.buffers.key_lengths = c.lengths.data();
    if (c.problem.align != Align::kOffset && c.problem.align != Align::kTopLeft) {
      c.problem.align = Align::kOffset;
      c.problem.query_offsets = true;
      c.offsets = {0, -3, 2, 100};
      c.buffers.query_offsets = c.offsets.data();
    }
    c.problem.mask = {.given = true, .batch = 4, .rows = 6, .cols = 9};
    c.Fill(5);
    c.CheckAllCuts();
    c.problem.mask = {};
    c.buffers.mask = nullptr;
    c.CheckAllCuts();
  }
}

TEST(TileMap, RaggedBatches) {
  for (int which = 0; which < kGeometries; which++) {
    Case c;
    c.problem = {.batch = 4, .q_len = 6, .k_len = 9, .q_heads = 2, .dim = 4};
    SetGeometry(which, &c.problem);
    c.problem.ragged = true;
    c.cu_q = {0, 3, 3, 9, 10};
    c.cu_k = {0, 9, 12, 12, 14};
    c.problem.total_q = 10;
    c.problem.total_k = 14;
    c.buffers.cu_seqlens_q = c.cu_q.data();
    c.buffers.cu_seqlens_k = c.cu_k.data();
    c.CheckAllCuts();
    c.problem.mask = {.given = true, .batch = 4, .heads = 2, .rows = 6, .cols = 9};
    c.Fill(8);
    c.CheckAllCuts();
  }
}

TEST(TileMap, Caches) {
  for (int which = 0; which < kGeometries; which++) {
    for (const bool leftpad : {false, true}) {
      Case c;
      c.problem = {.batch = 3, .q_len = 4, .q_heads = 2, .dim = 4};
      SetGeometry(which, &c.problem);
      c.problem.cache = {.given = true, .slots = 12, .rows = 3, .blocks = 4, .new_len = 2};
      c.problem.cache.leftpad = leftpad;
      c.cache = {0, 10, 5};
      c.pad = {1, 0, 7};
      c.buffers.cache_seqlens = c.cache.data();
      if (leftpad) c.buffers.cache_leftpad = c.pad.data();
      c.CheckAllCuts();  // without a block table: where rows lie does not matter here
      c.problem.mask = {.given = true, .heads = 2, .rows = 4, .cols = 12};
      c.Fill(4);
      c.CheckAllCuts();
    }
  }
}

// ---------------------------------------------------------------- what goes wrong

TEST(TileMap, MissingAndWrongArraysAreSentences) {
  Case c;
  c.problem = {.batch = 2, .q_len = 4, .k_len = 9, .q_heads = 3, .dim = 4};
  c.problem.mask = {.given = true, .rows = 4, .cols = 9};
  EXPECT_NE(MapTiles(c.MakePlan(2, 2), {}, 0, 0).status().message().find("mask is null"),
            std::string::npos);
  EXPECT_NE(CountVisible(c.MakePlan(2, 2), {}).status().message().find("mask is null"),
            std::string::npos);
  c.problem.mask = {};
  c.problem.key_lengths = true;
  EXPECT_EQ(CountVisible(c.MakePlan(2, 2), {}).status().code(), StatusCode::kBuffers);
  c.lengths = {3, 10};
  c.buffers.key_lengths = c.lengths.data();
  EXPECT_NE(
      CountVisible(c.MakePlan(2, 2), c.buffers).status().message().find("key_lengths[1] is 10"),
      std::string::npos);
  c.lengths = {3, 9};
  const Plan plan = c.MakePlan(2, 2);
  EXPECT_TRUE(MapTiles(plan, c.buffers, 1, 2));
  for (const auto& [b, h] : std::vector<std::pair<int, int>>{{2, 0}, {-1, 0}, {0, 3}, {0, -1}}) {
    EXPECT_EQ(MapTiles(plan, c.buffers, b, h).status().code(), StatusCode::kInvalid);
  }
  EXPECT_EQ(MapTiles(Plan(), {}, 0, 0).status().code(), StatusCode::kInvalid);
  EXPECT_EQ(CountVisible(Plan(), {}).status().code(), StatusCode::kInvalid);
}

TEST(TileMap, TooManyTilesToMapAreStillCounted) {
  Case c;
  c.problem = {.q_len = 1 << 20, .k_len = 1 << 20, .dim = 4};
  const Plan plan = c.MakePlan(16, 16);
  EXPECT_NE(MapTiles(plan, {}, 0, 0).status().message().find("268435456"), std::string::npos);
  const Result<TileTotals> counted = CountVisible(plan, {});
  ASSERT_TRUE(counted);
  EXPECT_EQ(counted->full, std::int64_t{1} << 32);
}

}  // namespace
}  // namespace heed
