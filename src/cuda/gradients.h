// gradients.h: of a tile: from products q.k and dout.v in registers to probabilities and the gradient of
// the scores. Works on QueriesDown and KeysDown of any fragment. Not here: products, what becomes of
// the gradient (backward_*.h).
#pragma once

#include "cuda/backward_call.h"
#include "cuda/scores.h"

namespace heed::cuda {

// RowFacts and the RowStart of each row, behind them.
template <class C>
class GradientFacts : public RowFacts<C> {
 public:
  HEED_DEVICE explicit GradientFacts(uint32_t base)
      : RowFacts<C>(base), starts_(base + uint32_t(C::kRows * FactBytes(C::kGeneral))) {}

  // By all threads; a SyncThreads must follow. A row that does not exist sees nothing.
  HEED_DEVICE void Find(const BackwardCall& c, const QueryRows& rows) const {
    RowFacts<C>::Find(c.forward, rows);
    HEED_NO_UNROLL
    for (int r = ptx::ThreadIndex(); r < C::kRows; r += C::kThreads) {
      RowStart start{-ptx::NegInf(), 0, 0, 0};
      if (r < rows.count) {
        start = ptx::LoadGlobal(c.rows +
                                LseAt(c.forward, rows.entry, rows.b, rows.Head(r), rows.Query(r)));
      }
      ptx::StoreShared(starts_ + uint32_t(16 * r), start);
    }
  }

  HEED_DEVICE RowStart Start(int r) const {
    return ptx::LoadShared<RowStart>(starts_ + uint32_t(16 * r));
  }

 private:
  uint32_t starts_;
};

// What may hide pairs of a tile.
struct Edges {
  int prefix = 0, key = 0, end = 0;  // `key` is the tile's first, keys from `end` on do not exist
  bool position = true, arrays = true;
};

// s = q.k becomes p as V was multiplied by it (dropped ones 0, kept ones larger); d = dout.v becomes the
// gradient of q.k without its factor `scale`, or, kOfBias, that of the bias.
template <class C, bool kOfBias, class Facts, class View>
HEED_DEVICE void Gradients(const BackwardCall& c, const Facts& facts, const Edges& edges, View s,
                           View d) {
  using T = typename C::Element;
  const ForwardCall& f = c.forward;
  uint32_t keep[View::kQueries];
  HEED_UNROLL
  for (int q = 0; q < View::kQueries; q++) {
    keep[q] = ~0u;
    if constexpr (C::kGeneral) {
      if (f.drops) keep[q] = KeptOf<View>(f, facts, edges.key, q);
    }
    const float delta = facts.Start(View::Query(q)).delta;
    HEED_UNROLL
    for (int k = 0; k < View::kKeys; k++) {
      d(q, k) = (keep[q] >> k & 1 ? d(q, k) * f.keep_factor : 0) - delta;
    }
  }
  if constexpr (C::kGeneral) {
    ApplyTerms<T>(f, facts, edges.key, edges.end, s, [&](int q, const auto& capped) {
      if constexpr (!kOfBias) {
        const auto rate = CapRate<ThreadLanes<View::kKeys>>(f.terms, capped);
        HEED_UNROLL
        for (int k = 0; k < View::kKeys; k++) d(q, k) *= rate.of[k];
      }
    });
    if (edges.arrays) HideByArrays(f, facts, edges.key, edges.end, s);
  }
  if (edges.position) HideByPosition(facts, edges.prefix, edges.key, s);
  const float factor = C::kGeneral ? 1.f : f.factors.inner;
  HEED_UNROLL
  for (int q = 0; q < View::kQueries; q++) {
    const RowStart start = facts.Start(View::Query(q));
    HEED_UNROLL
    for (int k = 0; k < View::kKeys; k++) {
      const bool seen = s(q, k) != ptx::NegInf();
      const float p = ptx::Ex2(s(q, k) * factor - start.m) * start.factor;
      d(q, k) = seen ? p * d(q, k) : 0;  // whatever a hidden value is
      s(q, k) = seen && keep[q] >> k & 1 ? p * f.keep_factor : 0;
    }
  }
}

}  // namespace heed::cuda
