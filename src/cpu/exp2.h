// exp2.h: 2^x and log2(x) over lanes. Not here: any other function; log2(e) is folded in once, in
// score/terms.h.
#pragma once

#include "cpu/lanes/lanes.h"

namespace heed::cpu::HEED_ISA {

// 2^f on [-1/2, 1/2], minimax in relative error among polynomials with p(0) = 1, so that 2^n is
// exact for every integer n: one key gives o = v exactly, and rescaling by whole powers of two
// loses nothing. Without that constraint the errors are 2.6e-6 and 7.5e-8.
// The errors stated are the polynomial's; with f32 rounding they are 2.9e-6 and 1.7e-7 (scalar,
// which does not fuse: 1.9e-7).
template <int kDegree>
struct Exp2Poly;
template <>
struct Exp2Poly<4> {  // relative error 2.8e-6: below 1/600 of a bf16 ulp, and small beside it in
                      // lse
  static constexpr float c[] = {1.f, 6.931241751e-01f, 2.402409911e-01f, 5.590642616e-02f,
                                9.582852945e-03f};
};
template <>
struct Exp2Poly<5> {  // relative error 1.1e-7: an f32 ulp; degree 6 gains nothing in f32 arithmetic
  static constexpr float c[] = {1.f,
                                6.931470037e-01f,
                                2.402224243e-01f,
                                5.550733581e-02f,
                                9.671512991e-03f,
                                1.326472731e-03f};
};

// x below -149 gives 0 or, where the set cannot (FlushTiny), 2^-126; above 127 at least 2^127; NaN
// gives NaN. -infinity is not for this one: it gives NaN on AVX-512.
template <int kDegree>
HEED_INLINE V Exp2(V x) {
  Exponent e;
  const V f = Exp2Split(x, e);
  V p = Set(Exp2Poly<kDegree>::c[kDegree]);
  HEED_UNROLL for (int i = kDegree - 1; i >= 0; i--) p = Fma(p, f, Set(Exp2Poly<kDegree>::c[i]));
  return Exp2Join(p, e);
}

// The same, and exactly 0 for -infinity.
template <int kDegree>
HEED_INLINE V Exp2OrZero(V x) {
  return FlushTiny(x, Exp2<kDegree>(ClampLow(x)));
}

// log2 of a normal x > 0 to about one ulp of f32: e + 2/ln2 atanh(z), z = (f-1)/(f+1), |z| <= 1/5,
// so that the series ends below 2^-24 after z^11. Exactly 0 for 1; NaN for NaN.
HEED_INLINE V Log2(V x) {
  V e;
  const V f = Log2Split(x, e), one = Set(1.f);
  const V z = Div(Sub(f, one), Add(f, one)), u = Mul(z, z);
  V p = Set(1.f / 11);
  HEED_UNROLL for (int i = 9; i >= 3; i -= 2) p = Fma(p, u, Set(1.f / static_cast<float>(i)));
  return Fma(Mul(Set(2.8853900817779268f), z), Fma(p, u, one), e);
}

}  // namespace heed::cpu::HEED_ISA
