// scores.h: from products q.k in registers to scores in powers of two: terms, masks, who sees whom;
// and what dropout keeps of the probabilities. Works on any fragment (fragments.h). Not here: a term
// (score/terms.h), the rule (problem/visibility.h), the sums (softmax.h).
#pragma once

#include "cuda/rows.h"
#include "cuda/score_lanes.h"

namespace heed::cuda {

// Elements from a Spread's start to row i of head h of entry b.
HEED_DEVICE std::int64_t RowAt(const Spread& s, std::int64_t b, std::int64_t h, std::int64_t i) {
  return b * s.batch + h * s.head + i * s.row;
}

// Position alone: hidden scores become -infinity, the others stay as they are.
template <class F>
HEED_DEVICE void HideByPosition(const QueryRows& rows, int key, F& s) {
  const int prefix = int(PrefixKeys(rows.entry.sees).last);
  HEED_UNROLL
  for (int r = 0; r < F::kRows; r++) {
    const Interval band = Band(rows.entry.sees, rows.Query(s.Row(r)));
    const int first = int(band.first), last = int(band.last);
    HEED_UNROLL
    for (int c = 0; c < F::kCols; c++) {
      const int j = key + s.Col(c);
      if (!(j < prefix || (j >= first && j < last))) s(r, c) = ptx::NegInf();
    }
  }
}

// What the terms and masks of one row of queries read.
struct RowOperands {
  std::int64_t bias, mask, blocks;  // elements to the row
  float slope, position;
};

template <class T>
HEED_DEVICE RowOperands OperandsOf(const ForwardCall& c, const QueryRows& rows, int r) {
  const std::int64_t i = rows.Query(r), h = rows.Head(r), b = rows.b;
  RowOperands o{};
  if (c.bias.data) o.bias = RowAt(c.bias, b, h, i);
  if (c.mask.data) o.mask = RowAt(c.mask, b, h, i);
  if (c.block_map.data) o.blocks = RowAt(c.block_map, b, h, i / c.block_rows);
  if (c.slopes) o.slope = ptx::LoadReadOnly(c.slopes + b * c.slopes_batch + h);
  o.position = float(i + rows.entry.sees.shift);
  return o;
}

// Whether mask and block map let key j through.
HEED_DEVICE bool Allowed(const ForwardCall& c, const RowOperands& row, int j) {
  if (c.mask.data &&
      !ptx::LoadReadOnly(static_cast<const std::uint8_t*>(c.mask.data) + row.mask + j * c.mask.col))
    return false;
  return !c.block_map.data ||
         ptx::LoadReadOnly(static_cast<const std::uint8_t*>(c.block_map.data) + row.blocks +
                           j / int(c.block_cols) * c.block_map.col);
}

// q.k -> s of key j, in powers of two.
template <class T>
HEED_DEVICE float ScoreOf(const ForwardCall& c, const RowOperands& row, int j, float qk) {
  At<ThreadLanes> at{row.slope, row.position - float(j), 0};
  if (c.bias.data) {
    const std::int64_t n = row.bias + j * c.bias.col;
    at.bias = FoldableBias<ThreadLanes>(
        c.bias_f32 ? ptx::LoadReadOnly(static_cast<const float*>(c.bias.data) + n)
                   : Widen(ptx::LoadReadOnly(static_cast<const T*>(c.bias.data) + n)));
  }
  const float s = Cap<ThreadLanes>(c.terms, qk * c.factors.inner);
  return Offset<ThreadLanes>(c.terms, s, at) * c.factors.outer;
}

// Everything: scores in powers of two, hidden ones -infinity. `arrays`: mask and block map may hide
// some of this tile.
template <class T, class F>
HEED_DEVICE void Score(const ForwardCall& c, const QueryRows& rows, int key, bool arrays, F& s) {
  const int prefix = int(PrefixKeys(rows.entry.sees).last);
  HEED_UNROLL
  for (int r = 0; r < F::kRows; r++) {
    const Interval band = Band(rows.entry.sees, rows.Query(s.Row(r)));
    const int first = int(band.first), last = int(band.last);
    const RowOperands row = OperandsOf<T>(c, rows, s.Row(r));
    HEED_UNROLL
    for (int n = 0; n < F::kCols; n++) {
      const int j = key + s.Col(n);
      const bool seen = (j < prefix || (j >= first && j < last)) && (!arrays || Allowed(c, row, j));
      s(r, n) = seen ? ScoreOf<T>(c, row, j, s(r, n)) : ptx::NegInf();
    }
  }
}

// Probabilities that dropout drops become 0. `key` is a multiple of 4.
template <class F>
HEED_DEVICE void Drop(const ForwardCall& c, const QueryRows& rows, int key, F& p) {
  HEED_UNROLL
  for (int r = 0; r < F::kRows; r++) {
    const std::int64_t bh = rows.b * c.q_heads + rows.Head(p.Row(r));
    const std::int64_t i = rows.Query(p.Row(r));
    HEED_UNROLL
    for (int n = 0; n < F::kCols; n += F::kRun) {
      const int j = key + p.Col(n);
      const unsigned keep = KeepFour(c.dropout, bh, i, j / 4) >> (j % 4);
      HEED_UNROLL
      for (int e = 0; e < F::kRun; e++) {
        if (!(keep >> e & 1)) p(r, n + e) = 0;
      }
    }
  }
}

}  // namespace heed::cuda
