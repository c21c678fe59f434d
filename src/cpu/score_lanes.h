// score_lanes.h: the lanes type of the score terms: the kKeys scores of one vector of queries at
// once, so that a term that is off costs one branch per kKeys vectors. Not here: any term
// (score/terms.h), loads.
#pragma once

#include "cpu/lanes/lanes.h"
#include "score/tanh.h"
#include "score/terms.h"

namespace heed::cpu::HEED_ISA {

HEED_INLINE V Tanh(V y) {
  using T = TanhQuotient;
  y = Min(Set(T::kLimit), Max(Set(-T::kLimit), y));
  const V u = Mul(y, y);
  V p = Fma(Set(T::p4), u, Set(T::p3)), q = Fma(Set(T::q4), u, Set(T::q3));
  p = Fma(p, u, Set(T::p2)), q = Fma(q, u, Set(T::q2));
  p = Fma(p, u, Set(T::p1)), q = Fma(q, u, Set(T::q1));
  p = Fma(p, u, Set(T::p0)), q = Fma(q, u, Set(1.f));
  return Mul(Mul(y, p), Recip(q));
}

// Finite x brought into [-limit, limit].
HEED_INLINE V ClampFinite(V x, float limit) {
  const M finite = Le(Abs(x), Set(kLargest<float>));
  return Select(finite, Min(Set(limit), Max(Set(-limit), x)), x);
}

// One vector of queries and kKeys keys.
struct Bundle {
  V v[kKeys];
};

struct BundleLanes {
  using Real = Bundle;
  using Scalar = float;

  template <class Op>
  static HEED_INLINE Bundle Each(Op op) {
    Bundle out;
    HEED_UNROLL for (int r = 0; r < kKeys; r++) out.v[r] = op(r);
    return out;
  }
  static HEED_INLINE Bundle Same(V x) {
    return Each([&](int) __attribute__((always_inline)) { return x; });
  }
  static HEED_INLINE Bundle Const(float x) { return Same(Set(x)); }
  static HEED_INLINE Bundle Add(const Bundle& a, const Bundle& b) {
    return Each([&](int r)
                    __attribute__((always_inline)) { return HEED_ISA::Add(a.v[r], b.v[r]); });
  }
  static HEED_INLINE Bundle Mul(const Bundle& a, const Bundle& b) {
    return Each([&](int r)
                    __attribute__((always_inline)) { return HEED_ISA::Mul(a.v[r], b.v[r]); });
  }
  static HEED_INLINE Bundle NegMulAdd(const Bundle& a, const Bundle& b, const Bundle& c) {
    return Each([&](int r) __attribute__((always_inline)) {
      return Sub(c.v[r], HEED_ISA::Mul(a.v[r], b.v[r]));
    });
  }
  static HEED_INLINE Bundle Abs(const Bundle& a) {
    return Each([&](int r) __attribute__((always_inline)) { return HEED_ISA::Abs(a.v[r]); });
  }
  static HEED_INLINE Bundle Tanh(const Bundle& a) {
    return Each([&](int r) __attribute__((always_inline)) { return HEED_ISA::Tanh(a.v[r]); });
  }
  static HEED_INLINE Bundle ClampFinite(const Bundle& a, float limit) {
    return Each([&](int r) __attribute__((always_inline)) {
      return HEED_ISA::ClampFinite(a.v[r], limit);
    });
  }
};

// Scores become powers of two here: floats while Q is packed, pairs behind their product; with terms
// behind the last of them.
struct ScoreFactors {
  float q, product, outer;
  template <class X>
  static HEED_INLINE ScoreFactors Of(const Terms<float>& terms) {
    const Exp2Factors<float> f = FoldExp2(terms);
    return {X::kDot ? 1.f : f.inner, X::kDot ? f.inner : 1.f, f.outer};
  }
};

}  // namespace heed::cpu::HEED_ISA
