// backward_conformance_test.cpp: every conformance case with gradients through the cuda backend, its
// kernels in the emulator: within its bounds, nothing touched that is not the call's; in two of four
// places in turn and under one of the three schedules, with HEED_LONG_TESTS everywhere and under all,
// which must give the same bits.
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "cases_run.h"
#include "verify/conformance.h"

namespace heed::cuda {
namespace {

using Where = std::tuple<std::string, On>;

// sm_75 and f32 of one file, sm_80 with f16 and bf16 of the next.
std::vector<Where> All() {
  std::vector<Where> all;
  int turn = 0;
  for (const std::string& path : CasePaths()) {
    for (const On& on : Everywhere()) {
      const bool even = on.arch == 750 || on.dtype == DType::kF32;
      if (kLong || even == (turn % 2 == 0)) all.emplace_back(path, on);
    }
    ++turn;
  }
  return all;
}

class Conformance : public testing::TestWithParam<Where> {};

TEST_P(Conformance, BackwardIsWithinItsBounds) {
  const auto& [path, on] = GetParam();
  const Result<verify::CaseFile> file = verify::ReadCase(path, on.dtype);
  ASSERT_TRUE(file.ok()) << file.status().message();
  if (file->problem.dim > 256 || file->problem.dim_v > 256) return;  // the forward's test says so
  const verify::RunOptions options = {
      .plan = {.backend = "cuda"}, .dtype = on.dtype, .backward = true};
  UnderSchedule(ScheduleOf(path), on.arch, [&] {
    const verify::CaseResult r = verify::RunCase(*file, options);
    EXPECT_EQ(r.status, verify::CaseStatus::kPass) << r.reason;
    EXPECT_LE(r.ratio, 1);
  });
}

INSTANTIATE_TEST_SUITE_P(Cases, Conformance, testing::ValuesIn(All()), ConformanceName());

}  // namespace
}  // namespace heed::cuda
