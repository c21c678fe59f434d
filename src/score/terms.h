// terms.h: the score terms, once: forward (Modify), gradient (Pull), and the change to powers of
// two (FoldExp2), over abstract lanes. Not here: loads, loops, who sees whom (visibility.h),
// dropout (philox.h), any vector type (its lanes header).
#pragma once

// Everything is inlined into its caller, so that no linker can merge a body compiled for AVX into
// baseline code.
#if defined(__CUDACC__)
#define HEED_LANE_FN __host__ __device__ __forceinline__
#else
#define HEED_LANE_FN [[gnu::always_inline]] inline
#endif

namespace heed {

// The score of query i and key j, in this order (docs/semantics.md):
//
//   s <- scale * (q.k)
//   s <- softcap * tanh(s / softcap)           if softcap > 0
//   s <- s - slope * |i + shift - j|           if ALiBi
//   s <- s + bias                              if bias
//
// A lanes type L says what one operation works on: a scalar, a vector, or a bundle of vectors (a
// bundle makes the branches below cost nothing: one per term and bundle). It has
//
//   Real                          the operand
//   Scalar                        float or double: a number that is the same in every lane
//   Const(Scalar)                 -> Real
//   Add(a, b)  Mul(a, b)          a + b, a * b
//   NegMulAdd(a, b, c)            c - a * b, fused or not
//   Abs(a)  Tanh(a)
//   ClampFinite(a, Scalar limit)  finite a brought into [-limit, limit]; infinities and NaN as they
//   are
//
// all static. Adding a term: a field of TermSet and of Terms, a line in Offset (or in Cap and
// CapRate), a member of At if it needs an operand: docs/adding-a-term.md.

template <class Scalar>
inline constexpr Scalar kLargest = 0;
template <>
inline constexpr float kLargest<float> = __FLT_MAX__;
template <>
inline constexpr double kLargest<double> = __DBL_MAX__;

// What a call asks for.
struct TermSet {
  double scale = 1;
  double softcap = 0;  // 0 = none
  bool alibi = false;
  bool bias = false;
};

// Which terms are on, and their constants: made by Of.
template <class Scalar>
struct Terms {
  Scalar scale;
  Scalar softcap;      // 0 = none
  Scalar inv_softcap;  // 1 / softcap
  Scalar inner;        // the first factor of q.k: scale, with a softcap scale / softcap
  bool alibi;
  bool bias;

  // Whether there is more to a score than its scale.
  HEED_LANE_FN constexpr bool any() const { return softcap > 0 || alibi || bias; }
  // Whether a score is no linear function of q.k, so that the gradient needs CapRate.
  HEED_LANE_FN constexpr bool bends() const { return softcap > 0; }
  // Whether a term reads At::distance.
  HEED_LANE_FN constexpr bool positional() const { return alibi; }

  // Constants that Scalar cannot hold become its largest finite value: 0 * infinity must not turn a
  // score of 0 into NaN.
  HEED_LANE_FN static constexpr Terms Of(const TermSet& set) {
    // tanh(x) is x below |x| = 2^-13 in float and 2^-27 in double: a cap of 2^100 or 2^900 changes
    // no score below 2^87 or 2^873, and scale / softcap may be too small a number to multiply with.
    constexpr double kNoCap = sizeof(Scalar) == 4 ? 0x1p100 : 0x1p900;
    const bool capped = set.softcap > 0 && set.softcap < kNoCap;
    // A tiny cap: q times a factor near the largest number would overflow before it is summed. The
    // tanh is +-1 beyond 9 anyway, so a product that this limit bends is below 2^-60.
    constexpr double kSteep = sizeof(Scalar) == 4 ? 0x1p64 : 0x1p900;
    const double steep = capped ? set.scale / set.softcap : 0;
    const double slope = steep > kSteep ? kSteep : steep < -kSteep ? -kSteep : steep;
    return {.scale = Fit(set.scale),
            .softcap = capped ? Fit(set.softcap) : Scalar(0),
            .inv_softcap = capped ? Fit(1 / set.softcap) : Scalar(0),
            .inner = Fit(capped ? slope : set.scale),
            .alibi = set.alibi,
            .bias = set.bias};
  }

