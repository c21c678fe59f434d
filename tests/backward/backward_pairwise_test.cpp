// backward_pairwise_test.cpp: every option with every other one, backward, on every engine and
// instruction set, against float64 with derived bounds. Not here: bits (backward_bits_test.cpp).
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "backward_cases.h"
#include "backward_testing.h"

namespace heed::testing_backward {
namespace {

using namespace cases;

#ifdef HEED_TEST_REDUCED
constexpr Scale kScaleOfTest = Scale::kSmall;
#else
constexpr Scale kScaleOfTest = Scale::kTest;
#endif

const std::vector<BackwardCase>& Cases() {
  static const std::vector<BackwardCase> cases = BackwardCases(kScaleOfTest);
  return cases;
}

// The truth is quadratic in time and serves every engine.
const Expected& KnownOf(const BackwardCase& c, Call& call) {
  static std::map<std::string, Expected> known;
  const auto [at, fresh] = known.try_emplace(c.name());
  if (fresh) at->second = ExpectedOf(call);
  return at->second;
}

class BackwardPairwise : public testing::TestWithParam<std::tuple<BackwardCase, Engine>> {};

TEST_P(BackwardPairwise, IsWithinItsBounds) {
  const auto& [c, engine] = GetParam();
  Call call = MakeCall(c.forward, c.wishes);
  const Gradients gradients = Differentiate(engine, call);
  ASSERT_TRUE(gradients.status.ok());
  ExpectWithin(KnownOf(c, call), gradients, engine.name());
  const Call again = MakeCall(c.forward, c.wishes);
  const Sample &used = call.sample, &fresh = again.sample;
  EXPECT_TRUE(used.q_memory == fresh.q_memory && used.k_memory == fresh.k_memory &&
              used.v_memory == fresh.v_memory && used.bias.bytes == fresh.bias.bytes &&
              used.mask.bytes == fresh.mask.bytes && call.dlse == again.dlse)
      << "inputs were changed";
  ExpectSameBits(call.dout.Values().values, again.dout.Values().values, "dout");
}

INSTANTIATE_TEST_SUITE_P(Options, BackwardPairwise,
                         testing::Combine(testing::ValuesIn(Cases()), testing::ValuesIn(Engines())),
                         [](const auto& test) {
                           return std::get<1>(test.param).name() + "_" +
                                  std::get<0>(test.param).name();
                         });

// Values of the options that can stand together without a cache meet in the list.
TEST(BackwardCasesTest, EveryPairOfOptionsIsThere) {
  std::set<std::array<int, 4>> met;
  for (const BackwardCase& c : Cases()) {
    for (int a = 0; a < static_cast<int>(c.choice.size()); ++a) {
      for (int b = 0; b < a; ++b) {
        met.insert(
            {a, c.choice[static_cast<std::size_t>(a)], b, c.choice[static_cast<std::size_t>(b)]});
      }
    }
  }
  const std::set<int> without = {kCache, kAppend, kBatchIdx, kLeftPad, kRotary, kResults};
  for (int a = 0; a < kAxisCount; ++a) {
    for (int b = 0; b < a; ++b) {
      if (without.count(a) != 0 || without.count(b) != 0) continue;
      const auto size = [](int axis) {
        return static_cast<int>(Axes()[static_cast<std::size_t>(axis)].values.size());
      };
      for (int x = 0; x < size(a); ++x) {
        for (int y = 0; y < size(b); ++y) {
          if (!Together(a, x, b, y)) continue;
          EXPECT_TRUE(met.count({a, x, b, y}) != 0)
              << Axes()[static_cast<std::size_t>(a)].name << " " << x << " with "
              << Axes()[static_cast<std::size_t>(b)].name << " " << y;
        }
      }
    }
  }
}

// So does every value with every choice that the backward has of its own.
TEST(BackwardCasesTest, EveryOptionMeetsEveryWish) {
  std::set<std::array<int, 4>> met;
  for (const BackwardCase& c : Cases()) {
    const Problem& p = c.forward.problem;
    const int wishes[] = {c.wishes.dlse, c.wishes.dbias && p.bias.given, c.wishes.dsinks && p.sinks,
                          c.wishes.f32_grads, static_cast<int>(c.wishes.placement)};
    for (int a = 0; a < static_cast<int>(c.choice.size()); ++a) {
      for (int w = 0; w < 5; ++w)
        met.insert({a, c.choice[static_cast<std::size_t>(a)], w, wishes[w]});
    }
  }
  for (int a = 0; a < kAxisCount; ++a) {
    const Axis& axis = Axes()[static_cast<std::size_t>(a)];
    if (a == kResults || (a >= kCache && a <= kRotary)) continue;
    for (int v = 0; v < static_cast<int>(axis.values.size()); ++v) {
      for (int w = 0; w < 4; ++w) {
        for (const int wish : {0, 1}) {
          const bool possible =
              wish == 0 || !((w == 1 && a == kBias && v == 0) || (w == 2 && a == kSinks && v == 0));
          EXPECT_EQ(met.count({a, v, w, wish}) != 0, possible)
              << axis.name << " " << axis.values[static_cast<std::size_t>(v)] << ", wish " << w
              << " = " << wish;
        }
      }
    }
  }
}

// A call on a cache has no gradient, whatever else is asked for: a sentence, and nothing more.
TEST(BackwardCasesTest, CachesAreRefusedInASentence) {
  int caches = 0;
  for (const Choice& choice : PairwiseChoices()) {
    Problem p = CaseOf(choice, Scale::kSmall, 1).problem;
    if (!p.cache.given) continue;
    ++caches;
    p.op = Op::kBackward;
    p.want_probs = false;
    const Status status = Validate(p);
    EXPECT_EQ(status.code(), StatusCode::kInvalid);
    EXPECT_NE(status.message().find("a call on a KV cache has no gradient"), std::string::npos)
        << status.message();
    for (const Engine& engine : Engines()) {
      EXPECT_FALSE(MakePlan(p, {.backend = engine.backend, .isa = engine.isa}));
    }
  }
  EXPECT_GT(caches, 50);
}

}  // namespace
}  // namespace heed::testing_backward
