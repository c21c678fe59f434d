// backward.cpp: gradients, by automatic derivative of the definition: no formula of theirs is
// written here. Reads neither o nor lse, which follow from q, k and v. Not here: the row (row.h),
// the chain rule (tape.h).
#include <algorithm>
#include <utility>

#include "reference/passes.h"
#include "reference/row.h"

namespace heed::reference {
namespace {

// Gradients that several entries of the batch may share, in float64 until all have added theirs.
struct SharedGradients {
  std::vector<double> bias, sinks;
};

// A matrix and its gradient.
struct Input {
  Matrix value, gradient;
  explicit Input(Matrix m) : value(std::move(m)), gradient(value.rows, value.cols) {}
  Vector operator[](std::int64_t row) { return {value[row], gradient[row]}; }
};

// What a row is made of, as numbers whose derivative is wanted.
struct Variables {
  const Entry& entry;
  Tape& tape;
  Input &q, &k;
  SharedGradients& shared;
  std::int64_t h, i;

  Var Product(std::int64_t j) { return tape.Dot(q[i], k[j], q.value.cols); }
  Var Bias(std::int64_t j) {
    const Problem& p = entry.problem;
    const double value = Load(p.bias_dtype, entry.buffers.bias, IndexOf(p.bias, entry.b, h, i, j));
    if (!p.want_dbias) return value;
    return tape.Input(value, &shared.bias[PackedIndexOf(p.bias, entry.b, h, i, j)]);
  }
  Var Sink() {
    if (!entry.problem.sinks) return -kInfinity;
    return tape.Input(entry.buffers.sinks[h], &shared.sinks[h]);
  }
};

// Adds the gradients of sum(o * dout) + sum(lse * dlse), the part of it that is row i of head h.
void DifferentiateRow(Variables& variables, Input& v, const double* dout) {
  const Entry& entry = variables.entry;
  const Problem& p = entry.problem;
  const std::int64_t h = variables.h, i = variables.i;
  const Row<Var> row = AttendRow<Var>(entry, h, i, variables);
  Var loss = 0;
  for (std::size_t n = 0; n < row.keys.size(); n++) {
    if (!row.keep[n]) continue;
    const Var weight = row.p[n] / (1 - p.dropout_p);
    loss = loss + weight * variables.tape.Dot(v[row.keys[n]], {dout, nullptr}, p.dim_v);
  }
  if (p.dlse) loss = loss + row.lse * Var(entry.buffers.dlse[entry.LseAt(h, i)]);
  variables.tape.AddGradientsOf(loss);
}

void WriteKeyGradients(const Entry& entry, std::int64_t hk, const Input& k, const Input& v) {
  const Problem& p = entry.problem;
  const DType dtype = p.f32_grads ? DType::kF32 : p.dtype;
  const Output dk = {entry.buffers.dk, dtype, p.dk_strides};
  const Output dv = {entry.buffers.dv, dtype, p.dv_strides};
  const std::vector<double> zero(std::max(p.dim, p.dim_v));
  for (std::int64_t j = 0; j < entry.rows_k; j++) {
    const Place at = entry.KeyAt(j);
    const bool exists = j < entry.sk();
    dk.WriteRow(at, hk, p.dim, exists ? k.gradient[j] : zero.data(), p.accumulate);
    dv.WriteRow(at, hk, p.dim_v, exists ? v.gradient[j] : zero.data(), p.accumulate);
  }
}

// One kv head and the query heads that read it.
void DifferentiateGroup(const Entry& entry, std::int64_t hk, SharedGradients& shared) {
  const Problem& p = entry.problem;
  const Buffers& buffers = entry.buffers;
  const Tensor dout = {buffers.dout, p.dtype, p.dout_strides};
  const Output dq = {buffers.dq, p.f32_grads ? DType::kF32 : p.dtype, p.dq_strides};
  const std::int64_t group = p.q_heads / p.k_heads;
  Input k(ReadKeys(entry, hk)), v(ReadValues(entry, hk));
  std::vector<double> dout_row(p.dim_v);
  Tape tape;
  for (std::int64_t h = hk * group; h < (hk + 1) * group; h++) {
    Input q(ReadQueries(entry, h));
    for (std::int64_t i = 0; i < entry.sq(); i++) {
      dout.ReadRow(entry.QueryAt(i), h, p.dim_v, dout_row.data());
      Variables variables{entry, tape, q, k, shared, h, i};
      DifferentiateRow(variables, v, dout_row.data());
      dq.WriteRow(entry.QueryAt(i), h, p.dim, q.gradient[i], p.accumulate);
    }
  }
  WriteKeyGradients(entry, hk, k, v);
}

}  // namespace

void BackwardPass(const Problem& p, const Buffers& buffers) {
  SharedGradients shared;
  if (p.want_dbias) {
    shared.bias.resize(p.bias.batch * p.bias.heads * p.bias.rows * p.bias.cols);
  }
  if (p.sinks) shared.sinks.resize(p.q_heads);
  // Without a row there is nothing to do, of however many sequences and heads.
  const bool rows = p.ragged ? p.total_q + p.total_k > 0 : p.q_len + p.k_len > 0;
  for (std::int64_t b = 0; rows && b < p.batch; b++) {
    const Entry entry(p, buffers, b);
    for (std::int64_t hk = 0; hk < p.k_heads; hk++) DifferentiateGroup(entry, hk, shared);
  }
  const std::int64_t biases = shared.bias.size(), sinks = shared.sinks.size();
  if (p.want_dbias) {
    const Output dbias = {buffers.dbias, p.f32_grads ? DType::kF32 : p.bias_dtype, {0, 0, 0}};
    dbias.WriteRow({}, 0, biases, shared.bias.data(), p.accumulate);
  }
  if (p.want_dsinks) {
    const Output dsinks = {buffers.dsinks, DType::kF32, {0, 0, 0}};
    dsinks.WriteRow({}, 0, sinks, shared.sinks.data(), p.accumulate);
  }
}

}  // namespace heed::reference
