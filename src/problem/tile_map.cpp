// tile_map.cpp: MapTiles and CountVisible: tiles by geometry, and by what the arrays hold where a
// problem has some. Not here: geometry alone (geometry.cpp).
#include "problem/tile_map.h"

#include <new>

#include "problem/buffers.h"
#include "problem/geometry.h"
#include "problem/normal.h"
#include "problem/schedule.h"
#include "problem/words.h"

namespace heed {
namespace {

constexpr std::int64_t kMaxTiles = std::int64_t{1} << 28;

Interval Both(Interval a, Interval b) { return {Max(a.first, b.first), Min(a.last, b.last)}; }

std::int64_t Elements(const Broadcast& t) {
  // As far as "none" goes: a size of 0.
  return t.batch == 0 || t.heads == 0 || t.rows == 0 || t.cols == 0 ? 0 : 1;
}

// The arrays that decide who sees whom are there, and the lengths in them are possible.
Status CheckArrays(const Problem& p, const Buffers& b) {
  const bool some = p.batch > 0;
  const struct {
    const char* name;
    bool wanted;
    const void* data;
  } arrays[] = {
      {"mask", p.mask.given && Elements(p.mask) > 0, b.mask},
      {"block_map", p.block_map.given && Elements(p.block_map) > 0, b.block_map},
      {"key_lengths", p.key_lengths && some, b.key_lengths},
      {"query_offsets", p.query_offsets && some, b.query_offsets},
      {"cu_seqlens_q", p.ragged, b.cu_seqlens_q},
      {"cu_seqlens_k", p.ragged, b.cu_seqlens_k},
      {"cache_seqlens", p.cache.given && some, b.cache_seqlens},
      {"cache_leftpad", p.cache.leftpad && some, b.cache_leftpad},
  };
  for (const auto& array : arrays) {
    if (!array.wanted || array.data != nullptr) continue;
    return {StatusCode::kBuffers, Words(array.name,
                                        " is null, and it decides which tiles are "
                                        "visible: the problem asks for it")};
  }
  return CheckLengths(p, b);
}

struct Cut {
  std::int64_t rows = 1, keys = 1;  // of a tile
};

Status Prepare(const Plan& plan, const Buffers& buffers, Cut* cut) {
  if (!plan.valid()) {
    return {StatusCode::kInvalid,
            "the plan is empty: make one with MakePlan and look at its status"};
  }
  const PlanInfo info = plan.Info();
  *cut = {Max(info.tile_rows, 1), Max(info.tile_keys, 1)};
  return CheckArrays(plan.problem(), buffers);
}

Status OutsideOf(const char* what, std::int64_t at, std::int64_t count) {
  return {StatusCode::kInvalid, Words(what, " is ", at, ": it must be from 0 to ", count - 1)};
}

std::int64_t Whole(double count) {
  return count < 9.2e18 ? static_cast<std::int64_t>(count) : INT64_MAX;
}

// One head, tile by tile; f(row, col, kind) for each.
template <class F>
TileTotals Walk(const Seen& seen, const Cut& cut, F&& f) {
  const Visibility& v = seen.geometry();
  TileTotals totals;
  for (std::int64_t i = 0, row = 0; i < v.sq; i += cut.rows, row++) {
    const Interval rows = {i, Min(i + cut.rows, v.sq)};
    for (std::int64_t j = 0, col = 0; j < v.sk; j += cut.keys, col++) {
      const Tile tile = seen.Classify(rows, {j, Min(j + cut.keys, v.sk)}, &totals.visible_pairs);
      (tile == Tile::kFull ? totals.full : tile == Tile::kEdge ? totals.edge : totals.empty)++;
      f(row, col, tile);
    }
  }
  return totals;
}

TileTotals CountHead(const Problem& p, const Buffers& buffers, const Cut& cut, std::int64_t b,
                     std::int64_t h) {
  if (p.mask.given || p.block_map.given) {
    return Walk(Seen(p, buffers, b, h), cut, [](std::int64_t, std::int64_t, Tile) {});
  }
  const Visibility v = VisibilityOfEntry(p, buffers, b);
  const TileCounts counts = CountTiles(v, cut.rows, cut.keys);
  return {Whole(counts.full), Whole(counts.edge), Whole(counts.empty), CountPairs(v)};
}

std::int64_t Times(std::int64_t n, std::int64_t count) {
  std::int64_t product = 0;
  return __builtin_mul_overflow(n, count, &product) ? INT64_MAX : product;
}

void Add(const TileTotals& one, std::int64_t count, TileTotals* sum) {
  const auto add = [&](std::int64_t TileTotals::*field) {
    const std::int64_t more = Times(one.*field, count);
    sum->*field = more > INT64_MAX - sum->*field ? INT64_MAX : sum->*field + more;
  };
  add(&TileTotals::full);
  add(&TileTotals::edge);
  add(&TileTotals::empty);
  sum->visible_pairs += static_cast<double>(count) * one.visible_pairs;
}

}  // namespace

Visibility VisibilityOfEntry(const Problem& p, const Buffers& buffers, std::int64_t b) {
  std::int64_t sq = p.q_len, sk = p.k_len;
  if (p.ragged) {
    sq = buffers.cu_seqlens_q[b + 1] - buffers.cu_seqlens_q[b];
    sk = buffers.cu_seqlens_k[b + 1] - buffers.cu_seqlens_k[b];
  } else if (p.cache.given) {
    sk = buffers.cache_seqlens[b] + p.cache.new_len;
    if (p.cache.leftpad) sk -= buffers.cache_leftpad[b];
  }
  if (p.key_lengths) sk = buffers.key_lengths[b];
  const std::int64_t offset =
      p.query_offsets ? buffers.query_offsets[b] : p.query_offset.value_or(0);
  return VisibilityOf(p, sq, sk, offset);
}

Seen::Seen(const Problem& normal, const Buffers& buffers, std::int64_t b, std::int64_t h)
    : p_(normal), v_(VisibilityOfEntry(normal, buffers, b)) {
  const auto at = [&](const Broadcast& t, const std::uint8_t* data) {
    return t.given && data != nullptr ? data + b * t.stride_batch + h * t.stride_head : nullptr;
  };
  mask_ = at(normal.mask, buffers.mask);
  map_ = at(normal.block_map, buffers.block_map);
}

std::int64_t Seen::CountMask(std::int64_t i, Interval keys) const {
  if (keys.empty()) return 0;
  if (mask_ == nullptr) return keys.size();
  const std::int64_t step = p_.mask.stride_col;
  const std::uint8_t* row = mask_ + i * p_.mask.stride_row;
  if (step == 0) return *row != 0 ? keys.size() : 0;
  std::int64_t n = 0;
  for (std::int64_t j = keys.first; j < keys.last; j++) n += row[j * step] != 0;
  return n;
}

std::int64_t Seen::CountRow(std::int64_t i, Interval keys) const {
  if (keys.empty()) return 0;
  if (map_ == nullptr) return CountMask(i, keys);
  const std::uint8_t* row = map_ + i / p_.block_rows * p_.block_map.stride_row;
  std::int64_t n = 0;
  for (std::int64_t j = keys.first; j < keys.last;) {
    const std::int64_t block = j / p_.block_cols;
    const std::int64_t end = Min((block + 1) * p_.block_cols, keys.last);
    if (row[block * p_.block_map.stride_col] != 0) n += CountMask(i, {j, end});
    j = end;
  }
  return n;
}

std::int64_t Seen::Count(Interval rows, Interval keys) const {
  const Interval prefix = Both(PrefixKeys(v_), keys);
  std::int64_t n = 0;
  for (std::int64_t i = rows.first; i < rows.last; i++) {
    n += CountRow(i, prefix) + CountRow(i, Both(Band(v_, i), keys));
  }
  return n;
}

Tile Seen::Classify(Interval rows, Interval keys, double* pairs) const {
  const TileKind geometry = heed::Classify(v_, rows, keys);
  const std::int64_t all = rows.size() * keys.size();
  std::int64_t n = 0;
  if (geometry == TileKind::kFull && mask_ == nullptr && map_ == nullptr) {
    n = all;
  } else if (geometry != TileKind::kEmpty) {
    n = Count(rows, keys);
  }
  *pairs += static_cast<double>(n);
  return n == 0 ? Tile::kEmpty : n == all ? Tile::kFull : Tile::kEdge;
}

Result<TileMap> MapTiles(const Plan& plan, const Buffers& buffers, std::int64_t b, std::int64_t h) {
  try {
    Cut cut;
    if (Status status = Prepare(plan, buffers, &cut); !status) return status;
    const Problem& p = plan.problem();
    if (b < 0 || b >= p.batch) return OutsideOf("the batch entry", b, p.batch);
    if (h < 0 || h >= p.q_heads) return OutsideOf("the query head", h, p.q_heads);
    const Seen seen(p, buffers, b, h);
    const Visibility& v = seen.geometry();
    TileMap map = {.q_len = v.sq,
                   .k_len = v.sk,
                   .tile_rows = cut.rows,
                   .tile_keys = cut.keys,
                   .rows = CeilDiv(v.sq, cut.rows),
                   .cols = CeilDiv(v.sk, cut.keys),
                   .tiles = {},
                   .totals = {}};
    if (Times(map.rows, map.cols) > kMaxTiles) {
      return Status(StatusCode::kInvalid,
                    Words("the map would have ", map.rows, " x ", map.cols, " tiles of ", cut.rows,
                          " x ", cut.keys, ": at most ", kMaxTiles, " are mapped"));
    }
    map.tiles.resize(static_cast<std::size_t>(map.rows * map.cols));
    map.totals = Walk(seen, cut, [&](std::int64_t row, std::int64_t col, Tile tile) {
      map.tiles[static_cast<std::size_t>(row * map.cols + col)] = tile;
    });
    return map;
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kRefused, "out of memory");
  }
}

Result<TileTotals> CountVisible(const Plan& plan, const Buffers& buffers) {
  try {
    Cut cut;
    if (Status status = Prepare(plan, buffers, &cut); !status) return status;
    const Problem& p = plan.problem();
    // Where nothing depends on the entry or the head, one stands for all.
    const bool heads_differ = (p.mask.given && p.mask.stride_head != 0) ||
                              (p.block_map.given && p.block_map.stride_head != 0);
    const bool entries_differ = p.ragged || p.cache.given || p.key_lengths || p.query_offsets ||
                                (p.mask.given && p.mask.stride_batch != 0) ||
                                (p.block_map.given && p.block_map.stride_batch != 0);
    const std::int64_t entries = entries_differ ? p.batch : Min(p.batch, 1);
    const std::int64_t heads = heads_differ ? p.q_heads : 1;
    TileTotals sum;
    for (std::int64_t b = 0; b < entries; b++) {
      for (std::int64_t h = 0; h < heads; h++) {
        const std::int64_t alike = (entries_differ ? 1 : p.batch) * (heads_differ ? 1 : p.q_heads);
        Add(CountHead(p, buffers, cut, b, h), alike, &sum);
      }
    }
    return sum;
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kRefused, "out of memory");
  }
}

}  // namespace heed
