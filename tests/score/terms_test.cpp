// terms_test.cpp: Modify against the contract's formula, float against double, bundles against one
// lane, and FoldExp2.
#include "score/terms.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace heed {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr float kLowest = std::numeric_limits<float>::lowest();
using F32 = ScalarLanes<float>;
using F64 = ScalarLanes<double>;

struct Setting {
  double scale, softcap;
  bool alibi, bias;
};

// Every combination of terms, with caps that bend everything, a little, and nothing.
std::vector<Setting> Settings() {
  std::vector<Setting> all;
  for (const double scale : {0.125, 1.0, -0.3, 0.0, 7.0}) {
    for (const double softcap : {0.0, 1e-3, 0.7, 30.0, 1e4}) {
      for (int terms = 0; terms < 4; terms++) {
        all.push_back({scale, softcap, (terms & 1) != 0, (terms & 2) != 0});
      }
    }
  }
  return all;
}

const double kProducts[] = {0.0, -0.0, 1e-6, -0.04, 0.5, -1.75, 3.0, 40.0, -900.0, 1e6};
const double kDistances[] = {0, 1, -1, 17, -4096};

// The contract, word by word.
double Contract(const Setting& on, double qk, double slope, double distance, double bias) {
  double s = on.scale * qk;
  if (on.softcap > 0) s = on.softcap * std::tanh(s / on.softcap);
  if (on.alibi) s = s - slope * std::abs(distance);
  if (on.bias) s = s + bias;
  return s;
}

TEST(Modify, IsTheContractInDouble) {
  for (const Setting& on : Settings()) {
    const auto t = Terms<double>::Of({on.scale, on.softcap, on.alibi, on.bias});
    for (const double qk : kProducts) {
      for (const double distance : kDistances) {
        const double want = Contract(on, qk, 0.25, distance, -1.5);
        const double got = Modify<F64>(t, qk, {0.25, distance, -1.5});
        const double size = std::abs(on.scale * qk) + 0.25 * std::abs(distance) + 1.5;
        EXPECT_NEAR(got, want, 4e-16 * size);
      }
    }
  }
}

TEST(Modify, FloatIsDoubleUpToItsRounding) {
  for (const Setting& on : Settings()) {
    const auto t = Terms<float>::Of({on.scale, on.softcap, on.alibi, on.bias});
    for (const double product : kProducts) {
      for (const double distance : kDistances) {
        const auto qk = static_cast<float>(product);
        const double want = Contract(on, double{qk}, 0.25, distance, -1.5);
        const float got = Modify<F32>(t, qk, {0.25f, static_cast<float>(distance), -1.5f});
        // Constants, products and sums: each of at most six roundings is half an ulp of one of
        // these.
        const double size = std::abs(on.scale * double{qk}) + 0.25 * std::abs(distance) + 1.5;
        EXPECT_NEAR(double{got}, want, 6 * 0.5 * 1.2e-7 * size);
      }
    }
  }
}

// scale, softcap, ALiBi, bias: any other order gives another number here.
TEST(Modify, KeepsTheOrder) {
  const auto t = Terms<double>::Of({0.5, 2.0, true, true});
  const double s = Modify<F64>(t, 8.0, {0.5, -3.0, 0.25});
  EXPECT_DOUBLE_EQ(s, 2 * std::tanh(2.0) - 1.5 + 0.25);
}

TEST(Modify, DoesNotLookAtOperandsOfTermsThatAreOff) {
  EXPECT_EQ(Modify<F64>(Terms<double>::Of({2, 0, false, false}), 3.0, {kNan, kNan, kNan}), 6.0);
  EXPECT_EQ(Modify<F64>(Terms<double>::Of({2, 0, true, false}), 3.0, {1.0, -1.0, kNan}), 5.0);
  EXPECT_EQ(Modify<F64>(Terms<double>::Of({2, 0, false, true}), 3.0, {kNan, kNan, 1.0}), 7.0);
}

