// tests/io/convert_test.cpp: io/convert.h against the definition of rounding.
#include "io/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/io/io_testing.h"

namespace heed::io {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The value of 16 bits by the definition of the format: sign, exponent, mantissa.
double ValueOf(std::uint16_t bits, int mantissa_bits) {
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits & 0x7FFF) >> mantissa_bits;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  double value;
  if (exponent == (1 << exponent_bits) - 1) {
    value = mantissa == 0 ? kInfinity : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, 1 - bias - mantissa_bits);
  } else {
    value = std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

// Rounds x by the definition: the nearer neighbour, of two equally near the even one; infinity
// counts as the value that the exponent after the largest would have.
template <class T>
std::uint16_t RoundByDefinition(double x, int mantissa_bits) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double magnitude = std::fabs(x);
  const auto infinity = static_cast<std::uint16_t>(0x7FFF >> mantissa_bits << mantissa_bits);
  const auto value = [&](std::uint16_t bits) {
    if (bits != infinity) return ValueOf(bits, mantissa_bits);
    const auto last = static_cast<std::uint16_t>(infinity - 1);
    const auto before = static_cast<std::uint16_t>(infinity - 2);
    return 2 * ValueOf(last, mantissa_bits) - ValueOf(before, mantissa_bits);
  };
  std::uint16_t low = 0, high = infinity;  // value(low) <= magnitude < value(high)
  if (magnitude >= value(infinity)) return sign | infinity;
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (value(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - value(low), above = value(high) - magnitude;
  const bool up = above < below || (above == below && (high & 1) == 0);
  return sign | (up ? high : low);
}

TEST(Convert, EveryBf16AndF16HasItsValueAndComesBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Bf16 b{static_cast<std::uint16_t>(bits)};
    const F16 h{static_cast<std::uint16_t>(bits)};
    const double b_value = ValueOf(b.bits, 7), h_value = ValueOf(h.bits, 10);
    if (std::isnan(b_value)) {
      EXPECT_TRUE(std::isnan(ToFloat(b)));
      EXPECT_TRUE(std::isnan(ToFloat(ToBf16(ToFloat(b)))));
    } else {
      EXPECT_EQ(ToFloat(b), b_value);
      EXPECT_EQ(ToBf16(ToFloat(b)), b) << bits;
      EXPECT_EQ(ToBf16(b_value), b) << bits;
    }
    if (std::isnan(h_value)) {
      EXPECT_TRUE(std::isnan(ToFloat(h)));
      EXPECT_TRUE(std::isnan(ToFloat(ToF16(ToFloat(h)))));
    } else {
      EXPECT_EQ(ToFloat(h), h_value);
      EXPECT_EQ(ToF16(ToFloat(h)), h) << bits;
      EXPECT_EQ(ToF16(h_value), h) << bits;
    }
  }
}

// Around every value: the midpoint to the next, and the floats and doubles next to it.
TEST(Convert, MidpointsGoToEvenAndTheirNeighboursToTheNearer) {
  for (std::uint32_t bits = 0; bits < 0x7F80; ++bits) {
    const auto check = [](double middle, int mantissa_bits) {
      for (const double sign : {1.0, -1.0}) {
        const double x = sign * middle;
        for (const double y : {std::nextafter(x, -kInfinity), x, std::nextafter(x, kInfinity)}) {
          const std::uint16_t got = mantissa_bits == 7 ? ToBf16(y).bits : ToF16(y).bits;
          EXPECT_EQ(got, RoundByDefinition<double>(y, mantissa_bits)) << y;
        }
        const auto f = static_cast<float>(x);
        const float inf = std::numeric_limits<float>::infinity();
        for (const float y : {std::nextafter(f, -inf), f, std::nextafter(f, inf)}) {
          if (std::isinf(y)) continue;
          const std::uint16_t got = mantissa_bits == 7 ? ToBf16(y).bits : ToF16(y).bits;
          EXPECT_EQ(got, RoundByDefinition<float>(y, mantissa_bits)) << y;
        }
      }
    };
    const auto at = static_cast<std::uint16_t>(bits), next = static_cast<std::uint16_t>(bits + 1);
    if (bits % 7 == 0 || bits < 300 || bits > 0x7F00) {
      const double next_value = bits == 0x7F7F ? std::ldexp(1.0, 128) : ValueOf(next, 7);
      check((ValueOf(at, 7) + next_value) / 2, 7);
    }
    if (bits < 0x7C00 && (bits % 7 == 0 || bits < 3000 || bits > 0x7B00)) {
      const double next_value = bits == 0x7BFF ? 65536.0 : ValueOf(next, 10);
      check((ValueOf(at, 10) + next_value) / 2, 10);
    }
  }
}

TEST(Convert, RandomBitsRoundByTheDefinition) {
  std::mt19937_64 random(7);
  for (int n = 0; n < 200000; ++n) {
    const auto d = std::bit_cast<double>(random());
    // A double whose exponent lies where f16 and bf16 have values; most random ones are too large.
    const double near = std::ldexp(static_cast<double>(random()) - 9e18, -64 - int(random() % 40));
    const auto f = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    for (const double x : {d, near, static_cast<double>(f)}) {
      if (std::isnan(x)) continue;
      EXPECT_EQ(ToBf16(x).bits, RoundByDefinition<double>(x, 7)) << x;
      EXPECT_EQ(ToF16(x).bits, RoundByDefinition<double>(x, 10)) << x;
    }
    if (std::isnan(f)) continue;
    EXPECT_EQ(ToBf16(f).bits, RoundByDefinition<float>(f, 7)) << f;
    EXPECT_EQ(ToF16(f).bits, RoundByDefinition<float>(f, 10)) << f;
  }
}

TEST(Convert, ADoubleIsNotRoundedTwice) {
  // A midpoint and a little more, which float cannot hold: by way of float it would go down to
  // even.
  const double just_above = 1.0 + std::ldexp(1.0, -11) + std::ldexp(1.0, -40);
  EXPECT_EQ(ToF16(static_cast<float>(just_above)).bits, 0x3C00);
  EXPECT_EQ(ToF16(just_above).bits, 0x3C01);
  EXPECT_EQ(ToBf16(1.0 + std::ldexp(1.0, -8) + std::ldexp(1.0, -40)).bits, 0x3F81);
}

TEST(Convert, NanInfinityAndOverflow) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ToBf16(nan).bits, 0x7FC0);
  EXPECT_EQ(ToF16(-nan).bits, 0xFE00);
  EXPECT_EQ(ToF16(std::numeric_limits<double>::quiet_NaN()).bits, 0x7E00);
  EXPECT_EQ(ToBf16(-std::numeric_limits<double>::quiet_NaN()).bits, 0xFFC0);
  // Payloads that live only in the bits cut off must not turn a NaN into infinity.
  EXPECT_EQ(ToBf16(std::bit_cast<float>(0x7F800001u)).bits, 0x7FC0);
  EXPECT_EQ(ToF16(std::bit_cast<float>(0x7F800001u)).bits, 0x7E00);
  EXPECT_EQ(ToBf16(std::bit_cast<float>(0x7FFFFFFFu)).bits, 0x7FFF);
  EXPECT_EQ(ToBf16(inf).bits, 0x7F80);
  EXPECT_EQ(ToF16(-inf).bits, 0xFC00);
  EXPECT_EQ(ToBf16(std::numeric_limits<float>::max()).bits, 0x7F80);
  EXPECT_EQ(ToF16(65519.996f).bits, 0x7BFF);
  EXPECT_EQ(ToF16(65520.0f).bits, 0x7C00);
  EXPECT_EQ(ToF16(-1e300).bits, 0xFC00);
  EXPECT_EQ(ToBf16(1e300).bits, 0x7F80);
  EXPECT_EQ(ToBf16(-1e-300).bits, 0x8000);
}

