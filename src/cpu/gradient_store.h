// gradient_store.h: gradients from where they were summed to where the caller wants them: dtype,
// strides, added or written. Not here: sums.
#pragma once

#include "cpu/backward_call.h"
#include "cpu/gradient_tile.h"
#include "cpu/packing.h"

namespace heed::cpu::HEED_ISA {

// The lanes of x, in one order on every set of the same W.
HEED_INLINE float SumLanes(V x) {
  float each[W], sum = 0;
  Store(each, x);
  for (int i = 0; i < W; i++) sum += each[i];
  return sum;
}

// n values times `factor` to a row of dtype G, or added to what it holds.
template <class G>
HEED_NOINLINE void StoreScaled(const float* from, int n, float factor, bool add,
                               typename G::E* to) {
  int i = 0;
  for (; i + W <= n; i += W) {
    const V x = Mul(Load(from + i), Set(factor));
    G::Narrow(to + i, add ? Add(x, G::Widen(to + i)) : x);
  }
  if (i == n) return;
  const V x = Mul(LoadN(from + i, n - i), Set(factor));
  G::NarrowN(to + i, add ? Add(x, G::WidenN(to + i, n - i)) : x, n - i);
}

template <class F>
HEED_INLINE void StoreGradientRow(const BackwardCall& c, const float* from, int n, float factor,
                                  void* to, const Steps& steps, std::int64_t batch,
                                  std::int64_t row, std::int64_t head) {
  const std::int64_t at = batch * steps.batch + row * steps.row + head * steps.head;
  if (c.grads_f32)
    StoreScaled<Format<DType::kF32>>(from, n, factor, c.accumulate, static_cast<float*>(to) + at);
  else
    StoreScaled<F>(from, n, factor, c.accumulate, static_cast<typename F::E*>(to) + at);
}

// The sums of a bias' gradient for entry b, head h, query i.
HEED_INLINE float* SumsOf(const Spread& to, std::int64_t b, std::int64_t h, std::int64_t i) {
  return static_cast<float*>(const_cast<void*>(to.data)) + RowOf(to, b, h, i);
}

// W keys (the first `count` exist) of a vector of queries, transposed: to their rows of the gradient.
// Where whole vectors are written they pass by the caches: nothing reads them soon, and reading the
// lines first costs more than all the rest.
template <class G>
HEED_INLINE void WritePairRows(const BiasGradient& g, std::int64_t b, const RowFacts& facts,
                               int lane, int rows, std::int64_t j, int count, V (&x)[W]) {
  Transpose(x);
  auto* const base = static_cast<typename G::E*>(const_cast<void*>(g.to.data)) + j * g.to.col;
  const bool add = g.add || !g.direct;
  for (int r = 0; r < W && lane + r < rows; r++) {
    typename G::E* const to = base + RowOf(g.to, b, facts.head[lane + r], facts.query[lane + r]);
    if (add)
      G::NarrowN(to, Add(x[r], G::WidenN(to, count)), count);
    else if (count < W)
      G::NarrowN(to, x[r], count);
    else if constexpr (sizeof(typename G::E) == 4)
      Stream(to, x[r]);
    else
      G::Narrow(to, x[r]);
  }
}

// `count` staged keys from j on of a tile's `rows` queries.
template <class G>
HEED_NOINLINE void WritePairs(const BiasGradient& g, std::int64_t b, const RowFacts& facts,
                              int rows, std::int64_t j, int count, const BiasGradientStage* stage) {
  for (int key = 0; key < count; key += W)
    for (int lane = 0; lane < rows; lane += W) {
      V x[W];
      for (int i = 0; i < W; i++) x[i] = Load(stage->pairs[key + i] + lane);
      WritePairRows<G>(g, b, facts, lane, rows, j + key, count - key < W ? count - key : W, x);
    }
}

}  // namespace heed::cpu::HEED_ISA
