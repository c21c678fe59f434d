// scores.h: from products q.k in registers to scores in powers of two: terms, masks, who sees whom;
// and what dropout keeps of the probabilities. Works on any fragment (fragments.h). Not here: a term
// (score/terms.h), the rule (problem/visibility.h), the sums (softmax.h).
#pragma once

#include "cuda/row_facts.h"
#include "cuda/score_lanes.h"

namespace heed::cuda {

// Hidden scores become -infinity, the others stay as they are: by position.
template <class Facts, class F>
HEED_DEVICE void HideByPosition(const Facts& facts, int prefix, int key, F& s) {
  HEED_UNROLL
  for (int r = 0; r < F::kRows; r++) {
    const SeenKeys seen = facts.Seen(F::Row(r));
    HEED_UNROLL
    for (int n = 0; n < F::kCols; n++) {
      const int j = key + F::Col(n);
      if (!(j < prefix || (j >= seen.first && j < seen.last))) s(r, n) = ptx::NegInf();
    }
  }
}

// By mask and block map. Keys from `end` on do not exist.
template <class Facts, class F>
HEED_DEVICE void HideByArrays(const ForwardCall& c, const Facts& facts, int key, int end, F& s) {
  HEED_UNROLL
  for (int r = 0; r < F::kRows; r++) {
    const auto* mask = static_cast<const std::uint8_t*>(c.mask.data);
    const auto* blocks = static_cast<const std::uint8_t*>(c.block_map.data);
    if (mask) mask += facts.Arrays(F::Row(r)).mask;
    if (blocks) blocks += facts.Blocks(F::Row(r)).blocks;
    uint32_t hidden = 0;  // a bit a column: so that this loop need not be unrolled
    HEED_NO_UNROLL
    for (int n = 0; n < F::kCols; n++) {
      const int j = key + F::Col(n);
      if (j >= end) break;
      const bool seen =
          (!mask || ptx::LoadReadOnly(mask + j * c.mask.col)) &&
          (!blocks || ptx::LoadReadOnly(blocks + j / int(c.block_cols) * c.block_map.col));
      hidden |= uint32_t(!seen) << n;
    }
    HEED_UNROLL
    for (int n = 0; n < F::kCols; n++) {
      if (hidden >> n & 1) s(r, n) = ptx::NegInf();
    }
  }
}

// The bias of one row at the keys col(n); `row`: elements to it. Keys from `end` on do not exist.
template <class T, class L, class Cols>
HEED_DEVICE typename L::Real BiasOf(const ForwardCall& c, std::int64_t row, const Cols& col,
                                    int end) {
  const auto load = [&](const auto* from) {
    from += row;
    return L::Each([&](int n) {
      const int j = col(n);
      return j < end ? Widen(ptx::LoadReadOnly(from + j * c.bias.col)) : 0.f;
    });
  };
  return c.bias_f32 ? load(static_cast<const float*>(c.bias.data))
                    : load(static_cast<const T*>(c.bias.data));
}

// Products q.k -> scores in powers of two.
template <class T, class Facts, class F>
HEED_DEVICE void ApplyTerms(const ForwardCall& c, const Facts& facts, int key, int end, F& s) {
  using L = ThreadLanes<F::kCols>;
  HEED_UNROLL
  for (int r = 0; r < F::kRows; r++) {
    typename L::Real x = L::Each([&](int n) { return s(r, n) * c.factors.inner; });
    x = Cap<L>(c.terms, x);
    At<L> at{};
    if (c.terms.positional()) {
      const Position p = facts.At(F::Row(r));
      at.slope = L::Const(p.slope);
      at.distance = L::Each([&](int n) { return float(p.position - key - F::Col(n)); });
    }
    if (c.terms.bias)
      at.bias = FoldableBias<L>(BiasOf<T, L>(
          c, facts.Arrays(F::Row(r)).bias, [&](int n) { return key + F::Col(n); }, end));
    x = Offset<L>(c.terms, x, at);
    HEED_UNROLL
    for (int n = 0; n < F::kCols; n++) s(r, n) = x.of[n] * c.factors.outer;
  }
}

// Probabilities that dropout drops become 0. `key` is a multiple of 4.
template <class Facts, class F>
HEED_DEVICE void Drop(const ForwardCall& c, const Facts& facts, int key, F& p) {
  HEED_UNROLL
  for (int r = 0; r < F::kRows; r++) {
    const BlockRow row = facts.Blocks(F::Row(r));
    uint32_t keep = 0;  // a bit a column
    HEED_NO_UNROLL
    for (int n = 0; n < F::kCols; n += F::kRun) {
      const int j = key + F::Col(n);
      keep |= (KeepFour(c.dropout, row.bh, row.query, j / 4) >> j % 4 & ((1u << F::kRun) - 1)) << n;
    }
    HEED_UNROLL
    for (int n = 0; n < F::kCols; n++) {
      if (!(keep >> n & 1)) p(r, n) = 0;
    }
  }
}

}  // namespace heed::cuda
