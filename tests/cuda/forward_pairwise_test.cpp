// forward_pairwise_test.cpp: every option with every other one through the cuda backend, its kernels in
// the emulator, against float64 with derived bounds: under one of the three schedules in turn,
// or, with HEED_LONG_TESTS, under all, which must give the same bits. Not here: that the list has every
// pair (tests/options/cover_test.cpp).
#include <gtest/gtest.h>

#include "cases.h"
#include "cases_run.h"
#include "options/options_testing.h"

namespace heed::cuda {
namespace {

using cases::Case;
using testing_options::Engine;

struct Where {
  Case c;
  int arch;
  int schedule;
};

// Each case on the newest architecture, f16 also on the oldest: without HEED_LONG_TESTS on either in turn.
std::vector<Where> All() {
  std::vector<Where> all;
  int turn = 0;
  const auto add = [&](const Case& c, int arch) {
    all.push_back({c, arch, kLong ? kEverySchedule : turn++ % 3});
  };
  int halves = 0;
  for (const Case& c : cases::Options(cases::Scale::kTest)) {
    const bool half = c.problem.dtype == DType::kF16;
    const bool older = half && (kLong || ++halves % 2 == 0);
    if (kLong || !older) add(c, 800);
    if (older) add(c, 750);
  }
  return all;
}

void PrintTo(const Where& w, std::ostream* out) { *out << w.c.name; }

class Pairwise : public testing::TestWithParam<Where> {};

TEST_P(Pairwise, IsWithinItsBounds) {
  const Where& w = GetParam();
  const auto& [sample, expected] = testing_options::KnownOf(w.c);
  UnderSchedule(w.schedule, w.arch, [&sample = sample, &expected = expected] {
    const testing_options::Output out = testing_options::RunOn(Engine{"cuda", "auto"}, sample);
    if (out.status) testing_options::ExpectWithin(expected, out, "cuda");
  });
}

INSTANTIATE_TEST_SUITE_P(Options, Pairwise, testing::ValuesIn(All()), [](const auto& test) {
  return "sm_" + std::to_string(test.param.arch / 10) + "_" + test.param.c.name;
});

}  // namespace
}  // namespace heed::cuda
