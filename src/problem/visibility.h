// visibility.h: who sees whom. One definition, Sees(i, j), and the interval and tile forms derived
// from it. Integers only; host and device. Not here: masks given as arrays, lengths (the caller
// passes the sequence's real sq and sk).
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define HEED_HD __host__ __device__ inline
#else
// Inlined into its caller: kernels compiled for AVX include this, and no linker may take their copy
// for baseline code.
#define HEED_HD [[gnu::always_inline]] inline
#endif

namespace heed {

// The rule of one sequence, all of it: sizes and shift included. -1 = unbounded, prefix and chunk 0
// = none.
struct Visibility {
  std::int64_t sq = 0, sk = 0;
  std::int64_t shift = 0;
  std::int64_t left = -1, right = -1;
  std::int64_t prefix = 0;
  std::int64_t chunk = 0;
};

// Half open, empty when last <= first.
struct Interval {
  std::int64_t first = 0, last = 0;
  HEED_HD constexpr bool empty() const { return last <= first; }
  HEED_HD constexpr std::int64_t size() const { return empty() ? 0 : last - first; }
};

HEED_HD constexpr std::int64_t FloorDiv(std::int64_t a, std::int64_t b) {  // b > 0
  return a / b - (a % b < 0);
}

// ---------------------------------------------------------------- the definition
HEED_HD constexpr bool Sees(const Visibility& v, std::int64_t i, std::int64_t j) {
  if (i < 0 || i >= v.sq || j < 0 || j >= v.sk) return false;
  if (j < v.prefix) return true;
  const std::int64_t at = i + v.shift;
  if (v.left >= 0 && j - at < -v.left) return false;
  if (v.right >= 0 && j - at > v.right) return false;
  if (v.chunk > 0 && FloorDiv(at, v.chunk) != FloorDiv(j, v.chunk)) return false;
  return true;
}

// ---------------------------------------------------------------- derived forms, tied to Sees by
// an exhaustive test
HEED_HD constexpr std::int64_t Min(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
HEED_HD constexpr std::int64_t Max(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
HEED_HD constexpr std::int64_t Clamp(std::int64_t x, std::int64_t low, std::int64_t high) {
  return Min(Max(x, low), high);
}

// The keys that row i sees are [0, prefix) and band(i), which starts behind the prefix. Both ends
// of band never fall with i (window and chunk move forward with the query), so the ends of a run of
// rows are those of its first and last row.
HEED_HD constexpr Interval PrefixKeys(const Visibility& v) { return {0, Clamp(v.prefix, 0, v.sk)}; }

HEED_HD constexpr Interval Band(const Visibility& v, std::int64_t i) {
  const std::int64_t at = i + v.shift, floor = Clamp(v.prefix, 0, v.sk);
  std::int64_t first = 0, last = v.sk;
  if (v.left >= 0) first = at - v.left;
  if (v.right >= 0) last = Min(last, at + v.right + 1);
  if (v.chunk > 0) {
    const std::int64_t c = FloorDiv(at, v.chunk) * v.chunk;
    first = Max(first, c);
    last = Min(last, c + v.chunk);
  }
  first = Clamp(first, floor, v.sk);
  return {first, Clamp(last, first, v.sk)};
}

// The queries that see key j; for a key of the prefix all of them.
HEED_HD constexpr Interval QueriesOf(const Visibility& v, std::int64_t j) {
  if (j < 0 || j >= v.sk) return {0, 0};
  if (j < v.prefix) return {0, v.sq};
  std::int64_t first = 0, last = v.sq;
  if (v.right >= 0) first = Max(first, j - v.right - v.shift);
  if (v.left >= 0) last = Min(last, j + v.left - v.shift + 1);
  if (v.chunk > 0) {
    const std::int64_t c = FloorDiv(j, v.chunk) * v.chunk - v.shift;
    first = Max(first, c);
    last = Min(last, c + v.chunk);
  }
  first = Clamp(first, 0, v.sq);
  return {first, Clamp(last, first, v.sq)};
}

enum class TileKind : std::uint8_t { kEmpty, kFull, kEdge };

// What of the tile rows x keys is visible: nothing, every pair that exists, or some. Rows and keys
// within [0,sq), [0,sk).
HEED_HD constexpr TileKind Classify(const Visibility& v, Interval rows, Interval keys) {
  if (rows.empty() || keys.empty()) return TileKind::kEmpty;
  const Interval low = Band(v, rows.first), high = Band(v, rows.last - 1), pre = PrefixKeys(v);
  const bool in_prefix = keys.first < pre.last;
  // Behind the prefix every row must see [from, keys.last): the last row's first key and the first
  // row's last key decide.
  const std::int64_t from = Max(keys.first, pre.last);
  if (from >= keys.last ||
      (high.first <= from && low.last >= keys.last && !low.empty() && !high.empty()))
    return TileKind::kFull;
  if (in_prefix) return TileKind::kEdge;
  // Someone sees something iff some row's band meets the keys; bands are ordered, so a row exists
  // unless all end before or begin behind. With chunks bands have no gaps between neighbours inside
  // [0, sk), so the union is one interval.
  return low.first < keys.last && high.last > keys.first ? TileKind::kEdge : TileKind::kEmpty;
}

// Pairs that see each other, in one head.
HEED_HD constexpr std::int64_t VisiblePairs(const Visibility& v) {
  std::int64_t n = PrefixKeys(v).size() * v.sq;
  for (std::int64_t i = 0; i < v.sq; i++) n += Band(v, i).size();
  return n;
}

}  // namespace heed
