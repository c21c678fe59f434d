// tensor_test.cpp: how the reference reads and rounds elements of every dtype, and finds rows by
// strides.
#include "reference/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace heed::reference {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

double Rounded(DType dtype, double x) {
  double bits = 0;
  Store(dtype, &bits, 0, x);
  return Load(dtype, &bits, 0);
}

// Every number of a 16-bit type comes back as it was; half way to the next it goes to the even one,
// and a hair beyond or before half way to the nearer one (a hair is below what float could tell:
// nothing is rounded twice).
void ExpectNearest(DType dtype, std::uint16_t infinity) {
  for (std::uint16_t bits = 0; bits < infinity; bits++) {
    const auto next_bits = static_cast<std::uint16_t>(bits + 1);
    const double x = Load(dtype, &bits, 0);
    // Beyond the largest number lies the one that would be next if there were more exponents.
    const auto before = static_cast<std::uint16_t>(bits - 1);
    const double next =
        next_bits == infinity ? 2 * x - Load(dtype, &before, 0) : Load(dtype, &next_bits, 0);
    const double up = next_bits == infinity ? kInf : next;
    const double half = x + (next - x) / 2, hair = half * 1e-15;
    ASSERT_EQ(Rounded(dtype, x), x);
    ASSERT_EQ(Rounded(dtype, half), bits % 2 == 0 ? x : up) << x;
    ASSERT_EQ(Rounded(dtype, half - hair), x);
    ASSERT_EQ(Rounded(dtype, half + hair), up);
    ASSERT_EQ(Rounded(dtype, -half - hair), -up);
  }
}

TEST(Store, RoundsToTheNearestBf16) { ExpectNearest(DType::kBF16, 0x7F80); }
TEST(Store, RoundsToTheNearestF16) { ExpectNearest(DType::kF16, 0x7C00); }

TEST(Store, KnowsTheFormats) {
  std::uint16_t bits = 0;
  Store(DType::kBF16, &bits, 0, -1.5);
  EXPECT_EQ(bits, 0xBFC0);
  Store(DType::kF16, &bits, 0, -1.5);
  EXPECT_EQ(bits, 0xBE00);
  Store(DType::kF16, &bits, 0, 0x1p-24);
  EXPECT_EQ(bits, 0x0001);
  Store(DType::kF16, &bits, 0, -0.0);
  EXPECT_EQ(bits, 0x8000);
  float f = 0;
  Store(DType::kF32, &f, 0, 0.1);
  EXPECT_EQ(f, 0.1f);
}

TEST(Store, KeepsInfinityAndNan) {
  for (const DType t : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    EXPECT_EQ(Rounded(t, kInf), kInf);
    EXPECT_EQ(Rounded(t, -kInf), -kInf);
    EXPECT_TRUE(std::isnan(Rounded(t, NAN)));
    EXPECT_TRUE(std::signbit(Rounded(t, -0.0)));
  }
  EXPECT_EQ(Rounded(DType::kF32, 1e300), kInf);
  EXPECT_EQ(Rounded(DType::kBF16, 1e300), kInf);
}

TEST(Tensor, FindsRowsByStrides) {
  float data[24];
  for (int n = 0; n < 24; n++) data[n] = static_cast<float>(n);
  double row[2];
  const Tensor t = {data + 10, DType::kF32, {12, -4, 2}};
  t.ReadRow({1, 2}, 1, 2, row);
  EXPECT_EQ(row[0], 10 + 12 - 8 + 2);
  EXPECT_EQ(row[1], 10 + 12 - 8 + 3);
}

TEST(Output, AddsOrReplaces) {
  float data[4] = {1, 2, 3, 4};
  const double row[2] = {10, 20};
  const Output out = {data, DType::kF32, {0, 2, 0}};
  out.WriteRow({0, 1}, 0, 2, row, true);
  EXPECT_EQ(data[2], 13);
  EXPECT_EQ(data[3], 24);
  out.WriteRow({0, 0}, 0, 2, row);
  EXPECT_EQ(data[0], 10);
  EXPECT_EQ(data[1], 20);
}

}  // namespace
}  // namespace heed::reference
