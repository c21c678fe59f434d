// verify/row_bound.cpp: see row_bound.h; the derivation, step by step, is in docs/numerics.md.
#include "verify/row_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "verify/formula.h"

namespace heed::verify {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// A stale maximum lets p grow to 2^60 before the row is rescaled: ln of that.
constexpr double kStale = 60 * 0.6931471805599453;
// exp(kSurely) is far above any weight, and finite.
constexpr double kSurely = 200;

// How often the running maximum grows, read from either end: how often an engine may rescale.
std::int64_t Records(const std::vector<KeyBound>& keys) {
  const auto count = [](auto first, auto last) {
    std::int64_t n = 0;
    double m = -kInfinity;
    for (; first != last; ++first) {
      if (first->s <= m) continue;
      m = first->s;
      ++n;
    }
    return n;
  };
  return std::max(count(keys.begin(), keys.end()), count(keys.rbegin(), keys.rend()));
}

// p e^error, finite.
double Raised(double p, double error) {
  return p == 0 ? 0 : std::exp(std::min(std::log(p) + error, kSurely));
}

}  // namespace

Arithmetic Arithmetic::Of(DType tensors) {
  const double u = UnitRoundoff(tensors == DType::kF64 ? DType::kF64 : DType::kF32);
  switch (tensors) {
    case DType::kF64:
      return {u, 4 * u, 4 * u, 0x1p-1074, 0x1p-1022};
    case DType::kF32:
      return {u, 1.1e-7 + 4 * u, 3.1e-7 + 4 * u, 0x1p-149, 0x1p-125};
    default:  // native bf16 dots flush subnormals; a polynomial one degree lower serves 16-bit p
      return {u, 2.8e-6 + 4 * u, 3.1e-7 + 4 * u, 0x1p-126, 0x1p-125, UnitRoundoff(tensors)};
  }
}

void RowBound::Scores(const Sequence& s, std::int64_t h, std::int64_t i) {
  const Problem& p = call_.problem;
  const std::int64_t hk = h / call_.group();
  const std::int64_t q_at = ((s.q_first + i) * p.q_heads + h) * p.dim;
  const double* q = call_.q.values.data() + q_at;
  const double* q_size = call_.q_size.given() ? call_.q_size.values.data() + q_at : q;
  const double scale = std::fabs(*p.scale);
  // Roundings on the way of one product: D of the sum, and of scale, log2(e), their product, and q
  // times it; rotated entries carry three roundings each.
  const double roundings = static_cast<double>(p.dim) + 4 + (call_.q_size.given() ? 6 : 0);
  const double largest = LargestFinite(p.dtype == DType::kF64 ? DType::kF64 : DType::kF32) / 4;

  keys.clear();
  not_finite = overflow = false;
  for (std::int64_t j = 0; j < s.sk; ++j) {
    if (!Visible(call_, s, h, i, j)) continue;
    const std::int64_t k_at = ((s.k_first + j) * p.k_heads + hk) * p.dim;
    const double* k = call_.k.values.data() + k_at;
    const double* k_size = call_.k_size.given() ? call_.k_size.values.data() + k_at : k;
    double dot = 0, size = 0, entries = 0, largest_q = 0;
    for (std::int64_t d = 0; d < p.dim; ++d) {
      dot += q[d] * k[d];
      if (!std::isfinite(q[d]) || !std::isfinite(k[d])) continue;
      size += std::fabs(q_size[d] * k_size[d]);
      entries += 1 + std::fabs(q[d]) + std::fabs(k[d]);
      largest_q = std::max(largest_q, std::fabs(q[d]));
    }
    const Score<double> x = ScoreOf<double>(call_, s, h, i, j, dot);
    not_finite = not_finite || !(x.s < kInfinity);
    overflow =
        overflow || size * std::max(1.0, 2 * scale) > largest || largest_q * 2 * scale > largest;
    if (!std::isfinite(x.s)) continue;

    KeyBound key{.j = j, .s = x.s, .tanh = x.tanh};
    key.keep = p.dropout_p <= 0 || Keep(p, s.index, h, i, j);
    key.raw_error = roundings * a_.u * scale * size + (1 + scale) * a_.flush * entries;
    key.error = key.raw_error;
    if (p.softcap > 0) {
      // The slope of tanh is 1 - tanh^2, largest at the end of the interval that is nearer to 0.
      const double inner = std::max(0.0, (std::fabs(x.raw) - key.raw_error) / p.softcap);
      const double slope = 1 - std::tanh(inner) * std::tanh(inner);
      key.error = std::min(key.raw_error * slope, 2 * p.softcap) +
                  a_.tanh_error * p.softcap * std::fabs(x.tanh);
    }
    key.error += a_.u * (3 * std::fabs(x.alibi) + 2 * std::fabs(x.bias) + 4 * std::fabs(x.s));
    keys.push_back(key);
  }
}

