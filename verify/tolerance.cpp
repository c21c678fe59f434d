// verify/tolerance.cpp: see tolerance.h.
#include "verify/tolerance.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "verify/formula.h"
#include "verify/gradient_bound.h"
#include "verify/layout.h"
#include "verify/row_bound.h"

namespace heed::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A non-finite v that exists but is hidden from a row may reach it (0 * NaN): those columns of the
// row are free.
void FreeHiddenColumns(const Call& call, const Sequence& s, std::int64_t h, std::int64_t i,
                       std::vector<double>* bound) {
  const Problem& p = call.problem;
  for (std::int64_t j = 0; j < s.sk; ++j) {
    const double* v =
        call.v.values.data() + ((s.k_first + j) * p.k_heads + h / call.group()) * p.dim_v;
    for (std::size_t d = 0; d < bound->size(); ++d) {
      if (!std::isfinite(v[d]) && !Visible(call, s, h, i, j)) (*bound)[d] = kInfinity;
    }
  }
}

// Bounds from the data, and what of o's is due to underflow.
struct Derived {
  Results bounds;
  Array o_floor;
};

void Put(const RowBound& row, const Call& call, const Sequence& s, std::int64_t h, std::int64_t i,
         Derived* out) {
  Results* r = &out->bounds;
  const Problem& p = call.problem;
  const std::int64_t o_at = ((s.q_first + i) * p.q_heads + h) * p.dim_v;
  std::copy(row.o_bound.begin(), row.o_bound.end(), r->o.values.begin() + o_at);
  std::copy(row.o_floor.begin(), row.o_floor.end(), out->o_floor.values.begin() + o_at);
  r->lse[call.LseIndex(s, h, i)] = row.lse_bound;
  if (!p.want_probs) return;
  const std::int64_t p_at = ((s.index * p.q_heads + h) * p.q_len + i) * p.k_len;
  for (std::int64_t j = 0; j < s.sk; ++j) r->probs[p_at + j] = row.overflow ? kInfinity : 0;
  for (const KeyBound& key : row.keys) {
    r->probs[p_at + key.j] =
        std::min(1.0, key.p * std::expm1(std::min(200.0, key.error + row.lse_bound))) + 1e-37;
  }
}

// Rows of a cache keep their bits, but for new rows that were rotated: those are right to one
// rounding of the dtype.
void CacheBounds(const Call& call, Results* r) {
  r->k_cache = call.k_cache_rotated;
  for (std::int64_t n = 0; n < r->k_cache.size(); ++n) {
    const double size = call.k_cache_rotated[n];
    if (size == 0) continue;
    r->k_cache[n] = 4 * UnitRoundoff(DType::kF32) * size +
                    0.5 * Ulp(call.problem.dtype, 1.01 * call.k_cache[n]);
  }
  r->v_cache = Zeros(call.v_cache.shape);
}

Derived Derive(const Call& call, bool gradients, const Arithmetic& arithmetic) {
  const Problem& p = call.problem;
  Derived derived;
  Results& r = derived.bounds;
  r.o = Zeros(ViewOf(p, Role::kO).shape);
  derived.o_floor = r.o;
  r.lse = Zeros(ViewOf(p, Role::kLse).shape);
  if (p.want_probs) r.probs = Zeros(ViewOf(p, Role::kProbs).shape);
  if (p.cache.given) CacheBounds(call, &r);
  gradients = gradients && p.op == Op::kBackward;
  std::optional<GradientBound> backward;
  if (gradients) backward.emplace(call, arithmetic);
  const bool finite_v = std::all_of(call.v.values.begin(), call.v.values.end(),
                                    [](double x) { return std::isfinite(x); });
  RowBound row(call, arithmetic);
  for (const Sequence& s : call.sequences) {
    for (std::int64_t h = 0; h < p.q_heads; ++h) {
      for (std::int64_t i = 0; i < s.sq; ++i) {
        row.Compute(s, h, i);
        if (!finite_v) FreeHiddenColumns(call, s, h, i, &row.o_bound);
        Put(row, call, s, h, i, &derived);
        if (gradients) backward->AddRow(s, h, i, row);
      }
    }
  }
  if (gradients) backward->Finish(&r);
  return derived;
}

// What rounding the result, and the expected value if a file holds it in f32, adds.
void AddRounding(const Array& expected, DType type, Array* bound) {
  for (std::int64_t n = 0; n < bound->size(); ++n) {
    if (!std::isfinite(expected[n]) || (*bound)[n] == 0) continue;
    (*bound)[n] +=
        0.5 * Ulp(type, expected[n]) + UnitRoundoff(DType::kF32) * std::fabs(expected[n]);
  }
}

// max|plain - expected| over what is finite in both.
double WorstError(const Array& expected, const Array& plain) {
  double worst = 0;
  for (std::int64_t n = 0; n < expected.size(); ++n) {
    const double error = std::fabs(plain[n] - expected[n]);
    if (std::isfinite(error)) worst = std::max(worst, error);
  }
  return worst;
}

