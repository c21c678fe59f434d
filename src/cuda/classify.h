// classify.h: the kernel that looks once at mask and block map, a warp per score tile: is any pair of
// it left, are all? Not here: who sees whom by position (visibility.h), single pairs (the forward).
#pragma once

#include "cuda/call.h"
#include "cuda/grid.h"
#include "cuda/warps.h"

namespace heed::cuda {

// Of the pairs looked at: whether one is allowed, whether all are.
struct Found {
  bool some = false, all = true;
  HEED_DEVICE void Add(bool yes) {
    some = some || yes;
    all = all && yes;
  }
  // Both a hidden and an allowed pair: more of them change nothing.
  HEED_DEVICE bool Decided() const { return ptx::Any(some) && ptx::Any(!all); }
  HEED_DEVICE Found OfWarp() const { return {ptx::Any(some), ptx::All(all)}; }
};

HEED_DEVICE bool AllowedAt(const Spread& s, std::int64_t b, std::int64_t h, std::int64_t row,
                           std::int64_t col) {
  const auto* const p = static_cast<const std::uint8_t*>(s.data);
  return ptx::LoadReadOnly(p + b * s.batch + h * s.head + row * s.row + col * s.col) != 0;
}

// Cells of the block map that the tile touches.
HEED_DEVICE Found CellsOf(const ForwardCall& c, std::int64_t b, std::int64_t h, Interval rows,
                          Interval keys) {
  const std::int64_t row = rows.first / c.block_rows, col = keys.first / c.block_cols;
  const std::int64_t height = (rows.last - 1) / c.block_rows - row + 1;
  const std::int64_t width = (keys.last - 1) / c.block_cols - col + 1;
  Found found;
  for (std::int64_t n = Lane(); n < height * width; n += 32) {
    found.Add(AllowedAt(c.block_map, b, h, row + n / width, col + n % width));
  }
  return found.OfWarp();
}

// Pairs of the tile, by the mask, and by the block map where `map` says so.
HEED_DEVICE Found PairsOf(const ForwardCall& c, std::int64_t b, std::int64_t h, Interval rows,
                          Interval keys, bool map) {
  // An axis that repeats is as good as its first element.
  if (!map && c.mask.row == 0) rows.last = rows.first + 1;
  if (!map && c.mask.col == 0) keys.last = keys.first + 1;
  // Lanes go where neighbours in memory are.
  const bool along_keys = c.mask.col == 1 || c.mask.row != 1;
  const Interval lines = along_keys ? rows : keys, across = along_keys ? keys : rows;
  Found found;
  for (std::int64_t line = lines.first; line < lines.last; line++) {
    for (std::int64_t n = across.first + Lane(); n < across.last; n += 32) {
      const std::int64_t i = along_keys ? line : n, j = along_keys ? n : line;
      bool yes = AllowedAt(c.mask, b, h, i, j);
      if (map) yes = yes && AllowedAt(c.block_map, b, h, i / c.block_rows, j / c.block_cols);
      found.Add(yes);
    }
    if ((line - lines.first) % 8 == 7 && found.Decided()) break;
  }
  return found.OfWarp();
}

// Rows and keys are some: no tile of the grid lies behind the longest entry.
HEED_DEVICE TileKind KindOf(const ForwardCall& c, std::int64_t b, std::int64_t h, Interval rows,
                            Interval keys) {
  Found found = {true, true};
  if (c.block_map.data) found = CellsOf(c, b, h, rows, keys);
  if (c.mask.data && found.some) found = PairsOf(c, b, h, rows, keys, !found.all);
  return !found.some ? TileKind::kEmpty : found.all ? TileKind::kFull : TileKind::kEdge;
}

template <class C>
HEED_DEVICE void ClassifyTiles(const ForwardCall& c) {
  const TileKinds& kinds = c.kinds;
  const std::int64_t items = ClassifyItems(c);
  for (std::int64_t n = FirstItem<C>(); n < items; n += ItemStep<C>()) {
    const std::int64_t col = n % kinds.keys, head_row = n / kinds.keys;
    const std::int64_t row = head_row % kinds.rows, head = head_row / kinds.rows;
    const Interval rows = {row * kinds.tile_rows, Min((row + 1) * kinds.tile_rows, c.q_len)};
    const Interval keys = {col * kinds.tile_keys, Min((col + 1) * kinds.tile_keys, c.k_len)};
    const TileKind kind = KindOf(c, head / kinds.heads, head % kinds.heads, rows, keys);
    if (Lane() == 0) ptx::StoreGlobal(kinds.kinds + n, std::uint8_t(kind));
  }
}

}  // namespace heed::cuda
