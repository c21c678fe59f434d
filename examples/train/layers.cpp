// layers.cpp: see layers.h. Loops run along rows, so that a compiler makes vectors of them.
#include "layers.h"

#include <algorithm>
#include <cmath>

namespace train {
namespace {

// y[row] += x[row] w for `rows` rows; w is (in, out).
void AddProduct(const float* x, const float* w, int rows, int in, int out, float* y) {
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < in; ++i) {
      const float factor = x[r * in + i];
      const float* from = w + i * out;
      float* to = y + r * out;
      for (int o = 0; o < out; ++o) to[o] += factor * from[o];
    }
  }
}

}  // namespace

Floats Multiply(const Floats& x, const Matrix& m) {
  const int rows = static_cast<int>(x.size()) / m.in;
  Floats y(static_cast<std::size_t>(rows * m.out), 0.f);
  AddProduct(x.data(), m.w.data(), rows, m.in, m.out, y.data());
  return y;
}

Floats MultiplyBackward(const Floats& x, const Floats& dy, Matrix* m) {
  const int rows = static_cast<int>(x.size()) / m->in;
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < m->in; ++i) {
      const float factor = x[static_cast<std::size_t>(r * m->in + i)];
      float* to = m->dw.data() + i * m->out;
      const float* from = dy.data() + r * m->out;
      for (int o = 0; o < m->out; ++o) to[o] += factor * from[o];
    }
  }
  Floats transposed(m->w.size()), dx(x.size(), 0.f);
  for (int i = 0; i < m->in; ++i) {
    for (int o = 0; o < m->out; ++o) {
      transposed[static_cast<std::size_t>(o * m->in + i)] = m->w[static_cast<std::size_t>(i * m->out + o)];
    }
  }
  AddProduct(dy.data(), transposed.data(), rows, m->out, m->in, dx.data());
  return dx;
}

Floats Normalise(const Floats& x, int width, Floats* rms) {
  Floats y(x.size());
  rms->clear();
  for (std::size_t row = 0; row < x.size(); row += static_cast<std::size_t>(width)) {
    double sum = 0;
    for (int i = 0; i < width; ++i) sum += static_cast<double>(x[row + i]) * x[row + i];
    rms->push_back(static_cast<float>(std::sqrt(sum / width + 1e-5)));
    for (int i = 0; i < width; ++i) y[row + i] = x[row + i] / rms->back();
  }
  return y;
}

Floats NormaliseBackward(const Floats& y, const Floats& rms, const Floats& dy, int width) {
  Floats dx(y.size());
  for (std::size_t r = 0; r < rms.size(); ++r) {
    const std::size_t row = r * static_cast<std::size_t>(width);
    double along = 0;  // y has length sqrt(width), so what dy has along it changes nothing
    for (int i = 0; i < width; ++i) along += static_cast<double>(dy[row + i]) * y[row + i];
    const float mean = static_cast<float>(along / width);
    for (int i = 0; i < width; ++i) dx[row + i] = (dy[row + i] - mean * y[row + i]) / rms[r];
  }
  return dx;
}

Floats Silu(const Floats& x) {
  Floats y(x.size());
  for (std::size_t n = 0; n < x.size(); ++n) y[n] = x[n] / (1 + std::exp(-x[n]));
  return y;
}

Floats SiluBackward(const Floats& x, const Floats& dy) {
  Floats dx(x.size());
  for (std::size_t n = 0; n < x.size(); ++n) {
    const float s = 1 / (1 + std::exp(-x[n]));
    dx[n] = dy[n] * s * (1 + x[n] * (1 - s));
  }
  return dx;
}

double CrossEntropy(const std::vector<int>& targets, int classes, Floats* logits) {
  const float share = 1 / static_cast<float>(targets.size());
  double loss = 0;
  for (std::size_t r = 0; r < targets.size(); ++r) {
    float* row = logits->data() + r * static_cast<std::size_t>(classes);
    const float most = *std::max_element(row, row + classes);
    double sum = 0;
    for (int c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(row[c] - most));
    loss += std::log(sum) - static_cast<double>(row[targets[r]] - most);
    for (int c = 0; c < classes; ++c) {
      row[c] = share * static_cast<float>(std::exp(static_cast<double>(row[c] - most)) / sum);
    }
    row[targets[r]] -= share;
  }
  return loss / static_cast<double>(targets.size());
}

void Add(const Floats& x, Floats* sum) {
  for (std::size_t n = 0; n < x.size(); ++n) (*sum)[n] += x[n];
}

}  // namespace train
