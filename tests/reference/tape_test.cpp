// tape_test.cpp: the automatic derivative against central differences and against what is known.
#include "reference/tape.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace heed::reference {
namespace {

template <class F>
double ByTape(F f, double x) {
  Tape tape;
  double gradient = 0;
  tape.AddGradientsOf(f(tape.Input(x, &gradient)));
  return gradient;
}

template <class F>
void ExpectDerivative(F f, double x) {
  const double h = 1e-6;
  const double want = (f(Var(x + h)).value - f(Var(x - h)).value) / (2 * h);
  EXPECT_NEAR(ByTape(f, x), want, 1e-8 * (std::abs(want) + 1));
}

TEST(Tape, KnowsEveryOperation) {
  for (const double x : {-2.5, -0.3, 0.7, 3.0}) {
    ExpectDerivative([](const Var& a) { return a + 3; }, x);
    ExpectDerivative([](const Var& a) { return 3 - a; }, x);
    ExpectDerivative([](const Var& a) { return a - 3; }, x);
    ExpectDerivative([](const Var& a) { return a * 4; }, x);
    ExpectDerivative([](const Var& a) { return a / 4; }, x);
    ExpectDerivative([](const Var& a) { return 4 / a; }, x);
    ExpectDerivative([](const Var& a) { return Abs(a); }, x);
    ExpectDerivative([](const Var& a) { return Exp(a); }, x);
    ExpectDerivative([](const Var& a) { return Tanh(a); }, x);
    ExpectDerivative([](const Var& a) { return Log(a * a + 1); }, x);
    ExpectDerivative([](const Var& a) { return Exp(a) * a / (Tanh(a) + 2) - a * a * a; }, x);
  }
}

TEST(Tape, AddsUpWhatIsUsedTwice) {
  EXPECT_EQ(ByTape([](const Var& a) { return a + a; }, 5), 2);
  EXPECT_EQ(ByTape([](const Var& a) { return a * a * a; }, 2), 12);
  EXPECT_EQ(ByTape([](const Var& a) { return a / a; }, 3), 0);
}

TEST(Tape, ConstantsAreNotOnIt) {
  const Var c = Exp(Var(2) * 3) + 1;
  EXPECT_EQ(c.tape, nullptr);
  EXPECT_EQ(c.value, std::exp(6.0) + 1);
  EXPECT_EQ(ByTape([](const Var&) { return Var(7); }, 1), 0);
}

TEST(Tape, DotGivesBothVectorsTheirGradient) {
  const double a[] = {1, 2, 3}, b[] = {4, 5, 6};
  double da[] = {0, 0, 0}, db[] = {100, 100, 100};  // gradients are added to what is there
  Tape tape;
  const Var y = tape.Dot({a, da}, {b, db}, 3);
  EXPECT_EQ(y.value, 32);
  tape.AddGradientsOf(y * y);
  for (int d = 0; d < 3; d++) {
    EXPECT_EQ(da[d], 2 * 32 * b[d]);
    EXPECT_EQ(db[d], 100 + 2 * 32 * a[d]);
  }
}

TEST(Tape, ForgetsWhenRead) {
  Tape tape;
  double dx = 0, dy = 0;
  tape.AddGradientsOf(tape.Input(1, &dx) * 2);
  tape.AddGradientsOf(tape.Input(1, &dy) * 3);
  EXPECT_EQ(dx, 2);
  EXPECT_EQ(dy, 3);
}

// What comes after the result, or does not lead to it, has no part in it.
TEST(Tape, OnlyCountsWhatLeadsToTheResult) {
  Tape tape;
  double dx = 0, dother = 0;
  const Var x = tape.Input(2, &dx), other = tape.Input(3, &dother);
  const Var y = x * x;
  const Var later = y * other;
  EXPECT_EQ(later.value, 12);
  tape.AddGradientsOf(y);
  EXPECT_EQ(dx, 4);
  EXPECT_EQ(dother, 0);
}

// exp(-infinity): its derivative is 0, not NaN.
TEST(Tape, AWeightOfZeroHasNoGradient) {
  EXPECT_EQ(ByTape([](const Var& a) { return Exp(a - 1) * 5; }, -INFINITY), 0);
}

}  // namespace
}  // namespace heed::reference
