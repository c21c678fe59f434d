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

INSTANTIATE_TEST_SUITE_P(Engine, Values,
                         testing::Combine(testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                                          testing::ValuesIn(UsableIsas())),
                         [](const auto& test) {
                           return std::get<1>(test.param) + "_" + Name(std::get<0>(test.param));
                         });

}  // namespace
}  // namespace heed::testing_cpu