TEST(Modify, PassesInfinityAndNan) {
  const auto t = Terms<double>::Of({1, 5, false, true});
  EXPECT_EQ(Modify<F64>(t, 3.0, {0, 0, -kInf}), -kInf);
  EXPECT_EQ(Modify<F64>(t, kInf, {0, 0, 0}), 5.0);
  EXPECT_TRUE(std::isnan(Modify<F64>(t, kNan, {0, 0, 0})));
}

// 0 * infinity is NaN, so no constant may be infinite.
TEST(Terms, HaveFiniteConstants) {
  for (const double scale : {0.0, 3e38, -3e38, 1e-300}) {
    for (const double softcap : {1.2e-38, 1e-3, 3e38}) {
      const auto t = Terms<float>::Of({scale, softcap, false, false});
      EXPECT_TRUE(std::isfinite(t.inner) && std::isfinite(t.inv_softcap));
      EXPECT_EQ(Modify<F32>(t, 0.0f, {}), 0.0f) << scale << ' ' << softcap;
    }
  }
  const auto t = Terms<double>::Of({1e300, 1e-300, false, false});
  EXPECT_EQ(Modify<F64>(t, 0.0, {}), 0.0);
  EXPECT_EQ(Modify<F64>(t, -1.0, {}), -1e-300);
}

TEST(Terms, ACapThatBendsNothingChangesNothing) {
  const auto t = Terms<float>::Of({0.5, 3e38, false, false});
  for (const double qk : kProducts) {
    EXPECT_EQ(Modify<F32>(t, static_cast<float>(qk), {}), 0.5f * static_cast<float>(qk));
  }
}

TEST(Terms, KnowWhetherThereIsMoreThanAScale) {
  EXPECT_FALSE(Terms<float>::Of({3, 0, false, false}).any());
  EXPECT_TRUE(Terms<float>::Of({3, 1, false, false}).any());
  EXPECT_TRUE(Terms<float>::Of({3, 0, true, false}).any());
  EXPECT_TRUE(Terms<float>::Of({3, 0, false, true}).any());
}

// The gradient asks for CapRate where a score bends: where its slope in q.k is not the same everywhere.
TEST(Terms, KnowWhetherTheScoreBends) {
  for (const Setting& on : Settings()) {
    const auto t = Terms<double>::Of({on.scale, on.softcap, on.alibi, on.bias});
    EXPECT_EQ(t.bends(), on.softcap > 0);
    EXPECT_TRUE(t.any() || !t.bends());
    const auto score = [&](double qk) { return Modify<F64>(t, qk, {0.25, -9, 1.5}); };
    // As far from 0 as the cap bends it; nothing bends a score that is always 0.
    const double far = on.scale == 0 ? 1 : (on.softcap > 0 ? on.softcap : 1) / std::abs(on.scale);
    const double near = score(far / 64) - score(0), whole = score(far) - score(0);
    const double size = std::abs(whole) + std::abs(score(0));
    if (t.bends() && on.scale != 0) {
      EXPECT_GT(std::abs(64 * near - whole), 0.2 * std::abs(64 * near)) << on.softcap;
    } else {
      EXPECT_NEAR(64 * near, whole, 64 * 1e-15 * size);
    }
  }
}

TEST(Terms, ACapThatBendsNothingIsNone) {
  EXPECT_FALSE(Terms<float>::Of({0.5, 3e38, false, false}).bends());
  EXPECT_TRUE(Terms<float>::Of({0.5, 1e30, false, false}).bends());
  EXPECT_TRUE(Terms<float>::Of({0.5, 1e-30, false, false}).bends());
  EXPECT_FALSE(Terms<float>::Of({0.5, 0, true, true}).bends());
}

