// score_lanes.h: the lanes type of the score terms on a GPU: some scores of one row and thread. A
// term that is off costs one branch for all of them. Not here: any term (score/terms.h), loads.
#pragma once

#include "cuda/ptx/ptx.h"
#include "score/tanh.h"
#include "score/terms.h"

namespace heed::cuda {

template <int kCount>
struct Numbers {
  float of[kCount];
};

template <int kCount>
struct ThreadLanes {
  using Real = Numbers<kCount>;
  using Scalar = float;

  template <class Op>
  HEED_DEVICE static Real Each(const Op& op) {
    Real out;
    HEED_UNROLL
    for (int n = 0; n < kCount; n++) out.of[n] = op(n);
    return out;
  }

  HEED_DEVICE static Real Const(float x) {
    return Each([&](int) { return x; });
  }
  HEED_DEVICE static Real Add(const Real& a, const Real& b) {
    return Each([&](int n) { return a.of[n] + b.of[n]; });
  }
  HEED_DEVICE static Real Mul(const Real& a, const Real& b) {
    return Each([&](int n) { return a.of[n] * b.of[n]; });
  }
  HEED_DEVICE static Real NegMulAdd(const Real& a, const Real& b, const Real& c) {
    return Each([&](int n) { return c.of[n] - a.of[n] * b.of[n]; });
  }
  HEED_DEVICE static Real Abs(const Real& a) {
    return Each([&](int n) { return ScalarLanes<float>::Abs(a.of[n]); });
  }
  HEED_DEVICE static Real Tanh(const Real& a) {
    return Each([&](int n) { return TanhOf(a.of[n]); });
  }
  HEED_DEVICE static Real ClampFinite(const Real& a, float limit) {
    return Each([&](int n) { return ScalarLanes<float>::ClampFinite(a.of[n], limit); });
  }

 private:
  HEED_DEVICE static float TanhOf(float y) {
    using T = TanhQuotient;
    if (y > T::kLimit) y = T::kLimit;
    if (y < -T::kLimit) y = -T::kLimit;
    const float u = y * y;
    const float p = (((T::p4 * u + T::p3) * u + T::p2) * u + T::p1) * u + T::p0;
    const float q = (((T::q4 * u + T::q3) * u + T::q2) * u + T::q1) * u + 1;
    return y * p / q;
  }
};

// A natural number (a sink, a bias) in powers of two.
HEED_DEVICE float FoldNatural(float x) { return FoldExp2<ScalarLanes<float>>(x); }

}  // namespace heed::cuda
