// verify/formula.h: the contract's rules of one pair (b, h, i, j): who sees whom, the score terms,
// dropout. Not here: sums over pairs.
#pragma once

#include <cmath>
#include <cstdint>

#include "verify/call.h"

namespace heed::verify {

/// By position alone: window, prefix, chunk.
bool Sees(const Problem& problem, const Sequence& s, std::int64_t i, std::int64_t j);

/// Sees, and neither the mask nor the block map says no.
bool Visible(const Call& call, const Sequence& s, std::int64_t h, std::int64_t i, std::int64_t j);

/// Offset of (b, h, i, j) in a tensor that broadcasts over its axes of size 1.
inline std::int64_t Spread(const View& t, std::int64_t b, std::int64_t h, std::int64_t i,
                           std::int64_t j) {
  const auto at = [&](int axis, std::int64_t x) {
    const auto a = static_cast<std::size_t>(axis);
    return t.shape[a] == 1 ? 0 : x * t.strides[a];
  };
  return at(0, b) + at(1, h) + at(2, i) + at(3, j);
}

inline double Bias(const Call& call, const Sequence& s, std::int64_t h, std::int64_t i,
                   std::int64_t j) {
  return Load(call.bias.data, call.bias.type, Spread(call.bias, s.index, h, i, j));
}

/// slope * |i + shift - j|, as a product of two numbers that Real holds.
template <class Real>
Real AlibiTerm(const Call& call, const Sequence& s, std::int64_t h, std::int64_t i,
               std::int64_t j) {
  const Problem& p = call.problem;
  const std::int64_t row = p.alibi == Alibi::kPerBatchHead ? s.index * p.q_heads : 0;
  const std::int64_t distance = i + s.shift - j;
  return static_cast<Real>(call.buffers.alibi_slopes[row + h]) *
         static_cast<Real>(distance < 0 ? -distance : distance);
}

/// The score's terms one after the other, for bounds and derivatives.
template <class Real>
struct Score {
  Real raw = 0;    ///< scale * q.k
  Real tanh = 0;   ///< of raw / softcap
  Real alibi = 0;  ///< what was taken away
  Real bias = 0;   ///< what was added
  Real s = 0;      ///< the score
};

template <class Real>
Score<Real> ScoreOf(const Call& call, const Sequence& s, std::int64_t h, std::int64_t i,
                    std::int64_t j, Real dot) {
  const Problem& p = call.problem;
  Score<Real> x;
  x.raw = static_cast<Real>(*p.scale) * dot;
  x.s = x.raw;
  if (p.softcap > 0) {
    const Real cap = static_cast<Real>(p.softcap);
    x.tanh = std::tanh(x.raw / cap);
    x.s = cap * x.tanh;
  }
  if (p.alibi != Alibi::kNone) {
    x.alibi = AlibiTerm<Real>(call, s, h, i, j);
    x.s -= x.alibi;
  }
  if (p.bias.given) {
    x.bias = static_cast<Real>(Bias(call, s, h, i, j));
    x.s += x.bias;
  }
  return x;
}

/// Whether dropout keeps the pair: Philox4x32-10 by coordinates.
bool Keep(const Problem& problem, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j);

}  // namespace heed::verify
