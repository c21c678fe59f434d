// softmax.h: the online softmax of a tile of scores in registers, and what is left of a row at the
// end. Works on any fragment. Not here: scores, products.
#pragma once

#include "cuda/fragments.h"
#include "cuda/rows.h"
#include "cuda/warps.h"

namespace heed::cuda {

// Of each of a thread's rows: the largest score so far, and this thread's part of the sum of
// 2^(factor * (score - m)).
template <int kRows>
struct RowState {
  float m[kRows], l[kRows];

  HEED_DEVICE RowState() {
    HEED_UNROLL
    for (int r = 0; r < kRows; r++) m[r] = ptx::NegInf(), l[r] = 0;
  }
};

// Scores to probabilities relative to the new maximum; rescale[r] is what sums so far are multiplied
// by. factor > 0 turns a score into powers of two. A row of -infinity stays all 0; a score of NaN or
// +infinity makes its row's sum NaN (the maximum steps over NaN, so it cannot hide there).
template <class F>
HEED_DEVICE void Online(float factor, F& s, RowState<F::kRows>& state, float (&rescale)[F::kRows]) {
  HEED_UNROLL
  for (int r = 0; r < F::kRows; r++) {
    float m = state.m[r];
    HEED_UNROLL
    for (int c = 0; c < F::kCols; c++) m = s(r, c) > m ? s(r, c) : m;
    m = MaxOver<F::kLanes>(m);
    const float zero = m == ptx::NegInf() ? 0 : m * factor;
    rescale[r] = ptx::Ex2(state.m[r] * factor - zero);
    float sum = state.l[r] * rescale[r];
    HEED_UNROLL
    for (int c = 0; c < F::kCols; c++) {
      s(r, c) = ptx::Ex2(s(r, c) * factor - zero);
      sum += s(r, c);
    }
    state.m[r] = m;
    state.l[r] = sum;
  }
}

// A finished row: what its sums are multiplied by, and its lse.
struct RowEnd {
  float scale, lse;
};

// m in powers of two (-infinity: nothing was seen), l the whole sum relative to it, sink in powers of
// two (-infinity: none).
HEED_DEVICE RowEnd EndOf(float m, float l, float sink) {
  const float top = sink > m ? sink : m;
  if (top == ptx::NegInf() && l == 0) return {0, ptx::NegInf()};
  const float own = m == ptx::NegInf() ? 0 : ptx::Ex2(m - top);
  const float sum = l * own + ptx::Ex2(sink - top);
  return {own / sum, (top + ptx::Lg2(sum)) * float(kLn2)};
}

}  // namespace heed::cuda
