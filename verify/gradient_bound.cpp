// verify/gradient_bound.cpp: see gradient_bound.h; the derivation is in docs/numerics.md.
#include "verify/gradient_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "verify/formula.h"
#include "verify/layout.h"

namespace heed::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargeLse = 4096;  // beyond it a row's maximum and sum are used instead of lse
// Roundings of one term outside the sums: scale, 1/(1-p_drop), the two subtractions, the final
// rounding, and spare.
constexpr double kFixed = 10;

}  // namespace

void GradientBound::Sum::Resize(std::int64_t n) {
  error.assign(static_cast<std::size_t>(n), 0);
  mass.assign(static_cast<std::size_t>(n), 0);
}

Array GradientBound::Sum::Bound(std::vector<std::int64_t> shape, const std::vector<double>& terms,
                                double u, double flush, double factor) const {
  Array bound = Zeros(std::move(shape));
  const std::size_t per_term = terms.empty() ? 1 : error.size() / terms.size();
  for (std::size_t n = 0; n < error.size(); ++n) {
    const double roundings = terms[n / per_term] + kFixed;
    bound.values[n] = factor * (error[n] + roundings * u * (mass[n] + error[n]));
    if (bound.values[n] > 0) bound.values[n] += roundings * flush * (1 + factor);
  }
  return bound;
}

GradientBound::GradientBound(const Call& call, const Arithmetic& arithmetic)
    : call_(call), p_(call.problem), a_(arithmetic) {
  dq_ = Zeros(ViewOf(p_, Role::kDq).shape);
  dk_.Resize(call.k.size());
  dv_.Resize(call.v.size());
  key_terms_.assign(static_cast<std::size_t>(call.k_rows * p_.k_heads), 0);
  unknown_.assign(static_cast<std::size_t>(p_.batch * p_.k_heads), false);
  if (p_.want_dbias) {
    dbias_view_ = ViewOf(p_, Role::kDbias);
    dbias_.Resize(CountOf(dbias_view_.shape));
    dbias_terms_.assign(dbias_.error.size(), 0);
  }
  if (p_.want_dsinks) {
    dsinks_.Resize(p_.q_heads);
    dsinks_terms_.assign(dsinks_.error.size(), 0);
  }
}

