// layers.h: what a transformer block has besides attention, forward and backward by hand, over rows of
// floats. Not here: which of them there are and in which order (model.h).
#pragma once

#include <vector>

namespace train {

using Floats = std::vector<float>;

// A matrix (in, out) that rows are multiplied with, its gradient, and its velocity.
struct Matrix {
  int in = 0, out = 0;
  Floats w, dw, velocity;
};

// y = x W for every row of x.
Floats Multiply(const Floats& x, const Matrix& m);
// dW += x^T dy; returns dx = dy W^T.
Floats MultiplyBackward(const Floats& x, const Floats& dy, Matrix* m);

// Every row over its root mean square. `rms` keeps those for the backward.
Floats Normalise(const Floats& x, int width, Floats* rms);
// dx from dy and what Normalise gave.
Floats NormaliseBackward(const Floats& y, const Floats& rms, const Floats& dy, int width);

// x sigmoid(x): smooth, so that runs that differ by rounding stay near each other.
Floats Silu(const Floats& x);
Floats SiluBackward(const Floats& x, const Floats& dy);

// Mean of -log softmax(logits)[target] over the rows; logits become the loss's gradient.
double CrossEntropy(const std::vector<int>& targets, int classes, Floats* logits);

void Add(const Floats& x, Floats* sum);

}  // namespace train
