// forward_index_test.cpp: index arrays in device memory that hold anything: kernels stay within the
// buffers of the call, and end. What they compute is then of no interest.
#include <gtest/gtest.h>

#include <random>

#include "cases_axes.h"
#include "cases_run.h"
#include "options/options_testing.h"

namespace heed::cuda {
namespace {

using namespace cases;

TEST(Index, NonsenseStaysInside) {
  EmulatedDevice& device = EmulatedDevice::The();
  const std::vector<std::vector<std::pair<AxisId, int>>> kinds = {
      {{kRagged, 1}},
      {{kRagged, 1}, {kKeyLengths, 1}, {kCausal, 1}},
      {{kKeyLengths, 1}, {kWindow, 3}},
      {{kAlign, 3}, {kCausal, 1}},
      {{kCache, 1}, {kAppend, 2}},
      {{kCache, 1}, {kAppend, 1}, {kBatchIdx, 1}, {kLeftPad, 1}},
      {{kCache, 3}, {kAppend, 2}, {kLeftPad, 1}, {kCausal, 1}},
      {{kCache, 3}, {kAppend, 2}, {kRotary, 1}},
      {{kCache, 4}, {kResults, 2}},
  };
  std::mt19937 random(7);
  int seed = 0;
  for (const auto& options : kinds) {
    for (const DType dtype : {DType::kF16, DType::kF32}) {
      Choice choice(kAxisCount, 0);
      choice[kDType] = dtype == DType::kF16 ? 2 : 0;
      choice[kBatch] = 2;
      choice[kHeads] = 2;
      choice[kLengths] = 3;
      for (const auto& [axis, value] : options) choice[axis] = value;
      if (!Allowed(choice)) ADD_FAILURE() << "not a case";
      for (int n = 0; n < 6; ++n) {
        Sample sample = MakeSample(CaseOf(choice, Scale::kTest, ++seed));
        SpoilArrays(&sample, &random);
        device.arrays_are_wrong = true;
        UnderSchedule(n % 3, n % 2 == 0 ? 800 : 750, [&] {
          const testing_options::Output out = testing_options::RunOn({"cuda", "auto"}, sample);
          EXPECT_TRUE(out.status.ok()) << out.status.message();
        });
        device.arrays_are_wrong = false;
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace heed::cuda
