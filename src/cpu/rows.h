// rows.h: the queries of one tile: what is known of them before any key is read, and the state of
// their softmax. Not here: scores.
#pragma once

#include "cpu/dropout.h"
#include "cpu/entry.h"
#include "cpu/score_lanes.h"

namespace heed::cpu::HEED_ISA {

inline constexpr float kHidden = -__builtin_inff();

// Row state of one query tile, in units of log2 (scores times log2(e)).
//
// m is not the running maximum but a *recent* one: p = 2^(s - m) may grow up to kSumLimit before m
// is raised (lazy rescaling). p is f32 or bf16, both with 8 exponent bits, so that costs no
// accuracy, and most tiles need no maximum at all. When m is raised it is by a whole number, so
// that rescaling multiplies by a power of two and is exact.
struct RowState {
  float m[kRows];    // kUnset until the row has seen a score above -infinity
  float l[kRows];    // sum of p; 0 until then, and at least 1/2 from then on
  float lr[kRows];   // pairs only: the sum of p as rounded to bf16, by which o is divided: the
                     // roundings of p cancel in it
  float lr0[kRows];  // lr before the current block of keys
  // Keys [first, last) that the row sees, beside the prefix; both never fall from row to row.
  std::int32_t first[kRows], last[kRows];
  int rows, vectors;  // rows that exist, vectors that hold them; the lanes beyond repeat the last
                      // row
  std::int64_t keys_first, keys_last;  // nobody here sees a key outside
  unsigned settled;  // bit v: every lane of vector v has seen something, so that the fast tile may
                     // take it
  bool begun;        // o holds the sum of earlier blocks
  bool done;         // o is written
  bool odd;          // some result is not finite
  bool final;        // second pass: m stays, whatever comes
};
inline constexpr float kUnset = -1e30f;
inline constexpr float kSumLimit = 0x1p60f,
                       kGrowth =
                           60.f;  // a row sum beyond it, infinity and NaN go to the general tile

// What the options need to know of each row.
struct RowFacts {
  std::int32_t query[kRows], head[kRows];
  float position[kRows];  // query + shift, counted from the block's first key
  float slope[kRows];
  float sink[kRows];                                  // in units of log2; kHidden where none
  const std::uint16_t* kinds;                         // of the tile (MaskKinds), or null
  std::int64_t bias[kRows], mask[kRows], map[kRows];  // elements from the array's start to the
                                                      // row's key 0
  unsigned same;  // bit v: all lanes of vector v read one row of the mask and one of the map
  bool one_bias;  // all rows have one row of the bias
  DropoutRows dropout;
};

HEED_INLINE std::int64_t RowOf(const Spread& s, std::int64_t b, std::int64_t h, std::int64_t i) {
  return b * s.batch + h * s.head + i * s.row;
}

// Rows [rows.first, rows.last) of an item: which queries they are, who sees which keys.
HEED_NOINLINE void BeginRows(const ForwardCall& c, const Entry& e, const Item& item, RowState* rows,
                             RowFacts* facts) {
  rows->rows = static_cast<int>(item.rows.size());
  rows->vectors = (rows->rows + W - 1) / W;
  rows->settled = 0;
  rows->begun = rows->final = rows->odd = rows->done = false;
  const Visibility& sees = e.sees;
  const bool all = sees.left < 0 && sees.right < 0 && sees.chunk == 0;
  for (int r = 0; r < kRows; r++) {
    const std::int64_t row = heed::Min(item.rows.first + r, item.rows.last - 1);
    const std::int64_t query = c.packed ? row / c.group : row;
    facts->query[r] = static_cast<std::int32_t>(query);
    facts->head[r] =
        static_cast<std::int32_t>(c.packed ? item.h * c.group + row % c.group : item.h);
    const Interval keys = all ? Interval{PrefixKeys(sees).last, sees.sk} : Band(sees, query);
    rows->first[r] = static_cast<std::int32_t>(keys.first);
    rows->last[r] = static_cast<std::int32_t>(keys.last);
  }
  const std::int64_t prefix = PrefixKeys(sees).last;
  rows->keys_first = prefix > 0 ? 0 : rows->first[0];
  rows->keys_last = rows->last[kRows - 1];  // never below the prefix
}

// The softmax of rows that have seen no key yet; a sink is there from the start.
HEED_INLINE void ResetState(const RowFacts& facts, bool sinks, RowState* rows) {
  for (int lane = 0; lane < kRows; lane += W) {
    V m = Set(kUnset), l = Zero();
    if (sinks) {
      const V sink = Load(facts.sink + lane);
      const M none = Eq(sink, Set(kHidden));
      m = Select(none, m, sink);
      l = Select(none, l, Fma(sink, Zero(), Set(1.f)));  // an infinity or a NaN stays one
    }
    Store(rows->m + lane, m);
    Store(rows->l + lane, l);
    Store(rows->lr + lane, l);
    Store(rows->lr0 + lane, l);
  }
}

HEED_NOINLINE void FillFacts(const ForwardCall& c, std::int64_t b, RowFacts* facts) {
  facts->same = (1u << kVecs) - 1;
  facts->kinds = c.kinds.words
                     ? c.kinds.words + c.kinds.At(b, facts->head[0], facts->query[0] / kRows)
                     : nullptr;
  facts->one_bias = c.terms.bias;
  for (int r = 0; r < kRows; r++) {
    const std::int64_t h = facts->head[r], i = facts->query[r];
    if (c.terms.alibi) facts->slope[r] = c.slopes[b * c.slopes_batch + h];
    if (c.terms.bias) {
      facts->bias[r] = RowOf(c.bias, b, h, i);
      if (facts->bias[r] != facts->bias[0]) facts->one_bias = false;
    }
    facts->mask[r] = RowOf(c.mask, b, h, i);
    facts->map[r] = c.block_map.data ? RowOf(c.block_map, b, h, i / c.block_rows) : 0;
    if (r % W && (facts->mask[r] != facts->mask[r - 1] || facts->map[r] != facts->map[r - 1]))
      facts->same &= ~(1u << r / W);
    if (c.sinks) facts->sink[r] = FoldExp2<ScalarLanes<float>>(c.sinks[h]);
    if (c.drops)
      facts->dropout.Set(c.dropout, r, static_cast<std::uint32_t>(b * c.q_heads + h),
                         static_cast<std::uint32_t>(i));
  }
}

}  // namespace heed::cpu::HEED_ISA
