// live.h: which score tiles of a block of keys are seen: by nobody, in part, or whole, vector by
// vector of a query tile; from intervals, masks and block maps alike. Not here: scores.
#pragma once

#include "cpu/entry.h"
#include "cpu/rows.h"

namespace heed::cpu::HEED_ISA {

// Bit c: keys [c * kKeys, (c + 1) * kKeys) of a block.
using Columns = std::uint64_t;
static_assert(kMaxKeys / kKeys <= 64, "a block's columns of keys are the bits of one word");
static_assert(64 % kKeys == 0 && kMaxKeys % 64 == 0, "masks are read 64 keys at a time");

// Bits [from, to) of a word, 0 <= from, to <= 64.
HEED_INLINE std::uint64_t BitRange(int from, int to) {
  if (from >= to) return 0;
  return (~std::uint64_t{0} >> (64 - (to - from))) << from;
}

// How many bits are set. Not the builtin: on a baseline without the instruction it calls a function.
HEED_INLINE int CountBits(std::uint64_t x) {
  x -= x >> 1 & 0x5555555555555555;
  x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
  return static_cast<int>(x * 0x0101010101010101 >> 56);
}

// How many bits are set from bit c on without a gap.
HEED_INLINE int OnesFrom(std::uint64_t x, int c) {
  const std::uint64_t gaps = ~(x >> c);
  return gaps ? __builtin_ctzll(gaps) : 64;
}

// One bit per key -> one bit per kKeys keys: whether any of them is set.
HEED_INLINE Columns AnyOf(std::uint64_t keys) {
  static_assert(kKeys == 4 || kKeys == 8);
  std::uint64_t x = keys | keys >> 1;
  x |= x >> 2;
  if constexpr (kKeys == 8) {
    x = (x | x >> 4) & 0x0101010101010101;
    return x * 0x0102040810204080 >> 56;
  } else {
    x &= 0x1111111111111111;
    x = (x | x >> 3) & 0x0303030303030303;
    x = (x | x >> 6) & 0x000f000f000f000f;
    x = (x | x >> 12) & 0x000000ff000000ff;
    return (x | x >> 24) & 0xffff;
  }
}
HEED_INLINE Columns AllOf(std::uint64_t keys) { return ~AnyOf(~keys) & BitRange(0, 64 / kKeys); }

// One query tile against one block.
struct Live {
  Columns any[kVecs], all[kVecs];  // of vector v: somebody sees some key, everybody every key
  Columns live;                    // some vector's any
  // Keys [0, prefix) of the block are seen by all, wherever a row's own interval lies.
  int prefix;
  // Mask and block map, where there is one: bit j % 32 of word j / 32, of columns in `live` alone.
  bool masked;
  std::uint32_t bits[kMaxKeys / 32][kRows];
};

// 64 keys (the first n exist) of a row of the mask that starts at p.
HEED_INLINE std::uint64_t MaskBits(const std::uint8_t* p, std::int64_t step, int n) {
  if (step == 0) return *p ? ~std::uint64_t{0} : 0;
  if (step == 1 && n == 64) return NonZero64(p);
  alignas(64) std::uint8_t t[64] = {};
  for (int i = 0; i < n; i++) t[i] = p[i * step];
  return NonZero64(t);
}

// n keys of a row of the block map whose blocks are `cols` keys wide, from its block `cell` on, which
// ends after `left` keys.
HEED_INLINE std::uint64_t MapBits(const std::uint8_t* p, std::int64_t step, std::int64_t cols,
                                  std::int64_t cell, std::int64_t left, int n) {
  std::uint64_t bits = 0;
  for (int at = 0; at < n; cell++) {
    const int end = left < n - at ? at + static_cast<int>(left) : n;
    if (p[cell * step]) bits |= BitRange(at, end);
    at = end;
    left = cols;
  }
  return bits;
}

// Intervals alone. k0, keys: the block.
HEED_INLINE void FindLiveByInterval(const RowState& rows, const Visibility& sees, std::int64_t k0,
                                    int keys, Live* live) {
  const auto within = [&](std::int64_t j) __attribute__((always_inline)) {
    return static_cast<int>(Clamp(j - k0, 0, keys));
  };
  const auto up = [](int key) __attribute__((always_inline)) { return (key + kKeys - 1) / kKeys; };
  live->prefix = within(sees.prefix);
  live->live = 0;
  live->masked = false;
  for (int v = 0; v < rows.vectors; v++) {
    const std::int32_t *first = rows.first + v * W, *last = rows.last + v * W;
    live->any[v] =
        BitRange(within(first[0]) / kKeys, up(within(last[W - 1]))) | BitRange(0, up(live->prefix));
    // An interval that continues the prefix is one with it.
    const int from = within(first[W - 1]) <= live->prefix ? 0 : up(within(first[W - 1]));
    live->all[v] = BitRange(from, within(last[0]) / kKeys) | BitRange(0, live->prefix / kKeys);
    live->live |= live->any[v];
  }
}

// Tile n of call.kinds, whose tiles are numbered over (entry, head, tile) of the mask.
HEED_NOINLINE void FindMaskKinds(const ForwardCall& c, std::int64_t n) {
  static_assert(kVecs <= 8);
  const MaskKinds& kinds = c.kinds;
  const std::int64_t bh = n / kinds.tiles, first = n % kinds.tiles * kRows;
  const std::uint8_t* const rows = static_cast<const std::uint8_t*>(c.mask.data) +
                                   bh / kinds.heads * c.mask.batch + bh % kinds.heads * c.mask.head;
  for (std::int64_t group = 0; group < kinds.groups; group++) {
    const auto keys = static_cast<int>(heed::Min(64, kinds.cols - group * 64));
    const std::uint64_t exist = BitRange(0, keys);
    unsigned word = 0;
    for (int v = 0; v < kVecs; v++) {
      std::uint64_t any = 0, all = exist;
      for (int r = 0; r < W; r++) {
        const std::int64_t i = heed::Min(first + v * W + r, kinds.rows - 1);
        const std::uint8_t* const p = rows + i * c.mask.row + group * 64 * c.mask.col;
        if (c.mask.col == 1) __builtin_prefetch(p + 64);
        const std::uint64_t bits = MaskBits(p, c.mask.col, keys) & exist;
        any |= bits;
        all &= bits;
      }
      word |= (any == 0 ? 0u : all == exist ? 2u : 1u) << (2 * v);
    }
    kinds.words[n * kinds.groups + group] = static_cast<std::uint16_t>(word);
  }
}

// What the mask is known to say of a vector of queries and keys [j, j + n), n at most 64: 0 and 2 as in
// MaskKinds; 1: it must be read.
HEED_INLINE unsigned KindOf(const RowFacts& facts, int v, std::int64_t j, int n) {
  if (!facts.kinds) return 1;
  const unsigned a = facts.kinds[j / 64] >> (2 * v) & 3,
                 b = facts.kinds[(j + n - 1) / 64] >> (2 * v) & 3;
  return a == b ? a : 1;
}

// Takes away what is hidden of the n keys from `key` on, 64 at most, of the block at k0. row(r): the
// bits of row r. known: whether the mask is all that hides.
template <class Row>
HEED_INLINE void TakeHidden(const RowState& rows, const RowFacts& facts, std::int64_t k0, int key,
                            int n, bool known, Row row, Live* live) {
  const int column = key / kKeys;
  const Columns here = BitRange(column, column + 64 / kKeys);
  for (int v = 0; v < rows.vectors; v++) {
    std::uint32_t *const low = live->bits[key / 32] + v * W, *const high =
                                                                 live->bits[key / 32 + 1] + v * W;
    std::uint64_t any = 0, all = ~std::uint64_t{0};
    const unsigned kind = known ? KindOf(facts, v, k0 + key, n) : 1;
    if (kind != 1 || facts.same >> v & 1) {
      any = all = kind == 1 ? row(v * W) : kind == 0 ? 0 : ~std::uint64_t{0};
      for (int r = 0; r < W; r++) low[r] = static_cast<std::uint32_t>(any);
      for (int r = 0; r < W; r++) high[r] = static_cast<std::uint32_t>(any >> 32);
    } else {
      for (int r = 0; r < W; r++) {
        const std::uint64_t bits = row(v * W + r);
        low[r] = static_cast<std::uint32_t>(bits);
        high[r] = static_cast<std::uint32_t>(bits >> 32);
        any |= bits;
        all &= bits;
      }
    }
    live->any[v] &= ~here | AnyOf(any) << column;
    live->all[v] &= ~here | AllOf(all) << column;
  }
}

// Takes away what mask and map hide.
HEED_NOINLINE void FindLiveByMask(const ForwardCall& c, const RowState& rows, const RowFacts& facts,
                                  std::int64_t k0, int keys, Live* live) {
  const auto* const mask = static_cast<const std::uint8_t*>(c.mask.data);
  const auto* const map = static_cast<const std::uint8_t*>(c.block_map.data);
  // Rows of a mask lie in pages of their own, and a line of each comes from an outer cache: the
  // reads are asked for 64 keys ahead, and the loop around them is short, so that many wait at once.
  const bool dense = mask && !map && c.mask.col == 1;
  const auto ask = [&](int key) __attribute__((always_inline)) {
    const int n = keys - key < 64 ? keys - key : 64;
    for (int v = 0; v < rows.vectors; v++)
      if (KindOf(facts, v, k0 + key, n) == 1)
        for (int r = v * W; r < (v + 1) * W; r++)
          __builtin_prefetch(mask + facts.mask[r] + k0 + key);
  };
  if (dense) ask(0);
  for (int key = 0; key < keys; key += 64) {
    const int column = key / kKeys;
    if (!(live->live & BitRange(column, column + 64 / kKeys))) continue;
    const int n = keys - key < 64 ? keys - key : 64;
    if (dense && n == 64) {
      if (key + 64 < keys) ask(key + 64);
      const std::uint8_t* const p = mask + k0 + key;
      const auto row = [&](int r) __attribute__((always_inline)) {
        return NonZero64(p + facts.mask[r]);
      };
      TakeHidden(rows, facts, k0, key, n, true, row, live);
    } else {
      const std::int64_t cell = map ? (k0 + key) / c.block_cols : 0,
                         left = map ? (cell + 1) * c.block_cols - (k0 + key) : 0;
      const auto row = [&](int r) __attribute__((always_inline)) {
        std::uint64_t bits = ~std::uint64_t{0};
        if (mask) bits = MaskBits(mask + facts.mask[r] + (k0 + key) * c.mask.col, c.mask.col, n);
        if (map) bits &= MapBits(map + facts.map[r], c.block_map.col, c.block_cols, cell, left, n);
        return bits;
      };
      TakeHidden(rows, facts, k0, key, n, !map, row, live);
    }
  }
  live->live = 0;
  for (int v = 0; v < rows.vectors; v++) live->live |= live->any[v];
  live->masked = true;
}

// Rows [row, row + count) of a masked block: columns of which one of them sees something, as far as
// the mask knows.
HEED_INLINE Columns LiveRows(const Live& live, int row, int count) {
  Columns columns = 0;
  for (int key = 0; key < kMaxKeys; key += 64) {
    const Columns here = BitRange(key / kKeys, (key + 64) / kKeys);
    if (!(live.live & here)) continue;
    std::uint32_t low = 0, high = 0;
    for (int r = row; r < row + count; r++) {
      low |= live.bits[key / 32][r];
      high |= live.bits[key / 32 + 1][r];
    }
    columns |= AnyOf(low | static_cast<std::uint64_t>(high) << 32) << (key / kKeys);
  }
  return columns & live.live;
}

// How many rows from `row` on, `most` at most, are summed together. Where the next vector sees other
// columns it is not among them: each would be summed over the columns of both (10 % of 64 x 128
// blocks kept: 6 points).
HEED_INLINE int RowsAlike(const Live& live, int row, int most) {
  if (!live.masked) return most;
  for (int v = row / W + 1; v < kVecs && v * W < row + most; v++)
    if (live.any[v] != live.any[v - 1]) return v * W - row;
  return most;
}

}  // namespace heed::cpu::HEED_ISA