// Adds what taking the maximum away, exp2 and rescaling cost, and settles the sums.
void RowBound::ScoreErrors(double sink) {
  const double n = static_cast<double>(keys.size());
  // The first maximum rescales nothing. Nobody splits short rows; long ones may be merged from
  // parts, twice over.
  constexpr std::size_t kShort = 64;
  const double merges = keys.size() > kShort ? 2 : 0;
  const double rescales =
      keys.empty() ? 0 : static_cast<double>(Records(keys)) - (sink > -kInfinity ? 0 : 1) + merges;
  const double exp2_error = (1 + rescales) * a_.exp2_error;
  double largest = std::isfinite(sink) ? std::fabs(sink) : 0;
  for (const KeyBound& key : keys) largest = std::max(largest, std::fabs(key.s));
  for (KeyBound& key : keys) {
    const double exponent = std::min(std::fabs(key.s) + largest, kStale + max_score - key.s);
    key.error += 2 * a_.u * exponent + exp2_error;
    if (max_score <= kLowestScore) key.error = a_.exp2_error;
  }
  sink_error = sink > -kInfinity ? 8 * a_.u * std::fabs(sink) + exp2_error : 0;
  sum_error = (n + rescales + 1) * a_.u;

  double sum = std::exp(sink - max_score), raised = 0;
  for (const KeyBound& key : keys) sum += std::exp(key.s - max_score);
  for (KeyBound& key : keys) {
    key.p = std::exp(key.s - max_score) / sum;
    raised += Raised(key.p, key.error);
  }
  p_sink = std::exp(sink - max_score) / sum;
  raised += Raised(p_sink, sink_error);
  lse = max_score + std::log(sum);
  normaliser = std::max(0.0, std::log(raised)) + sum_error + n * a_.tiny;
  // lse = m ln2 + ln(l): its roundings, and one to f32 whatever the tensors are.
  const double log_l = keys.size() == 1 && !(sink > -kInfinity) ? 0 : 1 + std::log(n + 1);
  lse_bound = normaliser + 4 * a_.u * (std::fabs(lse) + std::min(largest + log_l, kStale + log_l)) +
              UnitRoundoff(DType::kF32) * std::fabs(lse);
  if (lse < kLowestScore) lse_bound = kLowestScore - lse;
}

void RowBound::Output(const Sequence& s, std::int64_t h) {
  const Problem& p = call_.problem;
  const std::int64_t hk = h / call_.group(), width = p.dim_v;
  const double kept = 1 / (1 - p.dropout_p);
  const auto value = [&](const KeyBound& key) {
    return call_.v.values.data() + ((s.k_first + key.j) * p.k_heads + hk) * width;
  };
  std::vector<double> mass(o.size(), 0), spread(o.size(), 0), widest(o.size(), 0);
  double* const out = o.data();
  for (const KeyBound& key : keys) {
    const double weight = key.keep ? key.p * kept : 0;
    const double* v = value(key);
    for (std::int64_t d = 0; weight != 0 && d < width; ++d) {
      out[d] += weight * v[d];
      mass[static_cast<std::size_t>(d)] += weight * std::fabs(v[d]);
    }
  }
  for (std::size_t d = 0; d < o.size(); ++d) widest[d] = p_sink > 0 ? std::fabs(o[d]) : 0;
  for (const KeyBound& key : keys) {
    const double moved = Raised(key.p, key.error + a_.p_error) - key.p;
    const double* v = value(key);
    for (std::int64_t d = 0; d < width; ++d) {
      const double away = std::fabs((key.keep ? kept * v[d] : 0) - out[d]);
      spread[static_cast<std::size_t>(d)] += moved * away;
      widest[static_cast<std::size_t>(d)] = std::max(widest[static_cast<std::size_t>(d)], away);
    }
  }
  const double sink_moved = Raised(p_sink, sink_error) - p_sink;
  // How much weight can go from some keys to others: sum |p^ - p|.
  const double all = normaliser + a_.p_error;  // of the sum of rounded p
  const double grown = std::expm1(std::min(all, 1.0));
  const double turned = std::min(2.0, grown * (2 + grown));
  const double n = static_cast<double>(keys.size());
  for (std::size_t d = 0; d < o.size(); ++d) {
    const double shift =
        std::exp(std::min(all, kSurely)) * (spread[d] + sink_moved * std::fabs(o[d]));
    const double moved = std::min(shift, widest[d]);
    o_floor[d] = n * (a_.tiny * widest[d] + 2 * kept * a_.flush);
    // The sum of p v, over weights that moved, and the sum of p that divides it; six roundings more
    // for 1/l, 1/(1-p_drop), their products with the sum, and the result.
    const double whole = mass[d] + (1 + turned) * std::fabs(o[d]) + 2 * moved;
    o_bound[d] = moved + (sum_error + 6 * a_.u) * whole + o_floor[d];
  }
}

void RowBound::Compute(const Sequence& s, std::int64_t h, std::int64_t i) {
  const Problem& p = call_.problem;
  const double sink = p.sinks ? call_.buffers.sinks[h] : -kInfinity;
  o.assign(static_cast<std::size_t>(p.dim_v), 0);
  o_bound = o_floor = o;
  lse_bound = normaliser = sum_error = sink_error = 0;
  Scores(s, h, i);
  if (overflow || not_finite) {
    o_bound.assign(o.size(), overflow ? kInfinity : 0);
    lse_bound = kInfinity;
    return;
  }
  max_score = sink;
  for (const KeyBound& key : keys) max_score = std::max(max_score, key.s);
  lse = sink;
  p_sink = 1;
  if (keys.empty()) {
    // lse = sink, through powers of two: sink log2(e) ln(2), and one rounding to f32.
    if (sink > -kInfinity) {
      lse_bound = (4 * a_.u + UnitRoundoff(DType::kF32)) * std::fabs(sink);
    }
    return;
  }
  ScoreErrors(sink);
  Output(s, h);
}

}  // namespace heed::verify
