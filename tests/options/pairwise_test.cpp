// pairwise_test.cpp: every option with every other one, on every engine and instruction set, against
// float64 with derived bounds. Not here: that the list has every pair (cover_test.cpp).
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "cases.h"
#include "options_testing.h"

namespace heed::testing_options {
namespace {

using cases::Case;

// The truth is quadratic in time and serves every engine.
const Expected& KnownOf(const Case& c, const cases::Sample& sample) {
  static std::map<std::string, Expected> known;
  const auto [at, fresh] = known.try_emplace(c.name);
  if (fresh) at->second = ExpectedOf(sample.problem, sample.Inputs());
  return at->second;
}

std::vector<Case> Cases() {
#ifdef HEED_TEST_REDUCED
  return cases::Options(cases::Scale::kSmall);
#else
  return cases::Options(cases::Scale::kTest);
#endif
}

class Pairwise : public testing::TestWithParam<std::tuple<Case, Engine>> {};

TEST_P(Pairwise, IsWithinItsBounds) {
  const auto& [c, engine] = GetParam();
  const cases::Sample sample = cases::MakeSample(c);
  const Output out = RunOn(engine, sample);
  ASSERT_TRUE(out.status.ok());
  ExpectWithin(KnownOf(c, sample), out, engine.name());
  // Inputs, and caches that were passed as copies, are as they were.
  const cases::Sample again = cases::MakeSample(c);
  EXPECT_TRUE(sample.q_memory == again.q_memory && sample.k_memory == again.k_memory &&
              sample.v_memory == again.v_memory && sample.bias.bytes == again.bias.bytes &&
              sample.mask.bytes == again.mask.bytes && sample.k_new.bytes == again.k_new.bytes)
      << "inputs were changed";
}

INSTANTIATE_TEST_SUITE_P(Options, Pairwise,
                         testing::Combine(testing::ValuesIn(Cases()), testing::ValuesIn(Engines())),
                         [](const auto& test) {
                           return std::get<1>(test.param).name() + "_" +
                                  std::get<0>(test.param).name;
                         });

}  // namespace
}  // namespace heed::testing_options
