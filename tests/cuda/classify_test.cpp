// ClassifyTiles in the emulator against a loop over pairs: masks in every stride order, block maps of
// every block size, both together, axes that repeat, ends that are no whole tile.
#include "cuda/classify.h"

#include "kernels_testing.h"

namespace heed::cuda {
namespace {

using C = SmallConfig<F16>;

// A mask or block map as the test sees it: sizes (1 where it repeats), and the order of its axes in
// memory, outermost first.
struct Array {
  int batches = 1, heads = 1, rows = 1, cols = 1;
  bool columns_outside = false;
  int gap = 0;  // elements behind each line
  std::vector<std::uint8_t> data;

  Spread Strides() const {
    const std::int64_t lines = columns_outside ? cols : rows,
                       line = (columns_outside ? rows : cols) + gap;
    const std::int64_t head = lines * line, inner = 1;
    return {data.data(), batches > 1 ? head * heads : 0, heads > 1 ? head : 0,
            rows > 1 ? columns_outside ? inner : line : 0,
            cols > 1 ? columns_outside ? line : inner : 0};
  }
  std::int64_t Size() const {
    const std::int64_t lines = columns_outside ? cols : rows;
    return batches * heads * lines * ((columns_outside ? rows : cols) + gap);
  }
  bool At(int b, int h, int i, int j) const {
    const Spread s = Strides();
    return data[size_t(b * s.batch + h * s.head + i * s.row + j * s.col)] != 0;
  }
};

struct Layout {
  int batch = 2, heads = 3, q_len = 1, k_len = 1;
  int block_rows = 1, block_cols = 1;
  int tile_rows = 16, tile_keys = 32;
  bool has_mask = false, has_map = false;
  Array mask, map;
};

// Adds how often each kind occurred: a test in which one never does would prove little.
void Check(const Layout& s, int (&seen)[3]) {
  ForwardCall call;
  call.batch = s.batch;
  call.q_heads = s.heads;
  call.q_len = s.q_len;
  call.k_len = s.k_len;
  call.block_rows = s.block_rows;
  call.block_cols = s.block_cols;
  if (s.has_mask) call.mask = s.mask.Strides();
  if (s.has_map) call.block_map = s.map.Strides();
  TileKinds& kinds = call.kinds;
  kinds.batches = int(Max(s.mask.batches, s.map.batches));
  kinds.heads = int(Max(s.mask.heads, s.map.heads));
  kinds.rows = int(CeilDiv(s.q_len, s.tile_rows));
  kinds.keys = int(CeilDiv(s.k_len, s.tile_keys));
  kinds.tile_rows = s.tile_rows;
  kinds.tile_keys = s.tile_keys;

  std::vector<std::uint8_t> want, got;
  for (int b = 0; b < kinds.batches; ++b) {
    for (int h = 0; h < kinds.heads; ++h) {
      for (int i0 = 0; i0 < s.q_len; i0 += s.tile_rows) {
        for (int j0 = 0; j0 < s.k_len; j0 += s.tile_keys) {
          int pairs = 0, allowed = 0;
          for (int i = i0; i < std::min(i0 + s.tile_rows, s.q_len); ++i) {
            for (int j = j0; j < std::min(j0 + s.tile_keys, s.k_len); ++j) {
              ++pairs;
              allowed += (!s.has_mask || s.mask.At(b, h, i, j)) &&
                         (!s.has_map || s.map.At(b, h, i / s.block_rows, j / s.block_cols));
            }
          }
          const TileKind kind = allowed == 0       ? TileKind::kEmpty
                                : allowed == pairs ? TileKind::kFull
                                                   : TileKind::kEdge;
          ++seen[int(kind)];
          want.push_back(std::uint8_t(kind));
        }
      }
    }
  }
  got.resize(want.size());
  kinds.kinds = got.data();
  RunEverySchedule<C>(
      ClassifyItems(call),
      [&](emu::Memory& memory) {
        if (s.has_mask) memory.Input("mask", s.mask.data);
        if (s.has_map) memory.Input("map", s.map.data);
        memory.Output("kinds", got);
      },
      [&] { ClassifyTiles<C>(call); }, [&] { EXPECT_EQ(got, want); });
}

// Tiles of every kind: whole rectangles of zeros and ones, single pairs that differ, random ones.
void Fill(Array& a, Values& values, int row_unit, int col_unit) {
  a.data.assign(size_t(a.Size()), 0);
  const Spread t = a.Strides();
  for (int b = 0; b < a.batches; ++b) {
    for (int h = 0; h < a.heads; ++h) {
      for (int i0 = 0; i0 < a.rows; i0 += row_unit) {
        for (int j0 = 0; j0 < a.cols; j0 += col_unit) {
          const int kind = values.Below(5);  // empty, full, one missing, one alone, random
          const int i_last = std::min(i0 + row_unit, a.rows) - 1;
          const int j_last = std::min(j0 + col_unit, a.cols) - 1;
          const bool at_end = values.Below(2) == 0;
          for (int i = i0; i <= i_last; ++i) {
            for (int j = j0; j <= j_last; ++j) {
              const bool corner = at_end ? i == i_last && j == j_last : i == i0 && j == j0;
              const bool yes = kind == 0   ? false
                               : kind == 1 ? true
                               : kind == 2 ? !corner
                               : kind == 3 ? corner
                                           : values.Below(2) == 0;
              a.data[size_t(b * t.batch + h * t.head + i * t.row + j * t.col)] =
                  std::uint8_t(yes ? 1 + values.Below(255) : 0);
            }
          }
        }
      }
    }
  }
}

TEST(Classify, Masks) {
  Values values(3);
  int seen[3] = {};
  for (const bool columns_outside : {false, true}) {
    for (const auto& [q_len, k_len] : {std::pair(70, 131), {16, 32}, {17, 33}, {1, 200}, {90, 1}}) {
      for (int axes = 0; axes < 16; ++axes) {
        if (axes % 3 == 1 && axes > 4) continue;  // enough of them
        Layout s{.q_len = q_len, .k_len = k_len, .has_mask = true};
        s.mask = {.batches = axes & 1 ? s.batch : 1,
                  .heads = axes & 2 ? s.heads : 1,
                  .rows = axes & 4 ? 1 : q_len,
                  .cols = axes & 8 ? 1 : k_len,
                  .columns_outside = columns_outside,
                  .gap = axes % 2};
        Fill(s.mask, values, s.tile_rows, s.tile_keys);
        SCOPED_TRACE(testing::Message() << q_len << " x " << k_len << ", axes " << axes);
        Check(s, seen);
      }
    }
  }
  for (int n : seen) EXPECT_GT(n, 0);
}

TEST(Classify, BlockMaps) {
  Values values(4);
  int seen[3] = {};
  for (const auto& [rows, cols] :
       {std::pair(16, 32), {1, 1}, {5, 7}, {64, 64}, {16, 8}, {8, 32}, {48, 100}}) {
    Layout s{.q_len = 75, .k_len = 139, .block_rows = rows, .block_cols = cols, .has_map = true};
    s.map = {.batches = s.batch,
             .heads = rows == 5 ? 1 : s.heads,
             .rows = int(CeilDiv(s.q_len, rows)),
             .cols = int(CeilDiv(s.k_len, cols))};
    Fill(s.map, values, std::max(1, 16 / rows), std::max(1, 32 / cols));
    SCOPED_TRACE(testing::Message() << rows << " x " << cols);
    Check(s, seen);
  }
  for (int n : seen) EXPECT_GT(n, 0);
}

TEST(Classify, MaskAndBlockMapTogether) {
  Values values(5);
  int seen[3] = {};
  for (const auto& [rows, cols] : {std::pair(16, 32), {5, 7}, {33, 40}}) {
    for (const bool same : {false, true}) {
      Layout s{.q_len = 75,
               .k_len = 139,
               .block_rows = rows,
               .block_cols = cols,
               .has_mask = true,
               .has_map = true};
      s.mask = {.heads = s.heads, .rows = s.q_len, .cols = s.k_len};
      s.map = {.batches = s.batch,
               .rows = int(CeilDiv(s.q_len, rows)),
               .cols = int(CeilDiv(s.k_len, cols))};
      Fill(s.mask, values, s.tile_rows, s.tile_keys);
      Fill(s.map, values, 2, 2);
      Check(s, seen);
      // A mask that repeats along its rows, and one along its columns.
      for (int axis = 0; axis < 2; ++axis) {
        Layout repeated = s;
        repeated.mask = {.rows = axis ? s.q_len : 1, .cols = axis ? 1 : s.k_len};
        Fill(repeated.mask, values, axis ? 16 : 1, axis ? 1 : 32);
        Check(repeated, seen);
      }
      // One hides just what the other allows, where both look alike.
      if (same) {
        for (int h = 0; h < s.heads; ++h) {
          for (int i = 0; i < s.q_len; ++i) {
            for (int j = 0; j < s.k_len; ++j) {
              const Spread t = s.mask.Strides();
              s.mask.data[size_t(h * t.head + i * t.row + j * t.col)] =
                  !s.map.At(0, h, i / rows, j / cols);
            }
          }
        }
      }
      Check(s, seen);
    }
  }
  for (int n : seen) EXPECT_GT(n, 0);
}

}  // namespace
}  // namespace heed::cuda
