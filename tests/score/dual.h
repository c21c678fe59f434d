// dual.h: numbers a + b eps with eps^2 = 0, and their lanes: the derivative of Modify by
// definition. Not here: tests.
#pragma once

#include <cmath>

namespace heed {

struct Dual {
  double value = 0;
  double slope = 0;
};

struct DualLanes {
  using Real = Dual;
  using Scalar = double;
  static Dual Const(double x) { return {x, 0}; }
  static Dual Add(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }
  static Dual Mul(Dual a, Dual b) {
    return {a.value * b.value, a.slope * b.value + a.value * b.slope};
  }
  static Dual NegMulAdd(Dual a, Dual b, Dual c) {
    const Dual ab = Mul(a, b);
    return {c.value - ab.value, c.slope - ab.slope};
  }
  static Dual Abs(Dual a) { return a.value < 0 ? Dual{-a.value, -a.slope} : a; }
  // 1 / cosh^2 and not 1 - tanh^2, so that it is another formula than the one under test.
  static Dual Tanh(Dual a) {
    const double c = std::cosh(a.value);
    return {std::tanh(a.value), a.slope / (c * c)};
  }
};

}  // namespace heed