TEST(Convert, SpansConvertTheShorterLength) {
  const std::vector<float> from = {1.0f, -2.5f, 3.0f};
  std::vector<F16> to(2);
  RoundAll<F16, float>(from, to);
  EXPECT_EQ(ToFloat(to[0]), 1.0f);
  EXPECT_EQ(ToFloat(to[1]), -2.5f);
}

TEST(Convert, TensorsKeepNameAndShape) {
  const Tensor from = Make<double>("x", {2, 2}, {1.0, 0.1, -1e9, kInfinity});
  const Result<Tensor> to = Convert(from, ElementType::kBF16);
  ASSERT_TRUE(to.ok()) << to.status().message();
  EXPECT_EQ(to->name, "x");
  EXPECT_EQ(to->shape, from.shape);
  ASSERT_EQ(to->As<Bf16>().size(), 4u);
  EXPECT_EQ(to->As<Bf16>()[1].bits, 0x3DCD);
  EXPECT_EQ(*Convert(from, ElementType::kF64), from);
  const Result<Tensor> half = Convert(*to, ElementType::kF16);
  ASSERT_TRUE(half.ok());
  EXPECT_EQ(half->As<F16>()[2].bits, 0xFC00);
}

TEST(Convert, IntegersConvertWhereTheyFit) {
  const Tensor wide = Make<std::int64_t>("cu_seqlens", {3}, {0, 5, 2147483647});
  const Result<Tensor> narrow = Convert(wide, ElementType::kI32);
  ASSERT_TRUE(narrow.ok()) << narrow.status().message();
  EXPECT_EQ(narrow->As<std::int32_t>()[2], 2147483647);
  EXPECT_EQ(Convert(wide, ElementType::kI8).status().message(),
            "tensor 'cu_seqlens': element 2 is 2147483647 and does not fit I8");
  EXPECT_EQ(Convert(Make<std::int32_t>("n", {1}, {-1}), ElementType::kU64).status().message(),
            "tensor 'n': element 0 is -1 and does not fit U64");
  EXPECT_EQ(Convert(Make<std::uint8_t>("m", {2}, {1, 2}), ElementType::kBool).status().message(),
            "tensor 'm': element 1 is 2 and does not fit BOOL");
  const Result<Tensor> mask = Convert(Make<std::uint8_t>("m", {2}, {1, 0}), ElementType::kBool);
  ASSERT_TRUE(mask.ok());
  EXPECT_TRUE(mask->As<bool>()[0]);
  const Result<Tensor> floats = Convert(*mask, ElementType::kF16);
  ASSERT_TRUE(floats.ok());
  EXPECT_EQ(ToFloat(floats->As<F16>()[0]), 1.0f);
  const std::int64_t large = (std::int64_t{1} << 53) + 1;
  EXPECT_EQ(Convert(Make<std::int64_t>("n", {1}, {large}), ElementType::kF32).status().message(),
            "tensor 'n': element 0 is 9007199254740993 and does not fit F32 (integers up to 2^53 "
            "do)");
}

TEST(Convert, RefusesFloatsAsIntegersAndBrokenTensors) {
  EXPECT_EQ(Convert(Make<float>("x", {1}, {1.0f}), ElementType::kI32).status().message(),
            "tensor 'x': F32 cannot become I32; a floating type could");
  Tensor broken = Make<float>("x", {1}, {1.0f});
  broken.shape = {2};
  EXPECT_EQ(Convert(broken, ElementType::kF64).status().message(),
            "tensor 'x': shape [2] of F32 takes 8 bytes, but the data has 4; they must be equal");
}

}  // namespace
}  // namespace heed::io
