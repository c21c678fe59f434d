// tanh.h: the numbers of the engines' tanh. Not here: the function, which each engine writes over its
// own lanes.
#pragma once

namespace heed {

// tanh(y) = y P(y^2) / Q(y^2) on [-9, 9], minimax in relative error (2.1e-8; with f32 rounding
// 3.1e-7); beyond, it is 1 to the last bit of a float. In relative and not in absolute error, so
// that small scores keep their digits. 1 - 2 / (e^2y + 1) costs as much and loses them; E / (E + 2)
// with E = expm1(2y) keeps them and costs a third more.
struct TanhQuotient {
  static constexpr float kLimit = 9.f;
  static constexpr float p0 = 9.999999794e-01f, p1 = 1.338102526e-01f, p2 = 3.495587707e-03f,
                         p3 = 2.060907613e-05f, p4 = 1.335465387e-08f;
  static constexpr float q1 = 4.671434085e-01f, q2 = 2.587698053e-02f, q3 = 3.285634166e-04f,
                         q4 = 7.776555001e-07f;  // q0 = 1
};

}  // namespace heed
