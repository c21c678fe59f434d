// probs.h: the kernel that writes P(B, Hq, Sq, Sk) for those who ask for it, a warp per row: two walks
// over the row's keys, first its maximum and sum, then what is written. Slow beside the forward, and it
// depends on none of its results: for tests and for looking. Not here: a score (scores.h).
#pragma once

#include "cuda/elements.h"
#include "cuda/grid.h"
#include "cuda/rows.h"
#include "cuda/scores.h"
#include "cuda/warps.h"

namespace heed::cuda {

// The scores of one row, one key of one lane at a time.
template <class T>
class ProbsRow {
 public:
  HEED_DEVICE ProbsRow(const ForwardCall& c, std::int64_t b, int h, int i) : call_(c) {
    rows_.entry = EntryOf(c, b);
    rows_.b = b;
    rows_.first = i;
    rows_.count = 1;
    rows_.head = h;
    rows_.key_head = h / c.group;
    slope_ = c.slopes ? ptx::LoadReadOnly(c.slopes + b * c.slopes_batch + h) : 0;
    q_ = static_cast<const T*>(c.q.data) + QueryAt(c.q.steps, rows_.entry, h, i);
    keys_ = int(rows_.entry.sees.sk);
  }

  // In powers of two; -infinity where there is no such pair or it is hidden.
  HEED_DEVICE float Score(int j) const {
    if (!Sees(rows_.entry.sees, rows_.first, j) || !Allowed(j)) return ptx::NegInf();
    const T* const k = static_cast<const T*>(call_.k.data) +
                       KeyAt(call_, call_.k.steps, rows_.entry, rows_.key_head, j);
    float sum = 0;
    for (int d = 0; d < call_.dim; d++) {
      sum = ptx::Fma(Widen(ptx::LoadGlobal(q_ + d)), Widen(ptx::LoadGlobal(k + d)), sum);
    }
    using L = ThreadLanes<1>;
    const std::int64_t distance = rows_.first + rows_.entry.sees.shift - j;
    At<L> at{{slope_}, {float(distance)}, {}};
    if (call_.terms.bias) {
      at.bias = FoldableBias<L>(BiasOf<T, L>(
          call_, RowAt(call_.bias, rows_.first), [&](int) { return j; }, keys_));
    }
    const L::Real capped = Cap<L>(call_.terms, {sum * call_.factors.inner});
    return Offset<L>(call_.terms, capped, at).of[0] * call_.factors.outer;
  }
  HEED_DEVICE bool Kept(int j) const {
    // Keep would index the four words by j: an array that is no registers.
    const std::int64_t bh = rows_.b * call_.q_heads + rows_.head;
    return !call_.drops || (KeepFour(call_.dropout, bh, rows_.first, j / 4) >> (j % 4) & 1) != 0;
  }

  // The row's maximum, and the factor that makes 2^(s - m) a probability: 0 where it sees nothing. All
  // lanes together. A score of +infinity makes it NaN.
  HEED_DEVICE void Sum(float& m, float& factor) const {
    float own = ptx::NegInf(), l = 0;
    for (int j = Lane(); j < keys_; j += 32) {
      const float s = Score(j);
      if (s == ptx::NegInf()) continue;
      if (s > own) {
        l *= ptx::Ex2(own - s);
        own = s;
      }
      l += ptx::Ex2(s - own);
    }
    const float sink =
        call_.sinks ? FoldNatural(ptx::LoadReadOnly(call_.sinks + rows_.head)) : ptx::NegInf();
    m = WarpMax(own);
    if (sink > m) m = sink;
    l = WarpSum(l == 0 ? 0 : l * ptx::Ex2(own - m));
    if (sink != ptx::NegInf()) l += ptx::Ex2(sink - m);
    factor = l == 0 ? 0 : 1 / l;
  }

 private:
  HEED_DEVICE std::int64_t RowAt(const Spread& s, std::int64_t row) const {
    return rows_.b * s.batch + rows_.head * s.head + row * s.row;
  }
  HEED_DEVICE bool Shown(const Spread& s, std::int64_t row, std::int64_t col) const {
    return !s.data || ptx::LoadReadOnly(static_cast<const std::uint8_t*>(s.data) + RowAt(s, row) +
                                        col * s.col);
  }
  HEED_DEVICE bool Allowed(int j) const {
    return Shown(call_.mask, rows_.first, j) &&
           Shown(call_.block_map, rows_.first / call_.block_rows, j / call_.block_cols);
  }

  const ForwardCall& call_;
  QueryRows rows_;
  float slope_;
  const T* q_;
  int keys_;  // of its entry
};

template <class C>
HEED_DEVICE void Probabilities(const ForwardCall& c) {
  using T = typename C::Element;
  const std::int64_t items = ProbsItems(c);
  for (std::int64_t n = FirstItem<C>(); n < items; n += ItemStep<C>()) {
    const std::int64_t bh = n / c.q_len;
    const ProbsRow<T> row(c, bh / c.q_heads, int(bh % c.q_heads), int(n % c.q_len));
    float m, factor;
    row.Sum(m, factor);
    for (int j = Lane(); j < c.k_len; j += 32) {
      const float s = row.Score(j);
      float p = s == ptx::NegInf() ? 0 : ptx::Ex2(s - m) * factor;
      if (s != ptx::NegInf() && !row.Kept(j)) p = -p;
      if (c.out_f32) {
        ptx::StoreGlobal(static_cast<float*>(c.probs) + n * c.k_len + j, p);
      } else {
        StoreRounded(static_cast<T*>(c.probs) + n * c.k_len + j, p);
      }
    }
  }
}

}  // namespace heed::cuda
