// tape.h: automatic derivatives in reverse. Arithmetic on Var is written down on a Tape, which then
// walks back through it by the chain rule. Knows the derivative of each elementary operation and
// nothing of attention.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace heed::reference {

class Tape;

// A number, and where the tape has it; a constant is on none.
struct Var {
  double value = 0;
  Tape* tape = nullptr;
  std::int64_t node = -1;

  Var() = default;
  Var(double constant) : value(constant) {}  // NOLINT: implicit on purpose
  Var(double v, Tape* t, std::int64_t n) : value(v), tape(t), node(n) {}
};

// n numbers that somebody else holds, and where their gradient is added up; null for constants.
struct Vector {
  const double* value;
  double* gradient;
};

inline double Dot(const double* a, const double* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t d = 0; d < n; d++) sum += a[d] * b[d];
  return sum;
}

class Tape {
 public:
  // A number by which the derivative is wanted.
  Var Input(double value, double* gradient) {
    const Var x = Record(value, {}, 0, {}, 0);
    inputs_.push_back({x.node, gradient});
    return x;
  }

  // Sum of a[d] * b[d]: the product of two vectors is one operation, for speed.
  Var Dot(Vector a, Vector b, std::int64_t n) {
    const Var x = Record(reference::Dot(a.value, b.value, n), {}, 0, {}, 0);
    dots_.push_back({x.node, a, b, n});
    return x;
  }

  // A number whose derivative by a is da, by b is db.
  Var Record(double value, const Var& a, double da, const Var& b, double db) {
    nodes_.push_back({a.node, b.node, da, db});
    return {value, this, std::int64_t(nodes_.size()) - 1};
  }

  // Adds the gradient of y to that of every input and vector, and forgets everything.
  void AddGradientsOf(const Var& y) {
    if (y.tape) Sweep(y);
    nodes_.clear();
    inputs_.clear();
    dots_.clear();
  }

 private:
  struct Operation {
    std::int64_t a, b;  // operands; -1: a constant, or none
    double da, db;
  };
  struct Leaf {
    std::int64_t node;
    double* gradient;
  };
  struct Product {
    std::int64_t node;
    Vector a, b;
    std::int64_t n;
  };

  void Sweep(const Var& y) {
    std::vector<double> dy(nodes_.size());  // of y by each number
    dy[y.node] = 1;
    for (std::int64_t n = y.node; n >= 0; n--) {
      const Operation& x = nodes_[n];
      if (x.a >= 0) dy[x.a] += dy[n] * x.da;
      if (x.b >= 0) dy[x.b] += dy[n] * x.db;
    }
    for (const Leaf& x : inputs_) *x.gradient += dy[x.node];
    for (const Product& x : dots_) {
      AddTimes(dy[x.node], x.b.value, x.n, x.a.gradient);
      AddTimes(dy[x.node], x.a.value, x.n, x.b.gradient);
    }
  }

  static void AddTimes(double factor, const double* x, std::int64_t n, double* sum) {
    if (!sum) return;
    for (std::int64_t d = 0; d < n; d++) sum[d] += factor * x[d];
  }

  std::vector<Operation> nodes_;
  std::vector<Leaf> inputs_;
  std::vector<Product> dots_;
};

// ---------------------------------------------------------------- elementary operations

inline Var Record(double value, const Var& a, double da, const Var& b = {}, double db = 0) {
  Tape* tape = a.tape ? a.tape : b.tape;
  return tape ? tape->Record(value, a, da, b, db) : Var(value);
}

inline Var operator+(const Var& a, const Var& b) { return Record(a.value + b.value, a, 1, b, 1); }
inline Var operator-(const Var& a, const Var& b) { return Record(a.value - b.value, a, 1, b, -1); }
inline Var operator*(const Var& a, const Var& b) {
  return Record(a.value * b.value, a, b.value, b, a.value);
}
inline Var operator/(const Var& a, const Var& b) {
  return Record(a.value / b.value, a, 1 / b.value, b, -a.value / (b.value * b.value));
}
inline Var Abs(const Var& a) { return Record(std::abs(a.value), a, a.value < 0 ? -1 : 1); }
inline Var Exp(const Var& a) { return Record(std::exp(a.value), a, std::exp(a.value)); }
inline Var Log(const Var& a) { return Record(std::log(a.value), a, 1 / a.value); }
inline Var Tanh(const Var& a) {
  const double y = std::tanh(a.value);
  return Record(y, a, (1 - y) * (1 + y));
}

// The same names for plain numbers.
inline double Exp(double a) { return std::exp(a); }
inline double Log(double a) { return std::log(a); }
inline double Value(double a) { return a; }
inline double Value(const Var& a) { return a.value; }

}  // namespace heed::reference