 private:
  HEED_LANE_FN static constexpr Scalar Fit(double x) {
    constexpr double kMax = kLargest<Scalar>;
    return static_cast<Scalar>(x > kMax ? kMax : x < -kMax ? -kMax : x);
  }
};

// Operands that live in memory or follow from the place; the caller fetches them, those of terms
// that are off may hold anything.
template <class L>
struct At {
  typename L::Real slope;     // of the head
  typename L::Real distance;  // i + shift - j, either sign
  typename L::Real bias;
};

// ---------------------------------------------------------------- forward: three steps, and whole

// q.k -> what Cap takes. An engine may pack t.inner into q instead.
template <class L>
HEED_LANE_FN typename L::Real Inner(const Terms<typename L::Scalar>& t, typename L::Real qk) {
  return L::Mul(qk, L::Const(t.inner));
}

template <class L>
HEED_LANE_FN typename L::Real Cap(const Terms<typename L::Scalar>& t, typename L::Real x) {
  return t.bends() ? L::Mul(L::Const(t.softcap), L::Tanh(x)) : x;
}

template <class L>
HEED_LANE_FN typename L::Real Offset(const Terms<typename L::Scalar>& t, typename L::Real s,
                                     const At<L>& at) {
  if (t.alibi) s = L::NegMulAdd(at.slope, L::Abs(at.distance), s);
  if (t.bias) s = L::Add(s, at.bias);
  return s;
}

// q.k -> s.
template <class L>
HEED_LANE_FN typename L::Real Modify(const Terms<typename L::Scalar>& t, typename L::Real qk,
                                     const At<L>& at) {
  return Offset<L>(t, Cap<L>(t, Inner<L>(t, qk)), at);
}

// ---------------------------------------------------------------- gradient

// d(capped score) / d(scale * q.k), from what Cap returned: so the gradient needs no second tanh,
// and never meets a score that a bias or a mask made infinite. Only where t.bends(); else it is 1.
template <class L>
HEED_LANE_FN typename L::Real CapRate(const Terms<typename L::Scalar>& t, typename L::Real capped) {
  const typename L::Real y = L::Mul(capped, L::Const(t.inv_softcap));
  return L::NegMulAdd(y, y, L::Const(1));
}

// ds -> gradient of q.k. (That of the bias is ds itself.) An engine may multiply its sums by
// t.scale instead.
template <class L>
HEED_LANE_FN typename L::Real Pull(const Terms<typename L::Scalar>& t, typename L::Real ds,
                                   typename L::Real qk) {
  if (t.bends()) ds = L::Mul(ds, CapRate<L>(t, Cap<L>(t, Inner<L>(t, qk))));
  return L::Mul(ds, L::Const(t.scale));
}

// ---------------------------------------------------------------- powers of two

// Engines compute p = 2^(x - m) with x = s * log2(e). The factors around the terms, which carry
// log2(e):
//   without terms  x = (q.k) * inner
//   with terms     x = Offset(Cap((q.k) * inner)) * outer
template <class Scalar>
struct Exp2Factors {
  Scalar inner, outer;
};

inline constexpr double kLog2E = 1.44269504088896340736;
inline constexpr double kLn2 = 0.693147180559945309417;

// The only multiplications by log2(e) of the project: of a call's factors, and of numbers in
// natural units (lse, sinks). Times log2(e), a finite number of magnitude up to kLargest / 1.4427
// stays finite: the limit is a little below, which leaves room for the score that is added to a
// bias (-2.3e38 in float: a row of the lowest float, as masks use it, stays a row).
template <class Scalar>
inline constexpr Scalar kFoldLimit = kLargest<Scalar>* Scalar(0.676);

template <class Scalar>
HEED_LANE_FN constexpr Exp2Factors<Scalar> FoldExp2(const Terms<Scalar>& t) {
  if (t.any()) return {t.inner, Scalar(kLog2E)};
  const Scalar inner = t.inner > kFoldLimit<Scalar>    ? kFoldLimit<Scalar>
                       : t.inner < -kFoldLimit<Scalar> ? -kFoldLimit<Scalar>
                                                       : t.inner;
  return {static_cast<Scalar>(inner * kLog2E), 1};
}

template <class L>
HEED_LANE_FN typename L::Real FoldExp2(typename L::Real natural) {
  return L::Mul(L::ClampFinite(natural, kFoldLimit<typename L::Scalar>),
                L::Const(static_cast<typename L::Scalar>(kLog2E)));
}

// A bias that is later multiplied by Exp2Factors::outer, kept from overflowing there.
template <class L>
HEED_LANE_FN typename L::Real FoldableBias(typename L::Real bias) {
  return L::ClampFinite(bias, kFoldLimit<typename L::Scalar>);
}

// ---------------------------------------------------------------- one lane

template <class T>
struct ScalarLanes {
  using Real = T;
  using Scalar = T;
  HEED_LANE_FN static constexpr T Const(T x) { return x; }
  HEED_LANE_FN static constexpr T Add(T a, T b) { return a + b; }
  HEED_LANE_FN static constexpr T Mul(T a, T b) { return a * b; }
  HEED_LANE_FN static constexpr T NegMulAdd(T a, T b, T c) { return c - a * b; }
  HEED_LANE_FN static constexpr T Abs(T a) { return a < 0 ? -a : a; }
  HEED_LANE_FN static T Tanh(T a) {
    if constexpr (sizeof(T) == 4) {
      return __builtin_tanhf(a);
    } else {
      return __builtin_tanh(a);
    }
  }
  HEED_LANE_FN static constexpr T ClampFinite(T a, T limit) {
    if (Abs(a) > kLargest<T>) return a;
    return a > limit ? limit : a < -limit ? -limit : a;
  }
};

}  // namespace heed
