// lanes_test.cpp: every instruction set's arithmetic, comparisons and pairs against their
// definitions. Not here: memory and 16-bit formats (lanes_memory_test.cpp), exp2 and log2
// (lanes_exp2_test.cpp).
#include "lanes_testing.h"

namespace heed::cpu {
namespace {

const std::vector<float> kValues = {
    0.f,       -0.f,       1.f,   -1.f, 0.5f,  3.1f,   -7.25f,  1e30f,           -1e30f,
    1e-30f,    kInf,       -kInf, kNaN, -kNaN, 1e-45f, -1e-45f, 0x1.fffffep127f, -0x1.fffffep127f,
    0x1p-126f, 1.0000001f, 1e38f};

TEST_P(Lanes, ComputeOnTwo) {
  for (const float a : kValues)
    for (const float b : kValues) {
      EXPECT_PRED2(Same, All(LaneOp::kAdd, a, b), a + b) << a << " " << b;
      EXPECT_PRED2(Same, All(LaneOp::kSub, a, b), a - b) << a << " " << b;
      EXPECT_PRED2(Same, All(LaneOp::kMul, a, b), a * b) << a << " " << b;
      EXPECT_PRED2(Same, All(LaneOp::kDiv, a, b), a / b) << a << " " << b;
      if (std::isnan(a) || std::isnan(b)) continue;  // of Max with a NaN nothing is asked
      EXPECT_EQ(All(LaneOp::kMax, a, b), a > b ? a : b) << a << " " << b;
    }
}

// Fused, or rounded twice where the set has no fused product.
TEST_P(Lanes, MultiplyAndAdd) {
  for (const float a : kValues)
    for (const float b : kValues)
      for (const float c : kValues) {
        const float fma = All(LaneOp::kFma, a, b, c), fms = All(LaneOp::kFms, a, b, c);
        const volatile float product = a * b;
        EXPECT_TRUE(Same(fma, std::fma(a, b, c)) || Same(fma, product + c))
            << a << " * " << b << " + " << c << " = " << fma;
        EXPECT_TRUE(Same(fms, std::fma(a, b, -c)) || Same(fms, product - c))
            << a << " * " << b << " - " << c << " = " << fms;
      }
}

TEST_P(Lanes, Compare) {
  for (const float a : kValues)
    for (const float b : kValues) {
      EXPECT_EQ(All(LaneOp::kLt, a, b), a < b) << a << " " << b;
      EXPECT_EQ(All(LaneOp::kLe, a, b), a <= b) << a << " " << b;
      EXPECT_EQ(All(LaneOp::kEq, a, b), a == b) << a << " " << b;
      EXPECT_EQ(All(LaneOp::kAny, a, b), a < b) << a << " " << b;
      EXPECT_EQ(All(LaneOp::kAllLe, a, b), a <= b) << a << " " << b;
      for (const float c : {0.f, 2.f, kNaN, -kInf}) {
        EXPECT_EQ(All(LaneOp::kAnd, a, b, c), a < b && b < c) << a << " " << b << " " << c;
        EXPECT_EQ(All(LaneOp::kAndNot, a, b, c), !(a < b) && b < c) << a << " " << b << " " << c;
        EXPECT_PRED2(Same, All(LaneOp::kSelect, a, b, c), a < b ? b : c);
      }
    }
}

TEST_P(Lanes, KeepToThemselves) {
  for (int lane = 0; lane < w; lane++)
    for (const float a : {0.f, kNaN, kInf, 2.5f}) {
      EXPECT_PRED2(Same, At(lane, LaneOp::kAdd, a, 1), a + 1);
      EXPECT_EQ(At(lane, LaneOp::kLt, a, 1), a < 1);
      EXPECT_PRED2(Same, At(lane, LaneOp::kSelect, a, 1, 7), a < 1 ? 1.f : 7.f);
    }
}

TEST_P(Lanes, AskAllLanes) {
  for (int lane = 0; lane < w; lane++) {
    float small[kMaxLanes], big[kMaxLanes], out[kMaxLanes];
    for (int i = 0; i < w; i++) {
      small[i] = 1;
      big[i] = i == lane ? 2.f : 1.f;
    }
    const auto ask = [&](LaneOp op, const float* a, const float* b) {
      lanes.floats(op, a, b, b, out);
      return out[0];
    };
    EXPECT_EQ(ask(LaneOp::kAny, small, big), 1) << lane;
    EXPECT_EQ(ask(LaneOp::kAny, big, small), 0) << lane;
    EXPECT_EQ(ask(LaneOp::kAllLe, small, big), 1) << lane;
    EXPECT_EQ(ask(LaneOp::kAllLe, big, small), 0) << lane;
    big[lane] = kNaN;  // !(sum <= limit) is how a row with a NaN is found
    EXPECT_EQ(ask(LaneOp::kAllLe, big, small), 0) << lane;
    EXPECT_EQ(ask(LaneOp::kAny, small, big), 0) << lane;
  }
}

TEST_P(Lanes, SpreadOneValue) {
  for (const float a : kValues) {
    EXPECT_PRED2(Same, All(LaneOp::kZero, a), 0.f);
    float from[kMaxLanes] = {a}, out[kMaxLanes];
    for (const LaneOp op : {LaneOp::kSet, LaneOp::kSplat}) {
      lanes.floats(op, from, from, from, out);
      for (int i = 0; i < w; i++) EXPECT_PRED2(Same, out[i], a);
    }
  }
}

TEST_P(Lanes, Transpose) {
  std::vector<float> rows(static_cast<std::size_t>(w) * w);
  for (std::size_t i = 0; i < rows.size(); i++)  // any 32 bits, NaNs included
    rows[i] = std::bit_cast<float>(static_cast<std::uint32_t>(i * 0x9e3779b9u));
  std::vector<float> turned = rows;
  lanes.transpose(turned.data());
  for (int i = 0; i < w; i++)
    for (int j = 0; j < w; j++)
      EXPECT_EQ(std::bit_cast<std::uint32_t>(turned[static_cast<std::size_t>(i * w + j)]),
                std::bit_cast<std::uint32_t>(rows[static_cast<std::size_t>(j * w + i)]));
}

TEST_P(Lanes, RepeatAndFold) {
  float a[kMaxLanes], b[kMaxLanes], out[kMaxLanes];
  for (int i = 0; i < kMaxLanes; i++) {
    a[i] = static_cast<float>(1 << i);
    b[i] = static_cast<float>(1 << i) * 0x1p-20f;
  }
  for (int n = 1; n <= w; n *= 2) {
    lanes.repeat(n, a, out);
    for (int i = 0; i < w; i++) EXPECT_EQ(out[i], a[i % n]) << n;
  }
  for (int step = 1; step < w; step *= 2) {
    lanes.fold(step, a, b, out);
    for (int i = 0; i < w; i++)
      EXPECT_EQ(out[i], i & step ? b[i ^ step] + b[i] : a[i] + a[i ^ step]) << step << " " << i;
  }
}

// ---------------------------------------------------------------- pairs of bf16

float Low(std::uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float High(std::uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); }
std::uint32_t Pair(float low, float high) {
  return std::bit_cast<std::uint32_t>(low) >> 16 |
         (std::bit_cast<std::uint32_t>(high) & 0xffff0000u);
}

TEST_P(Lanes, MultiplyPairs) {
  if (!lanes.dot) GTEST_SKIP() << "this set multiplies no pairs";
  const float values[] = {0, 1, -1, 2, 0.5f, -3, 96, 0x1p-20f};  // every sum below is exact
  for (const float a : values)
    for (const float b : values)
      for (const float c : values)
        for (const float d : values) {
          std::uint32_t x[kMaxLanes], y[kMaxLanes];
          float sum[kMaxLanes], out[kMaxLanes];
          for (int i = 0; i < w; i++) {
            x[i] = Pair(a, i % 2 ? b : c);
            y[i] = Pair(c, d);
            sum[i] = static_cast<float>(i);
          }
          lanes.dot(x, y, sum, out);
          for (int i = 0; i < w; i++) {
            const double exact = double{sum[i]} + double{a} * c + double{i % 2 ? b : c} * d;
            EXPECT_NEAR(out[i], exact, 0x1p-23 * (std::abs(exact) + 2 * 96 * 96));
            if (exact == std::round(exact)) {
              EXPECT_EQ(out[i], exact);
            }
          }
        }
  for (const float bad : {kNaN, kInf}) {
    std::uint32_t x[kMaxLanes], y[kMaxLanes];
    float sum[kMaxLanes] = {}, out[kMaxLanes];
    for (int i = 0; i < w; i++) {
      x[i] = i == 3 ? Pair(1, bad) : Pair(1, 1);
      y[i] = Pair(1, 1);
    }
    lanes.dot(x, y, sum, out);
    for (int i = 0; i < w; i++) EXPECT_PRED2(Same, out[i], i == 3 ? bad : 2.f);
  }
}

TEST_P(Lanes, PackAndUnpackPairs) {
  if (!lanes.pack) GTEST_SKIP() << "this set has no pairs";
  for (const std::uint32_t low : {0u, 0x3f800000u, 0x3f807fffu, 0x3f808000u, 0x3f818000u,
                                  0x7f7fffffu, 0x7f800000u, 0xbf80ffffu, 0x00000001u})
    for (const std::uint32_t high : {0x40490fdbu, 0x00008000u, 0x7f800000u, 0xc0490fdbu}) {
      float a[kMaxLanes], b[kMaxLanes], l[kMaxLanes], h[kMaxLanes];
      std::uint32_t out[kMaxLanes];
      for (int i = 0; i < w; i++) {
        a[i] = std::bit_cast<float>(i % 2 ? low : high);
        b[i] = std::bit_cast<float>(i % 2 ? high : low);
      }
      lanes.pack(a, b, out);
      lanes.unpack(out, l, h);
      for (int i = 0; i < w; i++) {
        const auto rounded = [](float x) {  // halves up
          return (std::bit_cast<std::uint32_t>(x) + 0x8000u) & 0xffff0000u;
        };
        EXPECT_EQ(out[i], rounded(a[i]) >> 16 | rounded(b[i]));
        EXPECT_PRED2(Same, l[i], Low(out[i]));
        EXPECT_PRED2(Same, h[i], High(out[i]));
      }
    }
  std::uint32_t out[kMaxLanes];
  lanes.set_pair(0x12345678, out);
  for (int i = 0; i < w; i++) EXPECT_EQ(out[i], 0x12345678u);
}

TEST_P(Lanes, RepeatPairsAndZipApart) {
  if (!lanes.dot) GTEST_SKIP() << "this set multiplies no pairs";
  std::uint16_t a[2 * kMaxLanes + 1], b[2 * kMaxLanes + 1];
  for (int i = 0; i <= 2 * kMaxLanes; i++) {
    a[i] = static_cast<std::uint16_t>(0x4000 + i);
    b[i] = static_cast<std::uint16_t>(0x4100 + i);
  }
  for (int n = 1; n <= w; n *= 2)
    for (const int start : {0, 1}) {  // rows may start at an odd element
      std::uint32_t out[kMaxLanes];
      lanes.repeat_pairs(n, a + start, out);
      for (int i = 0; i < w; i++) {
        const int at = start + 2 * (i % n);
        EXPECT_EQ(out[i], static_cast<std::uint32_t>(a[at] | a[at + 1] << 16)) << n;
      }
    }
  float low[2 * kMaxLanes], high[2 * kMaxLanes];
  lanes.zip_apart(a, b, low, high);
  for (int i = 0; i < 2 * w; i++) {
    EXPECT_EQ(low[i], Low(a[i])) << i;
    EXPECT_EQ(high[i], Low(b[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, Lanes, ::testing::ValuesIn(UsableLanes()), NameOfLanes);

}  // namespace
}  // namespace heed::cpu
