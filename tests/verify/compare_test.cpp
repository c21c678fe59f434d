// compare_test.cpp: the comparator itself: what is wrong must be called wrong, and nothing else.
#include "verify/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "io/convert.h"

namespace heed::verify {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Array Of(std::vector<double> values) {
  const auto n = static_cast<std::int64_t>(values.size());
  return {{n}, std::move(values)};
}

Comparison CompareOne(double expected, double bound, double got, DType type = DType::kF32) {
  return Compare(Of({expected}), Of({bound}), Of({got}), type);
}

// Rows with values of their own, so that any exchange shows.
Array Rows(std::int64_t rows, std::int64_t width) {
  Array a = Zeros({rows, width});
  for (std::int64_t n = 0; n < a.size(); ++n) a[n] = std::sin(static_cast<double>(n));
  return a;
}

TEST(Compare, EqualArraysPassWithRatioZero) {
  const Array a = Rows(3, 4);
  const Comparison c = Compare(a, Of({0}), a, DType::kF32);
  EXPECT_TRUE(c.passed());
  EXPECT_EQ(c.count, 12);
  EXPECT_EQ(c.ratio, 0);
}

TEST(Compare, AWrongSignFails) {
  EXPECT_FALSE(CompareOne(0.5, 1e-3, -0.5).passed());
  EXPECT_FALSE(CompareOne(-1e-30, 1e-31, 1e-30).passed());
}

TEST(Compare, SwappedRowsFail) {
  const Array expected = Rows(4, 3);
  Array got = expected;
  for (std::int64_t d = 0; d < 3; ++d) std::swap(got[3 + d], got[6 + d]);
  const Comparison c = Compare(expected, Of({1e-6}), got, DType::kF32);
  EXPECT_EQ(c.failures, 6);
  EXPECT_EQ(c.at.size(), 2u);
  EXPECT_TRUE(c.at[0] == 1 || c.at[0] == 2);
}

TEST(Compare, NaNIsGotExactlyWhereItIsExpected) {
  EXPECT_TRUE(CompareOne(kNaN, 0, kNaN).passed());
  for (const double got : {0.0, 1.0, kInfinity, -kInfinity}) {
    EXPECT_FALSE(CompareOne(kNaN, 1e9, got).passed()) << got;
  }
  for (const double expected : {0.0, 1.0, kInfinity, -kInfinity}) {
    const Comparison c = CompareOne(expected, 1e9, kNaN);
    EXPECT_FALSE(c.passed()) << expected;
    EXPECT_EQ(c.ratio, kInfinity);
  }
}

TEST(Compare, InfinitiesMatchExactly) {
  EXPECT_TRUE(CompareOne(-kInfinity, 0, -kInfinity).passed());
  EXPECT_TRUE(CompareOne(kInfinity, 0, kInfinity).passed());
  EXPECT_FALSE(CompareOne(-kInfinity, 1e300, kInfinity).passed());
  EXPECT_FALSE(CompareOne(-kInfinity, 1e300, -3e38).passed());
  EXPECT_FALSE(CompareOne(0.25, 1e30, -kInfinity).passed());
  EXPECT_FALSE(CompareOne(3e38, 1e38, kInfinity).passed()) << "f32 results may not overflow";
}

TEST(Compare, SixteenBitsMayOverflowWhereTheBoundReaches) {
  EXPECT_TRUE(CompareOne(65519, 1.5, kInfinity, DType::kF16).passed());
  EXPECT_FALSE(CompareOne(65519, 1.5, -kInfinity, DType::kF16).passed());
  EXPECT_FALSE(CompareOne(65500, 1.5, kInfinity, DType::kF16).passed());
  EXPECT_FALSE(CompareOne(65519, 1.5, kInfinity, DType::kBF16).passed());
}

TEST(Compare, ZerosOfEitherSignAreEqual) {
  EXPECT_TRUE(CompareOne(0.0, 0, -0.0).passed());
  EXPECT_TRUE(CompareOne(-0.0, 0, 0.0).passed());
}

TEST(Compare, OneUlpOverTheBoundFailsAndTheBoundItselfPasses) {
  const float expected = 1.0f, bound = 0x1p-20f;
  const float edge = expected + bound;
  EXPECT_TRUE(CompareOne(expected, bound, edge).passed());
  EXPECT_EQ(CompareOne(expected, bound, edge).ratio, 1);
  const Comparison over = CompareOne(expected, bound, std::nextafter(edge, 2.0f));
  EXPECT_FALSE(over.passed());
  EXPECT_GT(over.ratio, 1);
  EXPECT_LT(over.ratio, 1.2);
}

TEST(Compare, TheWorstIsTheLargestInUnitsOfItsBound) {
  const Comparison c = Compare(Of({0, 0, 0}), Of({10, 1e-3, 1}), Of({5, 9e-4, 0.2}), DType::kF32);
  EXPECT_TRUE(c.passed());
  EXPECT_EQ(c.at, std::vector<std::int64_t>{1});
  EXPECT_DOUBLE_EQ(c.error, 9e-4);
  EXPECT_DOUBLE_EQ(c.bound, 1e-3);
  EXPECT_DOUBLE_EQ(c.ratio, 0.9);
}

TEST(Compare, ABoundThatIsNoBoundFails) {
  EXPECT_FALSE(CompareOne(1, kNaN, 1).passed());
  EXPECT_FALSE(CompareOne(1, -1e-9, 1).passed());
  EXPECT_TRUE(CompareOne(1, kInfinity, kNaN).passed()) << "an infinite bound asks for nothing";
  EXPECT_TRUE(CompareOne(kNaN, kInfinity, 3).passed());
}

TEST(Compare, EmptyTensorsPassAndWrongShapesDoNot) {
  const Array none = Zeros({2, 0, 3});
  const Comparison c = Compare(none, none, none, DType::kF32);
  EXPECT_TRUE(c.passed());
  EXPECT_EQ(c.count, 0);
  EXPECT_TRUE(c.at.empty());
  EXPECT_FALSE(Compare(none, none, Zeros({0, 2, 3}), DType::kF32).passed());
  EXPECT_FALSE(Compare(Rows(2, 3), Of({1}), Rows(3, 2), DType::kF32).passed());
  EXPECT_FALSE(Compare(Rows(2, 3), Of({1, 1}), Rows(2, 3), DType::kF32).passed());
}

TEST(Compare, ReadsThroughStridesAndDtypes) {
  // Two rows of two bf16, each row followed by a NaN that is not part of the tensor, the second row
  // first.
  const io::Bf16 nan{0x7FC0};
  const std::vector<io::Bf16> memory = {io::ToBf16(3.0f), io::ToBf16(4.0f), nan,
                                        io::ToBf16(1.0f), io::ToBf16(2.0f), nan};
  const View view{memory.data() + 3, DType::kBF16, {2, 2}, {-3, 1}};
  EXPECT_TRUE(Compare({{2, 2}, {1, 2, 3, 4}}, Of({0}), view).passed());
  EXPECT_FALSE(Compare({{2, 2}, {1, 2, 4, 3}}, Of({0.5}), view).passed());
}

TEST(Compare, DescribesTheWorstInOneSentence) {
  const Comparison c = Compare({{1, 2}, {1, 2}}, Of({0.5}), {{1, 2}, {1, 3}}, DType::kF32);
  EXPECT_EQ(c.Describe(), "worst error 1 of 0.5 at [0, 1]: got 3 for 2; 1 of 2 wrong");
}

}  // namespace
}  // namespace heed::verify