// Several lanes in one operand, as an engine has them.
struct Bundle {
  float x[3];
};
struct BundleLanes {
  using Real = Bundle;
  using Scalar = float;
  static Bundle Const(float a) { return {{a, a, a}}; }
  static Bundle Add(Bundle a, Bundle b) {
    for (int r = 0; r < 3; r++) a.x[r] = F32::Add(a.x[r], b.x[r]);
    return a;
  }
  static Bundle Mul(Bundle a, Bundle b) {
    for (int r = 0; r < 3; r++) a.x[r] = F32::Mul(a.x[r], b.x[r]);
    return a;
  }
  static Bundle NegMulAdd(Bundle a, Bundle b, Bundle c) {
    for (int r = 0; r < 3; r++) c.x[r] = F32::NegMulAdd(a.x[r], b.x[r], c.x[r]);
    return c;
  }
  static Bundle Abs(Bundle a) {
    for (float& x : a.x) x = F32::Abs(x);
    return a;
  }
  static Bundle Tanh(Bundle a) {
    for (float& x : a.x) x = F32::Tanh(x);
    return a;
  }
};

TEST(Modify, IsTheSameInEveryLane) {
  for (const Setting& on : Settings()) {
    const auto t = Terms<float>::Of({on.scale, on.softcap, on.alibi, on.bias});
    const Bundle qk = {{0.3f, -4.0f, 77.0f}}, slope = {{0.5f, 0.5f, 0.5f}};
    const Bundle distance = {{-1, 0, 9}}, bias = {{1, -2, 0}}, ds = {{1, -3, 0.5f}};
    const Bundle s = Modify<BundleLanes>(t, qk, {slope, distance, bias});
    const Bundle dqk = Pull<BundleLanes>(t, ds, qk);
    for (int r = 0; r < 3; r++) {
      // Not EXPECT_EQ: a compiler may fuse a product and a sum in one of the two.
      const float one = Modify<F32>(t, qk.x[r], {slope.x[r], distance.x[r], bias.x[r]});
      EXPECT_NEAR(s.x[r], one, 1e-6f * (std::abs(one) + 1));
      EXPECT_NEAR(dqk.x[r], Pull<F32>(t, ds.x[r], qk.x[r]), 1e-5f);
    }
  }
}

// ---------------------------------------------------------------- powers of two

TEST(FoldExp2, GivesTheScoreInUnitsOfPowersOfTwo) {
  for (const Setting& on : Settings()) {
    const auto t = Terms<double>::Of({on.scale, on.softcap, on.alibi, on.bias});
    const Exp2Factors<double> f = FoldExp2(t);
    for (const double qk : {0.3, -4.0, 77.0}) {
      const At<F64> at = {0.5, -9, 0.25};
      const double x =
          t.any() ? Offset<F64>(t, Cap<F64>(t, qk * f.inner), at) * f.outer : qk * f.inner;
      EXPECT_NEAR(x, Modify<F64>(t, qk, at) * std::log2(std::exp(1.0)), 1e-12);
    }
  }
}

TEST(FoldExp2, KeepsFiniteNumbersFinite) {
  for (const float x : {kLowest, -kLowest, 2.4e38f, -3e38f}) {
    EXPECT_TRUE(std::isfinite(FoldExp2<F32>(x))) << x;
    EXPECT_TRUE(std::isfinite(FoldableBias<F32>(x) *
                              FoldExp2(Terms<float>::Of({1, 0, false, true})).outer));
    EXPECT_GT(FoldExp2<F32>(x) * kLn2 * (x < 0 ? -1 : 1), 2e38) << x;
  }
  EXPECT_TRUE(std::isfinite(FoldExp2(Terms<float>::Of({double{kLowest}, 0, false, false})).inner));
  EXPECT_FLOAT_EQ(FoldExp2<F32>(1.0f), 1.442695041f);
  EXPECT_EQ(FoldableBias<F32>(-1e38f), -1e38f);
}

TEST(FoldExp2, KeepsInfinityAndNan) {
  constexpr float kInfF = std::numeric_limits<float>::infinity();
  EXPECT_EQ(FoldExp2<F32>(-kInfF), -kInfF);
  EXPECT_EQ(FoldExp2<F32>(kInfF), kInfF);
  EXPECT_EQ(FoldableBias<F32>(-kInfF), -kInfF);
  EXPECT_TRUE(std::isnan(FoldExp2<F32>(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace heed
