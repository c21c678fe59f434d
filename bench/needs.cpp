// bench/needs.cpp: flops of the visible pairs, bytes of the keys and values that are read. Not here:
// times.
#include "bench/needs.h"

#include <algorithm>
#include <vector>

#include "bench/machine.h"

namespace heed::bench {
namespace {

// Flops of a pair: geometry's count, or where geometry sees no pair at all the formula of
// docs/performance.md.
double FlopsPerPair(const Problem& p, const PlanInfo& info) {
  if (info.visible_pairs > 0) return info.flops / info.visible_pairs;
  const auto d = static_cast<double>(p.dim), dv = static_cast<double>(p.dim_v);
  return p.op == Op::kBackward ? 6 * d + 4 * dv : 2 * (d + dv);
}

// Keys in the tiles that any of the heads [first, last) of entry b computes.
Result<std::int64_t> KeysSeen(const Plan& plan, const Buffers& buffers, std::int64_t b,
                              std::int64_t first, std::int64_t last) {
  std::vector<bool> seen;
  std::int64_t k_len = 0, tile_keys = 1;
  for (std::int64_t h = first; h < last; ++h) {
    const Result<TileMap> map = MapTiles(plan, buffers, b, h);
    if (!map) return map.status();
    k_len = map->k_len;
    tile_keys = map->tile_keys;
    seen.resize(static_cast<std::size_t>(map->cols));
    for (std::int64_t row = 0; row < map->rows; ++row) {
      for (std::int64_t col = 0; col < map->cols; ++col) {
        if (map->At(row, col) != Tile::kEmpty) seen[static_cast<std::size_t>(col)] = true;
      }
    }
  }
  std::int64_t keys = 0;
  for (std::size_t col = 0; col < seen.size(); ++col) {
    const std::int64_t begin = static_cast<std::int64_t>(col) * tile_keys;
    if (seen[col]) keys += std::min(tile_keys, k_len - begin);
  }
  return keys;
}

// Of keys and values, all entries.
Result<double> KeyBytes(const Plan& plan, const Buffers& buffers, bool v_in_k) {
  const Problem& p = plan.problem();
  const std::int64_t group = p.q_heads / p.k_heads;
  const bool heads_differ =
      (p.mask.given && p.mask.heads > 1) || (p.block_map.given && p.block_map.heads > 1);
  const bool entries_differ = p.ragged || p.cache.given || p.key_lengths || p.query_offsets ||
                              (p.mask.given && p.mask.batch > 1) ||
                              (p.block_map.given && p.block_map.batch > 1);
  const std::int64_t entries = entries_differ ? p.batch : std::min<std::int64_t>(p.batch, 1);
  double keys = 0;
  for (std::int64_t b = 0; b < entries; ++b) {
    for (std::int64_t hk = 0; hk < (heads_differ ? p.k_heads : 1); ++hk) {
      const std::int64_t h = hk * group;
      const Result<std::int64_t> n =
          KeysSeen(plan, buffers, b, h, heads_differ ? h + group : h + 1);
      if (!n) return n.status();
      keys += static_cast<double>(*n) * (heads_differ ? 1 : static_cast<double>(p.k_heads));
    }
  }
  if (!entries_differ) keys *= static_cast<double>(p.batch);
  return keys * static_cast<double>((v_in_k ? p.dim : p.dim + p.dim_v) * SizeOf(p.dtype));
}

}  // namespace

bool Needs::memory_bound() const {
  return bytes > 0 && flops < kComputeBound * bytes &&
         bytes > static_cast<double>(ThisMachine().l3_bytes);
}

Result<Needs> NeedsOf(const Plan& plan, const Buffers& buffers, bool v_in_k, bool decode) {
  const Result<TileTotals> tiles = CountVisible(plan, buffers);
  if (!tiles) return tiles.status();
  const PlanInfo info = plan.Info();
  Needs needs = {.tiles = *tiles,
                 .flops = tiles->visible_pairs * FlopsPerPair(plan.problem(), info),
                 .bytes = info.bytes_min};
  if (!decode) return needs;
  const Result<double> bytes = KeyBytes(plan, buffers, v_in_k);
  if (!bytes) return bytes.status();
  needs.bytes = *bytes;
  return needs;
}

}  // namespace heed::bench
