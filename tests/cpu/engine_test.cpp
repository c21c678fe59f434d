// engine_test.cpp: every dense forward case on every usable instruction set, against float64 with
// derived bounds.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cases.h"
#include "engine_testing.h"
#include "verify/compare.h"
#include "verify/guarded.h"
#include "verify/layout.h"
#include "verify/plain.h"
#include "verify/tolerance.h"

namespace heed::testing_cpu {
namespace {

using cases::Case;
using verify::Comparison;

struct Expected {
  verify::Results truth, bounds;
};

// The truth is quadratic in time and serves every instruction set.
const Expected& ExpectedOf(const Case& c, const cases::Sample& sample) {
  static std::map<std::string, Expected> known;
  const auto [at, fresh] = known.try_emplace(c.name);
  if (fresh) {
    at->second.truth = verify::Truth(sample.problem, sample.Inputs());
    at->second.bounds = verify::BoundsFor(sample.problem, sample.Inputs(), at->second.truth);
  }
  return at->second;
}

// The suite with everything is for `make test-long`; it is chosen by the executable that is built.
std::vector<Case> Cases() {
#ifdef HEED_TEST_REDUCED
  return cases::DenseForwardReduced();
#else
  return cases::DenseForward();
#endif
}

class Engine : public testing::TestWithParam<std::tuple<Case, std::string>> {};

TEST_P(Engine, IsWithinItsBounds) {
  const auto& [c, isa] = GetParam();
  const cases::Sample sample = cases::MakeSample(c);
  const cases::Sample before = sample;
  const Output out = RunOn(isa, sample, 2);
  ASSERT_TRUE(out.status.ok());
  EXPECT_TRUE(sample.q_memory == before.q_memory && sample.k_memory == before.k_memory &&
              sample.v_memory == before.v_memory)
      << "inputs were changed";
  const Expected& e = ExpectedOf(c, sample);
  const Comparison o = verify::Compare(e.truth.o, e.bounds.o, out.o.view());
  EXPECT_TRUE(o.passed()) << "o: " << o.Describe();
  RecordProperty("o", std::to_string(o.ratio));
  if (!sample.problem.want_lse) return;
  const Comparison lse = verify::Compare(e.truth.lse, e.bounds.lse, out.lse.view());
  EXPECT_TRUE(lse.passed()) << "lse: " << lse.Describe();
  RecordProperty("lse", std::to_string(lse.ratio));
}

std::string NameOf(const testing::TestParamInfo<std::tuple<Case, std::string>>& test) {
  return std::get<1>(test.param) + "_" + std::get<0>(test.param).name;
}

INSTANTIATE_TEST_SUITE_P(Dense, Engine,
                         testing::Combine(testing::ValuesIn(Cases()),
                                          testing::ValuesIn(UsableIsas())),
                         NameOf);

// What the reference backend says is the same truth, by another program.
TEST(Engine, TruthIsWhatTheReferenceSays) {
  for (const Case& c : cases::DenseForwardReduced()) {
    const cases::Sample sample = cases::MakeSample(c);
    if (sample.problem.batch * sample.problem.q_len * sample.problem.dim_v == 0) continue;
    verify::Guarded o(verify::ViewOf(sample.problem, verify::Role::kO));
    verify::Guarded lse(verify::ViewOf(sample.problem, verify::Role::kLse));
    Buffers b = sample.Inputs();
    b.o = o.data();
    if (sample.problem.want_lse) b.lse = static_cast<float*>(lse.data());
    const Status status = Forward(sample.problem, b, {.backend = "reference"});
    ASSERT_TRUE(status.ok()) << status.message();
    const Expected& e = ExpectedOf(c, sample);
    const Comparison comparison = verify::Compare(e.truth.o, e.bounds.o, o.view());
    EXPECT_TRUE(comparison.passed()) << c.name << ": " << comparison.Describe();
  }
}

}  // namespace
}  // namespace heed::testing_cpu
