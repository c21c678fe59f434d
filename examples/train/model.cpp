// model.cpp: see model.h.
#include "model.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace train {
namespace {

Matrix Random(int in, int out, double size, std::uint64_t* state) {
  const auto count = static_cast<std::size_t>(in * out);
  Matrix m{.in = in, .out = out, .w = Floats(count), .dw = Floats(count, 0.f), .velocity = Floats(count, 0.f)};
  for (float& x : m.w) x = static_cast<float>(size * std::sqrt(3.0) * (2 * Uniform(state) - 1));
  return m;
}

void AddRow(const Matrix& from, int row, float* to) {
  for (int i = 0; i < from.out; ++i) to[i] += from.w[static_cast<std::size_t>(row * from.out + i)];
}

void AddToRow(const float* dx, int row, Matrix* to) {
  for (int i = 0; i < to->out; ++i) to->dw[static_cast<std::size_t>(row * to->out + i)] += dx[i];
}

}  // namespace

// What the forward leaves for the backward, a row for every character.
struct Model::Activations {
  Floats norm1, rms1, q, k, v, o, lse;
  Floats norm2, rms2, up, silu;
  Floats norm3, rms3, logits;  // in the end the gradient of the logits
};

Model::Model(const Config& c, Attention attention, std::uint64_t seed)
    : config_(c), attention_(std::move(attention)) {
  const int width = c.width(), kv = c.kv_heads * c.head_dim;
  const double size = 1 / std::sqrt(static_cast<double>(width));
  letters_ = Random(c.letters, width, 0.5, &seed);
  positions_ = Random(c.length, width, 0.5, &seed);
  query_ = Random(width, width, size, &seed);
  key_ = Random(width, kv, size, &seed);
  value_ = Random(width, kv, size, &seed);
  out_ = Random(width, width, size, &seed);
  up_ = Random(width, c.hidden, size, &seed);
  down_ = Random(c.hidden, width, 1 / std::sqrt(static_cast<double>(c.hidden)), &seed);
  unembed_ = Random(width, c.letters, 0.1 * size, &seed);
}

std::vector<Matrix*> Model::Parameters() {
  return {&letters_, &positions_, &query_, &key_, &value_, &out_, &up_, &down_, &unembed_};
}

heed::Result<double> Model::Forward(const Batch& batch, Activations* a) {
  const int width = config_.width();
  const std::size_t rows = batch.inputs.size();
  Floats x(rows * static_cast<std::size_t>(width), 0.f);
  for (std::size_t r = 0; r < rows; ++r) {
    float* row = x.data() + r * static_cast<std::size_t>(width);
    AddRow(letters_, batch.inputs[r], row);
    AddRow(positions_, static_cast<int>(r) % config_.length, row);
  }
  a->norm1 = Normalise(x, width, &a->rms1);
  a->q = Multiply(a->norm1, query_);
  a->k = Multiply(a->norm1, key_);
  a->v = Multiply(a->norm1, value_);
  a->o.resize(a->q.size());
  a->lse.resize(rows * static_cast<std::size_t>(config_.heads));
  // Rows of q are (batch, length, heads, head_dim) as they lie: nothing is moved for heed.
  if (heed::Status s = attention_.Forward(a->q.data(), a->k.data(), a->v.data(), a->o.data(), a->lse.data()); !s) {
    return s;
  }
  Add(Multiply(a->o, out_), &x);
  a->norm2 = Normalise(x, width, &a->rms2);
  a->up = Multiply(a->norm2, up_);
  a->silu = Silu(a->up);
  Add(Multiply(a->silu, down_), &x);
  a->norm3 = Normalise(x, width, &a->rms3);
  a->logits = Multiply(a->norm3, unembed_);
  return CrossEntropy(batch.targets, config_.letters, &a->logits);
}

heed::Status Model::Backward(const Batch& batch, const Activations& a) {
  const int width = config_.width();
  // dx is the gradient of the stream x, which every branch adds to.
  Floats dx = NormaliseBackward(a.norm3, a.rms3, MultiplyBackward(a.norm3, a.logits, &unembed_), width);
  const Floats dup = SiluBackward(a.up, MultiplyBackward(a.silu, dx, &down_));
  Add(NormaliseBackward(a.norm2, a.rms2, MultiplyBackward(a.norm2, dup, &up_), width), &dx);

  const Floats dout = MultiplyBackward(a.o, dx, &out_);
  Floats dq(a.q.size()), dk(a.k.size()), dv(a.v.size());
  const heed::Buffers saved{.q = a.q.data(), .k = a.k.data(), .v = a.v.data(),
                            .o = const_cast<float*>(a.o.data()), .lse = const_cast<float*>(a.lse.data())};
  if (heed::Status s = attention_.Backward(saved, dout.data(), dq.data(), dk.data(), dv.data()); !s) return s;
  Floats dnorm = MultiplyBackward(a.norm1, dq, &query_);
  Add(MultiplyBackward(a.norm1, dk, &key_), &dnorm);
  Add(MultiplyBackward(a.norm1, dv, &value_), &dnorm);
  Add(NormaliseBackward(a.norm1, a.rms1, dnorm, width), &dx);

  for (std::size_t r = 0; r < batch.inputs.size(); ++r) {
    const float* row = dx.data() + r * static_cast<std::size_t>(width);
    AddToRow(row, batch.inputs[r], &letters_);
    AddToRow(row, static_cast<int>(r) % config_.length, &positions_);
  }
  return {};
}

heed::Result<double> Model::Step(const Batch& batch) {
  Activations a;
  const heed::Result<double> loss = Forward(batch, &a);
  if (!loss) return loss;
  if (heed::Status s = Backward(batch, a); !s) return s;
  double square = 0;
  for (const Matrix* m : Parameters()) {
    for (const float g : m->dw) square += static_cast<double>(g) * g;
  }
  const auto cut = static_cast<float>(std::min(1.0, config_.longest / std::sqrt(square + 1e-30)));
  for (Matrix* m : Parameters()) {
    for (std::size_t n = 0; n < m->w.size(); ++n) {
      m->velocity[n] = config_.momentum * m->velocity[n] + cut * m->dw[n];
      m->w[n] -= config_.rate * m->velocity[n];
      m->dw[n] = 0;
    }
  }
  return loss;
}

}  // namespace train
