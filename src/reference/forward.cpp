// forward.cpp: o, lse and the probabilities, row by row, in float64. Not here: the row itself
// (row.h).
#include <algorithm>
#include <cmath>
#include <limits>

#include "reference/passes.h"
#include "reference/row.h"

namespace heed::reference {
namespace {

// What a row is made of, as plain numbers.
struct Numbers {
  const Entry& entry;
  const Matrix &q, &k;
  std::int64_t h, i;

  double Product(std::int64_t j) const { return Dot(q[i], k[j], q.cols); }
  double Bias(std::int64_t j) const {
    const Problem& p = entry.problem;
    return Load(p.bias_dtype, entry.buffers.bias, IndexOf(p.bias, entry.b, h, i, j));
  }
  double Sink() const { return entry.problem.sinks ? entry.buffers.sinks[h] : -kInfinity; }
};

// A finite lse stays finite: below the lowest float it would say that the row saw nothing.
float ToLse(double lse) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return static_cast<float>(std::isfinite(lse) ? std::clamp(lse, -kMax, kMax) : lse);
}

void WriteProbabilities(const Entry& entry, std::int64_t h, std::int64_t i,
                        const Row<double>& row) {
  const Problem& p = entry.problem;
  const std::int64_t first = ((entry.b * p.q_heads + h) * p.q_len + i) * p.k_len;
  for (std::size_t n = 0; n < row.keys.size(); n++) {
    Store(*p.out_dtype, entry.buffers.probs, first + row.keys[n],
          row.keep[n] ? row.p[n] : -row.p[n]);
  }
}

void WriteHead(const Entry& entry, std::int64_t h, const Matrix& k, const Matrix& v) {
  const Problem& p = entry.problem;
  const Buffers& buffers = entry.buffers;
  const Output out = {buffers.o, *p.out_dtype, p.o_strides};
  const Matrix q = ReadQueries(entry, h);
  for (std::int64_t i = 0; i < entry.sq(); i++) {
    Numbers numbers{entry, q, k, h, i};
    const Row<double> row = AttendRow<double>(entry, h, i, numbers);
    std::vector<double> o(p.dim_v);
    for (std::size_t n = 0; n < row.keys.size(); n++) {
      if (!row.keep[n]) continue;
      const double weight = row.p[n] / (1 - p.dropout_p);
      const double* value = v[row.keys[n]];
      for (std::size_t d = 0; d < o.size(); d++) o[d] += weight * value[d];
    }
    out.WriteRow(entry.QueryAt(i), h, p.dim_v, o.data());
    if (p.want_lse) buffers.lse[entry.LseAt(h, i)] = ToLse(row.lse);
    if (p.want_probs) WriteProbabilities(entry, h, i, row);
  }
}

}  // namespace

void ForwardPass(const Problem& p, const Buffers& buffers) {
  if (p.cache.given) AppendToCache(p, buffers);
  if (p.want_probs) {
    const std::int64_t pairs = p.batch * p.q_heads * p.q_len * p.k_len;
    for (std::int64_t n = 0; n < pairs; n++) Store(*p.out_dtype, buffers.probs, n, 0);
  }
  if ((p.ragged ? p.total_q : p.q_len) == 0) return;  // of however many sequences and heads
  const std::int64_t group = p.q_heads / p.k_heads;
  for (std::int64_t b = 0; b < p.batch; b++) {
    const Entry entry(p, buffers, b);
    for (std::int64_t hk = 0; hk < p.k_heads; hk++) {
      const Matrix k = ReadKeys(entry, hk), v = ReadValues(entry, hk);
      for (std::int64_t h = hk * group; h < (hk + 1) * group; h++) WriteHead(entry, h, k, v);
    }
  }
}

}  // namespace heed::reference
