// pairwise_test.cpp: every option with every other one, on every engine and instruction set, against
// float64 with derived bounds. Not here: that the list has every pair (cover_test.cpp).
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "cases.h"
#include "options_testing.h"

namespace heed::testing_options {
namespace {

using cases::Case;

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
  const auto& [sample, expected] = KnownOf(c);
  const cases::Sample before = sample;
  const Output out = RunOn(engine, sample);
  ASSERT_TRUE(out.status.ok());
  ExpectWithin(expected, out, engine.name());
  // Inputs, and caches that were passed as copies, are as they were.
  EXPECT_TRUE(sample.q_memory == before.q_memory && sample.k_memory == before.k_memory &&
              sample.v_memory == before.v_memory && sample.bias.bytes == before.bias.bytes &&
              sample.mask.bytes == before.mask.bytes && sample.k_new.bytes == before.k_new.bytes)
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
