// pull_test.cpp: the hand-written gradient of the score terms against their derivative by dual
// numbers.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "dual.h"
#include "score/terms.h"

namespace heed {
namespace {

using F32 = ScalarLanes<float>;
using F64 = ScalarLanes<double>;

const double kScales[] = {0.125, 1.0, -0.3, 0.0, 7.0};
const double kCaps[] = {0.0, 1e-3, 1e-2, 0.1, 0.7, 2.5, 30.0, 1e3, 1e4};
const double kProducts[] = {0.0,  1e-8, -1e-4, 0.003, -0.02, 0.5,
                            -1.0, 3.0,  -17.0, 40.0,  900.0, -1e6};

// d Modify / d(q.k), with every other term on: none of them may show.
double ByDualNumbers(double scale, double softcap, double qk) {
  const auto t = Terms<double>::Of({scale, softcap, true, true});
  return Modify<DualLanes>(t, {qk, 1}, {{0.25, 0}, {-7, 0}, {2, 0}}).slope;
}

template <class L>
void ExpectPullIsTheDerivative() {
  using Scalar = typename L::Scalar;
  constexpr double kEpsilon = std::numeric_limits<Scalar>::epsilon();
  for (const double scale : kScales) {
    for (const double softcap : kCaps) {
      const auto t = Terms<Scalar>::Of({scale, softcap, true, true});
      for (const double product : kProducts) {
        const Scalar qk = static_cast<Scalar>(product), ds = Scalar(-1.75);
        const double want = double{ds} * ByDualNumbers(scale, softcap, double{qk});
        // y = tanh(x) is known to a few units in the last place; where x is large its error is that
        // of x, damped by the derivative, which falls faster than x grows: x / cosh^2(x) < 0.45. So
        // 1 - y^2 is known to a few epsilon.
        EXPECT_NEAR(double{Pull<L>(t, ds, qk)}, want, 8 * kEpsilon * std::abs(ds * scale))
            << "scale " << scale << " softcap " << softcap << " qk " << qk;
      }
    }
  }
}

TEST(Pull, IsTheDerivativeInDouble) { ExpectPullIsTheDerivative<F64>(); }
TEST(Pull, IsTheDerivativeInFloat) { ExpectPullIsTheDerivative<F32>(); }

TEST(Pull, IsTheProductOfItsParts) {
  const auto t = Terms<double>::Of({0.3, 4, false, false});
  const double capped = Cap<F64>(t, Inner<F64>(t, 9.0));
  EXPECT_DOUBLE_EQ(Pull<F64>(t, 2.0, 9.0), 2.0 * CapRate<F64>(t, capped) * t.scale);
}

TEST(Pull, OfZeroIsZeroWhateverTheProduct) {
  const auto t = Terms<float>::Of({0.5, 3, true, true});
  for (const float qk : {0.0f, 1e30f, -std::numeric_limits<float>::max()}) {
    EXPECT_EQ(Pull<F32>(t, 0.0f, qk), 0.0f);
  }
}

// The witness itself: central differences.
TEST(Dual, IsTheDerivative) {
  for (const double softcap : {0.0, 0.7, 30.0}) {
    for (const double qk : {-2.0, 0.0, 0.4, 5.0}) {
      const auto t = Terms<double>::Of({0.7, softcap, true, true});
      const auto at = [&](double x) { return Modify<F64>(t, x, {0.25, -7, 2}); };
      const double h = 1e-5;
      EXPECT_NEAR(ByDualNumbers(0.7, softcap, qk), (at(qk + h) - at(qk - h)) / (2 * h), 1e-9);
    }
  }
  EXPECT_EQ(DualLanes::Abs({-2, 3}).slope, -3);
}

}  // namespace
}  // namespace heed
