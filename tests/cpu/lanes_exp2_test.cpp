// lanes_exp2_test.cpp: 2^x and log2(x) of every instruction set against double, to the bounds that
// exp2.h states.
#include "lanes_testing.h"

namespace heed::cpu {
namespace {

// x in [low, high] by steps small beside the width of a polynomial's error curve, and odd enough to
// land anywhere in the mantissa.
std::vector<float> Grid(double low, double high, int n) {
  std::vector<float> x;
  for (int i = 0; i <= n; i++) x.push_back(static_cast<float>(low + (high - low) * i / n));
  return x;
}

constexpr double kUlp = 0x1p-23;

class Exp2 : public Lanes {
 protected:
  double WorstError(LaneOp op, const std::vector<float>& x) const {
    const std::vector<float> got = Map(op, x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); i++) {
      const double exact = std::exp2(double{x[i]}), error = std::abs(got[i] - exact) / exact;
      if (!(error <= worst)) worst = error;
    }
    return worst;
  }
};

TEST_P(Exp2, KeepsItsErrorBounds) {
  const std::vector<float> x = Grid(-126, 127, 1000003);
  // The polynomial's own error, to two digits, and what rounding adds: half an ulp by the last
  // step, and, unfused, less than another half by the product and the step before it.
  EXPECT_LE(WorstError(LaneOp::kExp2Of5, x), 1.15e-7 + kUlp);
  EXPECT_LE(WorstError(LaneOp::kExp2OrZeroOf5, x), 1.15e-7 + kUlp);
  EXPECT_LE(WorstError(LaneOp::kExp2Of4, x), 2.85e-6 + kUlp);
  EXPECT_LE(WorstError(LaneOp::kExp2OrZeroOf4, x), 2.85e-6 + kUlp);
}

TEST_P(Exp2, IsExactForIntegers) {
  for (int n = -126; n <= 127; n++)
    for (const LaneOp op :
         {LaneOp::kExp2Of4, LaneOp::kExp2Of5, LaneOp::kExp2OrZeroOf4, LaneOp::kExp2OrZeroOf5})
      EXPECT_EQ(All(op, static_cast<float>(n)), std::ldexp(1.f, n)) << n;
}

TEST_P(Exp2, SaturatesAndKeepsNaN) {
  for (const LaneOp op :
       {LaneOp::kExp2Of4, LaneOp::kExp2Of5, LaneOp::kExp2OrZeroOf4, LaneOp::kExp2OrZeroOf5}) {
    const bool or_zero = op == LaneOp::kExp2OrZeroOf4 || op == LaneOp::kExp2OrZeroOf5;
    for (const float x : {127.f, 127.5f, 128.f, 129.f, 1e4f, 1e10f, 0x1.fffffep127f})
      EXPECT_GE(All(op, x), 0x1p127f) << x;
    for (const float x :
         {-126.5f, -130.f, -149.f, -151.f, -1e3f, -1e6f, -1e30f, -0x1.fffffep127f}) {
      const float got = All(op, x);
      EXPECT_GE(got, 0.f) << x;
      EXPECT_LE(got, 0x1p-126f) << x;
      if (x < -150) {
        EXPECT_TRUE(got == 0 || (!or_zero && got == 0x1p-126f)) << x << ": " << got;
      }
    }
    EXPECT_TRUE(std::isnan(All(op, kNaN)));
    EXPECT_TRUE(std::isnan(All(op, -kNaN)));
  }
  EXPECT_EQ(All(LaneOp::kExp2OrZeroOf4, -kInf), 0.f);
  EXPECT_EQ(All(LaneOp::kExp2OrZeroOf5, -kInf), 0.f);
}

TEST_P(Exp2, NeverFallsWhereXRisesByMuch) {
  // Monotone to within its error: a larger score never gets a visibly smaller probability.
  const std::vector<float> x = Grid(-20, 20, 400003), y = Map(LaneOp::kExp2Of5, x);
  for (std::size_t i = 1; i < x.size(); i++) EXPECT_GE(y[i], y[i - 1] * (1 - 4e-7f)) << x[i];
}

TEST_P(Exp2, SplitsAndJoins) {
  for (const float x : Grid(-126, 126, 20011)) {
    const float f = All(LaneOp::kExp2Split, x), one = All(LaneOp::kExp2Join, x, 1.f);
    EXPECT_LE(std::abs(f), 0.5f) << x;
    EXPECT_EQ(double{f} + std::log2(double{one}), x);  // one is a power of two
    EXPECT_EQ(All(LaneOp::kExp2Join, x, 1.25f), 1.25f * one) << x;
  }
  EXPECT_TRUE(std::isnan(All(LaneOp::kExp2Split, kNaN)));
  for (const float x : {-1000.f, -126.5f, -126.f, 0.f, kInf}) {
    const float kept = All(LaneOp::kFlushTiny, x, 3.f);
    EXPECT_TRUE(kept == 3.f || (x < -126.f && kept == 0.f)) << x << ": " << kept;
  }
}

using Log2 = Lanes;

// Normal x of every exponent.
std::vector<float> Positives() {
  std::vector<float> x;
  for (int e = -126; e <= 127; e++)
    for (int i = 0; i < 3000; i++)
      x.push_back(std::ldexp(1.f + static_cast<float>((i * 2796203LL) & 0x7fffff) * 0x1p-23f, e));
  return x;
}

TEST_P(Log2, IsRightToAboutAnUlp) {
  std::vector<float> x = Positives();
  for (int i = -200000; i <= 200000; i++) x.push_back(1.f + static_cast<float>(i) * 0x1p-20f);
  const std::vector<float> got = Map(LaneOp::kLog2, x);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); i++) {
    const double exact = std::log2(double{x[i]});
    if (x[i] == 1)
      EXPECT_PRED2(Same, got[i], 0.f);
    else
      worst = std::max(worst, std::abs(got[i] - exact) / std::abs(exact));
  }
  EXPECT_LE(worst, 2 * kUlp);
}

TEST_P(Log2, IsExactForPowersOfTwoAndKeepsNaN) {
  for (int e = -126; e <= 127; e++)
    EXPECT_EQ(All(LaneOp::kLog2, std::ldexp(1.f, e)), static_cast<float>(e));
  EXPECT_TRUE(std::isnan(All(LaneOp::kLog2, kNaN)));
  EXPECT_TRUE(std::isnan(All(LaneOp::kLog2, -kNaN)));
}

TEST_P(Log2, SplitsIntoFractionAndExponent) {
  const std::vector<float> x = Positives(), f = Map(LaneOp::kLog2Fraction, x),
                           e = Map(LaneOp::kLog2Exponent, x);
  for (std::size_t i = 0; i < x.size(); i++) {
    ASSERT_GE(f[i], 0.75f) << x[i];
    ASSERT_LT(f[i], 1.5f) << x[i];
    ASSERT_EQ(std::ldexp(double{f[i]}, static_cast<int>(e[i])), x[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, Exp2, ::testing::ValuesIn(UsableLanes()), NameOfLanes);
INSTANTIATE_TEST_SUITE_P(Isa, Log2, ::testing::ValuesIn(UsableLanes()), NameOfLanes);

}  // namespace
}  // namespace heed::cpu
