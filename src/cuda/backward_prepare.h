// backward_prepare.h: the kernel before the backward's tiles, a warp per row of queries: what the row's
// probabilities are measured by, and delta. And the kernel of dsinks, which follows from those alone.
// Not here: tiles (backward_queries.h, backward_keys.h).
#pragma once

#include "cuda/backward_call.h"
#include "cuda/probs.h"

namespace heed::cuda {

// Beyond it f32 cannot hold log l beside m in lse: the row's own maximum and sum are found again
// (docs/numerics.md).
inline constexpr float kLargestLse = 4096;

// Sum of o * dout over the row, in every lane.
template <class O, class T>
HEED_DEVICE float RowProduct(const O* o, const T* dout, int dim) {
  float sum = 0;
  for (int d = Lane(); d < dim; d += 32) {
    sum = ptx::Fma(Widen(ptx::LoadReadOnly(o + d)), Widen(ptx::LoadReadOnly(dout + d)), sum);
  }
  return WarpSum(sum);
}

template <class T>
HEED_DEVICE RowStart StartOf(const BackwardCall& c, const Entry& e, std::int64_t b, int h, int i) {
  const ForwardCall& f = c.forward;
  const std::int64_t at = LseAt(f, e, b, h, i), o = QueryAt(c.o.steps, e, h, i);
  const T* const dout = static_cast<const T*>(c.dout.data) + QueryAt(c.dout.steps, e, h, i);
  const float lse = ptx::LoadReadOnly(f.lse + at);
  RowStart start{FoldNatural(lse), 1, 0, 0};
  if (lse > kLargestLse || (lse < -kLargestLse && lse != ptx::NegInf())) {
    ProbsRow<T>(f, b, h, i).Sum(start.m, start.factor);
  }
  if (lse == ptx::NegInf() || start.factor == 0) return {-ptx::NegInf(), 0, 0, 0};
  start.delta = f.out_f32 ? RowProduct(static_cast<const float*>(c.o.data) + o, dout, f.dim_v)
                          : RowProduct(static_cast<const T*>(c.o.data) + o, dout, f.dim_v);
  if (c.dlse) start.delta -= ptx::LoadReadOnly(c.dlse + at);
  return start;
}

template <class C>
HEED_DEVICE void PrepareBackward(const BackwardCall& c) {
  const ForwardCall& f = c.forward;
  const std::int64_t items = PrepareItems(c);
  for (std::int64_t n = FirstItem<C>(); n < items; n += ItemStep<C>()) {
    const std::int64_t bh = n / f.q_len, b = bh / f.q_heads;
    const int i = int(n - bh * f.q_len), h = int(bh - b * f.q_heads);
    const Entry e = EntryOf(f, b);
    if (i >= e.sees.sq) continue;
    const RowStart start = StartOf<typename C::Element>(c, e, b, h, i);
    if (Lane() == 0) ptx::StoreGlobal(c.rows + LseAt(f, e, b, h, i), start);
  }
}

// A block per head: sums in an order that depends on the sizes alone.
template <class C>
HEED_DEVICE void GradientOfSinks(const BackwardCall& c) {
  const ForwardCall& f = c.forward;
  const int h = ptx::BlockX();
  const float sink = FoldNatural(ptx::LoadReadOnly(f.sinks + h));
  float sum = 0;
  for (std::int64_t b = 0; b < f.batch; b++) {
    const Entry e = EntryOf(f, b);
    for (int i = ptx::ThreadIndex(); i < e.sees.sq; i += C::kThreads) {
      const RowStart row = ptx::LoadGlobal(c.rows + LseAt(f, e, b, h, i));
      const float p = ptx::Ex2(sink - row.m) * row.factor;
      sum -= p * row.delta;
    }
  }
  sum = WarpSum(sum);
  const uint32_t shared = ptx::SharedBase();
  if (Lane() == 0) ptx::StoreShared(shared + uint32_t(ptx::ThreadIndex() / 8), sum);
  ptx::SyncThreads();
  if (ptx::ThreadIndex() != 0) return;
  float all = c.accumulate ? ptx::LoadGlobal(c.dsinks + h) : 0;
  HEED_UNROLL
  for (int w = 0; w < C::kWarps; w++) all += ptx::LoadShared<float>(shared + uint32_t(4 * w));
  ptx::StoreGlobal(c.dsinks + h, all);
}

}  // namespace heed::cuda
