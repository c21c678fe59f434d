// row.h: attention of one query row, by definition: the scores of the keys it sees, and their
// softmax. Written once, for numbers (float64: forward) and for numbers whose derivative is wanted
// (Var: backward).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "reference/entry.h"
#include "reference/tape.h"
#include "score/philox.h"
#include "score/terms.h"

namespace heed::reference {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The lanes of the score terms: one float64, or one Var.
template <class T>
struct RowLanes : ScalarLanes<double> {};
template <>
struct RowLanes<Var> {
  using Real = Var;
  using Scalar = double;
  static Var Const(double x) { return x; }
  static Var Add(const Var& a, const Var& b) { return a + b; }
  static Var Mul(const Var& a, const Var& b) { return a * b; }
  static Var NegMulAdd(const Var& a, const Var& b, const Var& c) { return c - a * b; }
  static Var Abs(const Var& a) { return reference::Abs(a); }
  static Var Tanh(const Var& a) { return reference::Tanh(a); }
};

inline Terms<double> TermsOf(const Problem& p) {
  return Terms<double>::Of({.scale = *p.scale,
                            .softcap = p.softcap,
                            .alibi = p.alibi != Alibi::kNone,
                            .bias = p.bias.given});
}

// What query i of head h reads: keys in ascending order, their probabilities (before dropout), and
// which of them dropout keeps.
template <class Real>
struct Row {
  std::vector<std::int64_t> keys;
  std::vector<Real> p;
  std::vector<bool> keep;
  Real lse;
};

// p = exp(s - lse) and lse = log(sum of exp(s)), with m, the largest score, taken out of the sum so
// that nothing overflows (it cancels, so it may be a constant). A sink joins the sum and nothing
// else. Every score -infinity and no sink: the row reads nothing.
template <class Real>
void Softmax(const std::vector<Real>& s, const Real& sink, Row<Real>* row) {
  double m = Value(sink);
  bool nothing = m == -kInfinity;
  for (const Real& x : s) {
    m = std::max(m, Value(x));
    nothing = nothing && Value(x) == -kInfinity;
  }
  if (nothing) {
    *row = {};
    row->lse = -kInfinity;
    return;
  }
  std::vector<Real> e;
  Real l = Exp(sink - m);
  for (const Real& x : s) {
    e.push_back(Exp(x - m));
    l = l + e.back();
  }
  for (const Real& x : e) row->p.push_back(x / l);
  row->lse = m + Log(l);
}

// Operands has Product(j) = q.k, Bias(j) (where the problem has a bias) and Sink() (-infinity where
// it has none), all Real.
template <class Real, class Operands>
Row<Real> AttendRow(const Entry& entry, std::int64_t h, std::int64_t i, Operands& operands) {
  using L = RowLanes<Real>;
  const Problem& p = entry.problem;
  const Buffers& buffers = entry.buffers;
  const Terms<double> terms = TermsOf(p);
  const Dropout dropout = DropoutOf(p.seed, p.offset, p.dropout_p);

  Row<Real> row;
  std::vector<Real> s;
  for (std::int64_t j = 0; j < entry.sk(); j++) {
    if (!entry.Visible(h, i, j)) continue;
    At<L> at = {};
    if (terms.alibi)
      at.slope = buffers.alibi_slopes[p.alibi == Alibi::kPerHead ? h : entry.b * p.q_heads + h];
    if (terms.positional()) at.distance = static_cast<double>(i + entry.sees.shift - j);
    if (terms.bias) at.bias = operands.Bias(j);
    row.keys.push_back(j);
    row.keep.push_back(p.dropout_p == 0 || Keep(dropout, entry.b * p.q_heads + h, i, j));
    s.push_back(Modify<L>(terms, operands.Product(j), at));
  }
  Softmax(s, operands.Sink(), &row);
  return row;
}

}  // namespace heed::reference
