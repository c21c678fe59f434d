// pieces.h: partial results over pieces of the keys, and how they are joined. Not here: computing
// them (forward.h).
#pragma once

#include "cpu/exp2.h"
#include "cpu/keys.h"
#include "cpu/packing.h"
#include "cpu/rows.h"

namespace heed::cpu::HEED_ISA {

// One (entry, kv head, piece).
struct Partial {
  float *m, *l, *r, *o;
  std::int64_t o_step;

  static HEED_INLINE Partial At(const Split& s, std::int64_t item) {
    float* const p = s.partials + item * s.floats();
    return {p, p + s.rows, p + 2 * s.rows, p + 3 * s.rows, s.o_step};
  }
};

// One row of one kv head: o = sum of 2^(m_i - m) o_i over sum of 2^(m_i - m) r_i, pieces in order.
// A piece that saw nothing (l = 0) has no part in it. The sink, if any, is in the first piece.
template <class F>
HEED_NOINLINE void JoinRow(const ForwardCall& c, std::int64_t head_item, std::int64_t row) {
  using E = typename F::E;
  const std::int64_t heads = c.q_heads / c.group, b = head_item / heads, hk = head_item % heads;
  const std::int64_t query = row / c.group, h = hk * c.group + row % c.group;
  const Entry e = EntryOf(c, b);
  const auto part_of = [&](int n) __attribute__((always_inline)) {
    return Partial::At(c.split, c.split.Number({b, hk, n}));
  };

  V m = Set(kHidden), l = Zero(), r = Zero(), weight[kMaxPieces];
  int used = 0;
  for (int n = 0; n < c.split.pieces; n++) {
    const Partial part = part_of(n);
    if (part.l[row] == 0) continue;
    m = Max(m, Set(part.m[row]));
    used = n + 1;
  }
  for (int n = 0; n < used; n++) {
    const Partial part = part_of(n);
    if (part.l[row] == 0) continue;
    weight[n] = Exp2OrZero<5>(Sub(Set(part.m[row]), m));
    l = Fma(weight[n], Set(part.l[row]), l);
    r = Fma(weight[n], Set(part.r[row]), r);
  }
  const M empty = Eq(l, Zero());
  const V factor = Select(empty, Zero(), Div(Set(c.keep_factor), r));
  // Each piece's share first and then their sum: a mean of means, which is finite where they are.
  for (int n = 0; n < used; n++) weight[n] = Mul(weight[n], factor);
  const std::int64_t at = QueryAt(c.o_steps, e, h, query);
  for (int d = 0; d < c.dim_v; d += W) {
    V o = Zero();
    for (int n = 0; n < used; n++) {
      const Partial part = part_of(n);
      if (part.l[row] != 0) o = Fma(weight[n], Load(part.o + row * part.o_step + d), o);
    }
    o = Select(Eq(factor, Zero()), Zero(), o);
    float out[W];
    Store(out, o);
    const int count = c.dim_v - d < W ? c.dim_v - d : W;
    if (c.out_dtype == DType::kF32)
      WriteRow<Format<DType::kF32>>(out, count, static_cast<float*>(c.o) + at + d);
    else
      WriteRow<F>(out, count, static_cast<E*>(c.o) + at + d);
  }
  if (c.lse) {
    const V natural = Mul(Add(m, Log2(l)), Set(static_cast<float>(kLn2)));
    StoreN(c.lse + LseAt(c, e, b, h, query), Select(empty, Set(kHidden), natural), 1);
  }
}

template <class F>
void JoinRows(const ForwardCall& c, std::int64_t first, std::int64_t last) {
  for (std::int64_t n = first; n < last; n++) JoinRow<F>(c, n / c.split.rows, n % c.split.rows);
}

}  // namespace heed::cpu::HEED_ISA