// 2 `worst` + one ulp of `type` at each value.
Array Twice(double worst, const Array& expected, DType type) {
  Array bound = Zeros(expected.shape);
  for (std::int64_t n = 0; n < bound.size(); ++n) {
    bound[n] = std::isfinite(expected[n]) ? 2 * worst + Ulp(type, expected[n]) : 0;
  }
  return bound;
}

// What the data leave open stays open, and what no arithmetic can miss (a row that sees nothing)
// stays exact.
void KeepExtremes(const Array& derived, Array* bound) {
  for (std::int64_t n = 0; n < bound->size(); ++n) {
    if (derived[n] == kInfinity || derived[n] == 0) (*bound)[n] = derived[n];
  }
}

// The larger error of two plain programs, since one tensor has few errors that do not depend on each
// other: those of delta, one a query. And no 16-bit call is asked for more than one in f32 is: where
// sums cancel, as with one key, the plain programs may be exact by luck.
void GradientsFrom16Bit(const Problem& p, const Buffers& buffers, const Call& call,
                        const Results& expected, const Results& plain, Results* r) {
  Arithmetic exact = Arithmetic::Of(p.dtype);
  exact.p_error = 0;
  const Results derived = Derive(call, true, exact).bounds;
  const Results other = Plain(p, buffers, /*round_p=*/false);
  const auto set = [&](Array Results::*tensor, DType type) {
    const Array &want = expected.*tensor, &floor = derived.*tensor;
    if (!want.given() || !floor.given()) return;
    const double worst = std::max(WorstError(want, plain.*tensor), WorstError(want, other.*tensor));
    Array bound = Twice(worst, want, type);
    for (std::int64_t n = 0; n < bound.size(); ++n) bound[n] = std::max(bound[n], floor[n]);
    KeepExtremes(floor, &bound);
    r->*tensor = std::move(bound);
  };
  set(&Results::dq, GradDType(p));
  set(&Results::dk, GradDType(p));
  set(&Results::dv, GradDType(p));
  set(&Results::dbias, p.dtype);
  set(&Results::dsinks, p.dtype);
}

Results From16Bit(const Problem& p, const Buffers& buffers, const Call& call,
                  const Results& expected) {
  Derived derived_bounds = Derive(call, false, Arithmetic::Of(p.dtype));
  Results& r = derived_bounds.bounds;
  const Results plain = Plain(p, buffers);
  const auto set = [](const Array& want, const Array& got, DType type, Array* bound) {
    if (!want.given() || !bound->given()) return;
    const Array derived = *bound;
    *bound = Twice(WorstError(want, got), want, type);
    KeepExtremes(derived, bound);
  };
  // f32 results, too, are sums of what 16-bit values led to (p was rounded): an ulp of the tensors'
  // dtype. On little data the plain program may be exact by luck, as with one key and a sink.
  const Array derived_o = r.o;
  set(expected.o, plain.o, p.dtype, &r.o);
  // Nor is its error, where the result is not rounded to 16 bits, the largest that rounding p once
  // can cause, relative to whichever maximum.
  for (std::int64_t n = 0; n < r.o.size() && OutDType(p) != p.dtype; ++n) {
    r.o[n] = std::max(r.o[n], derived_o[n]);
  }
  for (std::int64_t n = 0; n < r.o.size(); ++n) r.o[n] += derived_bounds.o_floor[n];
  set(expected.probs, plain.probs, p.dtype, &r.probs);
  if (p.op == Op::kBackward) GradientsFrom16Bit(p, buffers, call, expected, plain, &r);
  if (expected.lse.given()) {
    AddRounding(expected.lse, DType::kF32, &r.lse);
    // Rotated rows are rounded to 16 bits before the scores: the plain program's lse shows what
    // that costs.
    if (p.cache.rotary != Rotary::kNone) {
      const double cost = 2 * WorstError(expected.lse, plain.lse);
      for (double& bound : r.lse.values) bound += cost;
    }
  }
  return r;
}

}  // namespace

Results DerivedBounds(const Problem& problem, const Buffers& buffers, bool gradients) {
  return Derive(MakeCall(problem, buffers, std::nullopt), gradients, Arithmetic::Of(problem.dtype))
      .bounds;
}

Results BoundsFor(const Problem& problem, const Buffers& buffers, const Results& expected) {
  const Call call = MakeCall(problem, buffers, std::nullopt);
  if (problem.dtype == DType::kBF16 || problem.dtype == DType::kF16) {
    return From16Bit(problem, buffers, call, expected);
  }
  Results r = Derive(call, true, Arithmetic::Of(problem.dtype)).bounds;
  const auto add = [](const Array& want, DType type, Array* bound) {
    if (want.given() && bound->given()) AddRounding(want, type, bound);
  };
  add(expected.o, OutDType(problem), &r.o);
  add(expected.lse, DType::kF32, &r.lse);
  add(expected.probs, OutDType(problem), &r.probs);
  add(expected.dq, GradDType(problem), &r.dq);
  add(expected.dk, GradDType(problem), &r.dk);
  add(expected.dv, GradDType(problem), &r.dv);
  add(expected.dbias, ViewOf(problem, Role::kDbias).type, &r.dbias);
  add(expected.dsinks, DType::kF32, &r.dsinks);
  return r;
}

}  // namespace heed::verify