void GradientBound::AddRow(const Sequence& s, std::int64_t h, std::int64_t i, const RowBound& row) {
  const double u = a_.u;
  const std::int64_t hk = h / call_.group(), q_row = s.q_first + i;
  const double* q = call_.q.values.data() + (q_row * p_.q_heads + h) * p_.dim;
  const double* dout = call_.dout.values.data() + (q_row * p_.q_heads + h) * p_.dim_v;
  const double width = static_cast<double>(p_.dim_v), kept = 1 / (1 - p_.dropout_p);
  const double dlse = p_.dlse ? call_.buffers.dlse[call_.LseIndex(s, h, i)] : 0;

  double delta = 0, delta_error = 0, delta_mass = 0, check = 0, stored = 0;
  for (std::size_t d = 0; d < row.o.size(); ++d) {
    delta += row.o[d] * dout[d];
    delta_error += row.o_bound[d] * std::fabs(dout[d]);
    delta_mass += std::fabs(row.o[d] * dout[d]);
    check += dout[d];
    stored += 0.5 * Ulp(OutDType(p_), row.o[d]) * std::fabs(dout[d]);
  }
  delta_error += (width + 3) * u * delta_mass;
  if (row.overflow || row.not_finite || !std::isfinite(check + delta)) {
    unknown_[static_cast<std::size_t>(s.index * p_.k_heads + hk)] = true;
    return;
  }
  // p comes from the stored lse, or from the row's maximum and sum.
  const double from_lse =
      std::fabs(row.lse) > kLargeLse ? row.normaliser : row.lse_bound + 3 * u * std::fabs(row.lse);

  double* dq = &dq_.values[static_cast<std::size_t>((q_row * p_.q_heads + h) * p_.dim)];
  const double row_roundings = static_cast<double>(row.keys.size()) + kFixed;
  for (const KeyBound& key : row.keys) {
    const std::int64_t key_head = (s.k_first + key.j) * p_.k_heads + hk;
    const double* k = call_.k.values.data() + key_head * p_.dim;
    const double* v = call_.v.values.data() + key_head * p_.dim_v;
    // |error| of p, which cannot leave [0, 1] by more than rounding.
    const double p_error =
        std::min(key.p * std::expm1(std::min(key.error + from_lse, 200.0)), 1.001) + a_.tiny;
    double dp = 0, dp_mass = 0;
    for (std::int64_t d = 0; key.keep && d < p_.dim_v; ++d) {
      dp += kept * dout[d] * v[d];
      dp_mass += std::fabs(kept * dout[d] * v[d]);
    }
    const double g = dp - delta + dlse;
    const double g_error = (width + 3) * u * dp_mass + delta_error +
                           3 * u * (std::fabs(dp) + std::fabs(delta) + std::fabs(dlse));
    double ds = key.p * g;
    double ds_error = p_error * (std::fabs(g) + g_error) + key.p * g_error + 2 * u * std::fabs(ds);
    if (p_.want_dbias) {
      const std::int64_t at = Spread(dbias_view_, s.index, h, i, key.j);
      dbias_.Add(at, ds_error, std::fabs(ds));
      dbias_terms_[static_cast<std::size_t>(at)] += 1;
    }
    if (p_.softcap > 0) {
      const double slope = 1 - key.tanh * key.tanh;
      const double t_error = key.raw_error / p_.softcap + a_.tanh_error * std::fabs(key.tanh);
      const double slope_error = t_error * (2 * std::fabs(key.tanh) + t_error) + 3 * u;
      ds_error = ds_error * (slope + slope_error) + std::fabs(ds) * slope_error;
      ds *= slope;
    }
    const double ds_all = ds_error + row_roundings * u * std::fabs(ds);
    for (std::int64_t d = 0; d < p_.dim; ++d) {
      dq[d] += std::fabs(*p_.scale * k[d]) * ds_all + (k[d] == 0 ? 0 : 2 * a_.flush);
      dk_.Add(key_head * p_.dim + d, ds_error * std::fabs(q[d]), std::fabs(ds * q[d]));
    }
    for (std::int64_t d = 0; key.keep && d < p_.dim_v; ++d) {
      const double size = kept * std::fabs(dout[d]);
      dv_.Add(key_head * p_.dim_v + d, p_error * size, key.p * size);
    }
    key_terms_[static_cast<std::size_t>(key_head)] += 1;
  }
  if (p_.want_dsinks) {
    const double g = dlse - delta, p_error = row.p_sink * std::expm1(row.sink_error + from_lse);
    // Few elements, so that no other program on the same data is a yardstick: with what o loses
    // where it is stored.
    const double g_error = delta_error + stored + 2 * u * (std::fabs(dlse) + std::fabs(delta));
    dsinks_.Add(h, p_error * (std::fabs(g) + g_error) + row.p_sink * g_error,
                row.p_sink * std::fabs(g));
    dsinks_terms_[static_cast<std::size_t>(h)] += 1;
  }
}

void GradientBound::Finish(Results* bounds) {
  const double scale = std::fabs(*p_.scale);
  bounds->dq = dq_;
  bounds->dk = dk_.Bound(ViewOf(p_, Role::kDk).shape, key_terms_, a_.u, a_.flush, scale);
  bounds->dv = dv_.Bound(ViewOf(p_, Role::kDv).shape, key_terms_, a_.u, a_.flush, 1);
  if (p_.want_dbias)
    bounds->dbias = dbias_.Bound(dbias_view_.shape, dbias_terms_, a_.u, a_.flush, 1);
  if (p_.want_dsinks)
    bounds->dsinks = dsinks_.Bound({p_.q_heads}, dsinks_terms_, a_.u, a_.flush, 1);
  bool any = false;
  for (const Sequence& s : call_.sequences) {
    for (std::int64_t hk = 0; hk < p_.k_heads; ++hk) {
      if (!unknown_[static_cast<std::size_t>(s.index * p_.k_heads + hk)]) continue;
      any = true;
      const auto spoil = [&](Array* a, std::int64_t first, std::int64_t rows, std::int64_t heads,
                             std::int64_t head, std::int64_t count, std::int64_t width) {
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t at = ((first + r) * heads + head) * width;
          std::fill_n(a->values.begin() + at, count * width, kInfinity);
        }
      };
      spoil(&bounds->dq, s.q_first, s.sq, p_.q_heads, hk * call_.group(), call_.group(), p_.dim);
      spoil(&bounds->dk, s.k_first, s.sk, p_.k_heads, hk, 1, p_.dim);
      spoil(&bounds->dv, s.k_first, s.sk, p_.k_heads, hk, 1, p_.dim_v);
    }
  }
  if (any && p_.want_dbias)
    std::fill(bounds->dbias.values.begin(), bounds->dbias.values.end(), kInfinity);
  if (any && p_.want_dsinks)
    std::fill(bounds->dsinks.values.begin(), bounds->dsinks.values.end(), kInfinity);
}

}  // namespace heed::verify
