// engine_values_test.cpp: single facts about results of the cpu engine: one key, exact integers,
// NaN and infinity and how far they reach, rows and sizes of nothing.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cases.h"
#include "engine_testing.h"
#include "verify/array.h"
#include "verify/compare.h"
#include "verify/plain.h"
#include "verify/tolerance.h"

namespace heed::testing_cpu {
namespace {

using cases::Case;
using cases::Data;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Values : public testing::TestWithParam<std::tuple<DType, std::string>> {
 protected:
  DType type() const { return std::get<0>(GetParam()); }
  const std::string& isa() const { return std::get<1>(GetParam()); }

  Case Make(Problem p, Data data = Data::kNormal) const {
    p.dtype = type();
    p.want_lse = true;
    return {.name = "values", .problem = p, .data = data};
  }
  // Puts a value at (b, row, head, d) of a dense tensor.
  void Poke(std::vector<std::byte>* memory, std::int64_t at, double value) const {
    verify::Store(memory->data(), type(), at, value);
  }
};

TEST_P(Values, OneKeyGivesVAndItsScore) {
  for (const std::int64_t dim : {1, 16, 33, 64, 128}) {
    const cases::Sample sample = cases::MakeSample(
        Make({.batch = 2, .q_len = 51, .k_len = 1, .q_heads = 2, .dim = dim, .scale = 0.5},
             Data::kIntegers));
    const Output out = RunOn(isa(), sample);
    const verify::Results truth = verify::Truth(sample.problem, sample.Inputs());
    ExpectSameBits(truth.o.values, out.O(), "o at d = " + std::to_string(dim));
    // Scores are exact, but log2(e) goes into q or s and ln2 back: with one key these roundings are
    // the whole bound.
    const verify::Results bounds = verify::BoundsFor(sample.problem, sample.Inputs(), truth);
    const verify::Comparison lse = verify::Compare(truth.lse, bounds.lse, out.lse.view());
    EXPECT_TRUE(lse.passed()) << lse.Describe();
  }
}

TEST_P(Values, ScaleZeroGivesTheMean) {
  const cases::Sample sample =
      cases::MakeSample(Make({.q_len = 50, .k_len = 64, .dim = 64, .scale = 0.0}, Data::kIntegers));
  const Output out = RunOn(isa(), sample);
  // 64 integers: sums and the division are exact in f32, the mean has at most 8 bits.
  ExpectSameBits(verify::Truth(sample.problem, sample.Inputs()).o.values, out.O(), "o");
  for (const double lse : out.Lse()) EXPECT_NEAR(lse, std::log(64.0), 1e-6);
}

// What the inputs of `sample` give, judged by the truth: NaN where a score is NaN or +infinity, the
// rest within bounds.
void ExpectTruth(const std::string& isa, const cases::Sample& sample, const std::string& what) {
  const Output out = RunOn(isa, sample);
  const verify::Results truth = verify::Truth(sample.problem, sample.Inputs());
  const verify::Results bounds = verify::BoundsFor(sample.problem, sample.Inputs(), truth);
  const verify::Comparison o = verify::Compare(truth.o, bounds.o, out.o.view());
  EXPECT_TRUE(o.passed()) << what << ": " << o.Describe();
  const verify::Comparison lse = verify::Compare(truth.lse, bounds.lse, out.lse.view());
  EXPECT_TRUE(lse.passed()) << what << ": " << lse.Describe();
  const std::vector<double> got = out.Lse();
  for (std::size_t n = 0; n < got.size(); ++n) {
    if (!std::isnan(truth.lse.values[n])) continue;
    EXPECT_TRUE(std::isnan(got[n]) || got[n] == kInfinity)
        << what << ": lse of a row that is NaN is " << got[n];
  }
}

// Other rows need not keep their bits (they may share a tile whose fast path is left), but must
// stay within their bounds.
TEST_P(Values, NonFiniteQueryReachesItsRowAlone) {
  for (const bool causal : {false, true}) {
    for (const double bad : {kNaN, kInfinity, -kInfinity}) {
      cases::Sample sample = cases::MakeSample(Make(
          {.batch = 2, .q_len = 100, .k_len = 130, .q_heads = 2, .dim = 40, .causal = causal}));
      const std::int64_t row = (100 + 37) * 2 + 1;  // b = 1, i = 37, h = 1
      Poke(&sample.q_memory, row * 40 + 13, bad);
      ExpectTruth(isa(), sample, std::to_string(bad) + (causal ? " causal" : " full"));
      const std::vector<double> o = RunOn(isa(), sample).O();
      for (std::size_t n = 0; n < o.size(); ++n) {
        ASSERT_EQ(std::isnan(o[n]), static_cast<std::int64_t>(n) / 40 == row) << n;
      }
    }
  }
}

TEST_P(Values, NonFiniteKeyReachesTheRowsThatSeeIt) {
  for (const bool causal : {false, true}) {
    for (const double bad : {kNaN, kInfinity, -kInfinity}) {
      cases::Sample sample = cases::MakeSample(
          Make({.q_len = 110, .k_len = 120, .q_heads = 2, .dim = 64, .causal = causal}));
      const std::int64_t key = 77;
      Poke(&sample.k_memory, (key * 2 + 1) * 64 + 5, bad);
      ExpectTruth(isa(), sample, std::to_string(bad) + (causal ? " causal" : " full"));
      const std::vector<double> o = RunOn(isa(), sample).O();
      for (std::int64_t i = 0; i < 110; ++i) {
        const double other_head = o[static_cast<std::size_t>(i * 2 * 64)];
        const double first = o[static_cast<std::size_t>((i * 2 + 1) * 64)];
        EXPECT_FALSE(std::isnan(other_head)) << i;
        if (causal && key > i + 10) {
          EXPECT_FALSE(std::isnan(first)) << i;
        } else if (std::isnan(bad)) {
          EXPECT_TRUE(std::isnan(first)) << i;
        }
      }
    }
  }
}

TEST_P(Values, NonFiniteValueReachesItsColumnInRowsThatSeeIt) {
  for (const double bad : {kNaN, kInfinity}) {
    cases::Sample sample =
        cases::MakeSample(Make({.q_len = 60, .k_len = 50, .q_heads = 2, .dim = 32}));
    Poke(&sample.v_memory, (20 * 2 + 0) * 32 + 9, bad);
    const std::vector<double> o = RunOn(isa(), sample).O();
    for (std::size_t n = 0; n < o.size(); ++n) {
      const bool hit = n % 32 == 9 && n / 32 % 2 == 0;
      EXPECT_EQ(std::isfinite(o[n]), !hit) << n;
    }
  }
}

TEST_P(Values, RowsThatSeeNothingAreZeroAndMinusInfinity) {
  Case c = Make({.q_len = 100, .k_len = 60, .q_heads = 2, .dim = 24, .causal = true});
  const Output out = RunOn(isa(), cases::MakeSample(c));
  const std::vector<double> o = out.O(), lse = out.Lse();
  for (std::size_t i = 0; i < 100; ++i) {
    for (std::size_t h = 0; h < 2; ++h) {
      EXPECT_EQ(lse[h * 100 + i] == -kInfinity, i < 40) << i;
      for (std::size_t d = 0; d < 24; ++d) EXPECT_EQ(o[(i * 2 + h) * 24 + d] == 0, i < 40) << i;
    }
  }
}

TEST_P(Values, SizesOfZeroAreServed) {
  RunOn(isa(), cases::MakeSample(Make({.batch = 0, .q_len = 4, .k_len = 4, .dim = 8})));
  RunOn(isa(), cases::MakeSample(Make({.q_len = 0, .k_len = 4, .dim = 8})));
  const Output none =
      RunOn(isa(), cases::MakeSample(Make({.q_len = 5, .k_len = 0, .q_heads = 2, .dim = 8})));
  for (const double x : none.O()) EXPECT_EQ(x, 0);
  for (const double x : none.Lse()) EXPECT_EQ(x, -kInfinity);
}

TEST_P(Values, GapsBetweenInputsAreNotRead) {
  // Placements fill gaps with NaN, so finite results show it; here what lies behind the last row is
  // NaN, too.
  Case c = Make({.batch = 2, .q_len = 50, .k_len = 37, .q_heads = 2, .dim = 17});
  c.placement = cases::Placement::kPaddedRows;
  for (const double x : RunOn(isa(), cases::MakeSample(c)).O()) ASSERT_TRUE(std::isfinite(x));
}

// The first tile fixes m near 0, the key that dominates comes later: its p is some number far above
// 1, and rounded to 16 bits if the kernel does that. The sum by which o is divided must be of the
// same rounded p.
TEST_P(Values, ARowThatOneKeyDominatesIsItsValue) {
  constexpr std::int64_t kRows = 96, kKeys = 96, kDim = 16, kDominant = 53;
  const Problem p{
      .q_len = kRows, .k_len = kKeys, .dim = kDim, .dtype = type(), .scale = 1.0, .want_lse = true};
  std::vector<std::byte> q(kRows * kDim * 4), k(kKeys * kDim * 4), v(kKeys * kDim * 4);
  for (std::int64_t i = 0; i < kRows; ++i) {
    verify::Store(q.data(), type(), i * kDim,
                  14 + static_cast<double>(i) / 16);  // the dominant score: 14 to 20
  }
  verify::Store(k.data(), type(), kDominant * kDim, 1);
  for (std::int64_t n = 0; n < kKeys * kDim; ++n) {
    verify::Store(v.data(), type(), n,
                  1 + static_cast<double>(n * 37 % 128) / 128);  // in [1, 2), exact
  }
  Buffers b;
  b.q = q.data();
  b.k = k.data();
  b.v = v.data();
  const std::vector<double> o = RunOn(isa(), p, b).O();
  // The other keys' weights sum to 95 e^-14 < 2^-13, so o is off by less than that: for bf16 below
  // half an ulp.
  const double bound = type() == DType::kBF16 ? 0 : 0x1p-13 + 0x1p-11;
  for (std::size_t n = 0; n < o.size(); ++n) {
    const double expected =
        verify::Load(v.data(), type(), kDominant * kDim + static_cast<std::int64_t>(n) % kDim);
    ASSERT_NEAR(o[n], expected, bound) << "row " << n / kDim;
  }
}

// Two keys, one column, scores 0 and x: lse = log(1 + e^x) shows exp2 with next to nothing beside
// it. An error e of exp2 moves lse by e p, where p <= 1/2 is the smaller weight; beside it stand a
// dozen roundings: of x log2(e), of the sum, the logarithm, and m ln2.
TEST_P(Values, TheExponentialIsAsAccurateAsItsDerivation) {
  constexpr std::int64_t kRows = 4096;
  const Problem p{
      .q_len = kRows, .k_len = 2, .dim = 1, .dtype = type(), .scale = 1.0, .want_lse = true};
  std::vector<std::byte> q(kRows * 4), kv(2 * 4);
  for (std::int64_t i = 0; i < kRows; ++i)
    verify::Store(q.data(), type(), i, 2.0 * static_cast<double>(i) / kRows - 1);
  verify::Store(kv.data(), type(), 1, 1);
  Buffers b;
  b.q = q.data();
  b.k = b.v = kv.data();
  const std::vector<double> lse = RunOn(isa(), p, b).Lse();
  const double exp2_error = type() == DType::kBF16 ? 2.8e-6 : 1.1e-7;
  for (std::int64_t i = 0; i < kRows; ++i) {
    const double x = verify::Load(q.data(), type(), i);
    const double weight = 1 / (1 + std::exp(std::fabs(x)));
    const double bound = exp2_error * weight + 12 * 0x1p-24;
    ASSERT_NEAR(lse[static_cast<std::size_t>(i)], std::log1p(std::exp(x)), bound) << "x = " << x;
  }
}

INSTANTIATE_TEST_SUITE_P(Engine, Values,
                         testing::Combine(testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                                          testing::ValuesIn(UsableIsas())),
                         [](const auto& test) {
                           return std::get<1>(test.param) + "_" + Name(std::get<0>(test.param));
                         });

}  // namespace
}  // namespace heed::testing_cpu
