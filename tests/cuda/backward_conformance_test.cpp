// backward_conformance_test.cpp: every conformance case with gradients through the cuda backend, its
// kernels in the emulator: within its bounds, nothing touched that is not the call's; under one of the three
// schedules, with HEED_LONG_TESTS under all, which must give the same bits.
#include <gtest/gtest.h>

#include <tuple>

#include "cases_run.h"
#include "verify/conformance.h"

namespace heed::cuda {
namespace {

class Conformance : public testing::TestWithParam<std::tuple<std::string, On>> {};

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

INSTANTIATE_TEST_SUITE_P(Cases, Conformance, ConformanceCases(), ConformanceName());

}  // namespace
}  // namespace heed::cuda
