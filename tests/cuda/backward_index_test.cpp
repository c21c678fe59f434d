// backward_index_test.cpp: index arrays in device memory that hold anything, backward: kernels stay within
// the buffers of the call, and end. Not here: the forward's (forward_index_test.cpp).
#include <gtest/gtest.h>

#include <random>

#include "backward/backward_cases.h"
#include "backward/backward_testing.h"
#include "cases_axes.h"
#include "cases_run.h"

namespace heed::cuda {
namespace {

using namespace cases;

TEST(BackwardIndex, NonsenseStaysInside) {
  EmulatedDevice& device = EmulatedDevice::The();
  const std::vector<std::vector<std::pair<AxisId, int>>> kinds = {
      {{kRagged, 1}, {kBias, 1}, {kSinks, 1}},
      {{kRagged, 1}, {kKeyLengths, 1}, {kCausal, 1}},
      {{kKeyLengths, 1}, {kWindow, 3}, {kMask, 1}},
      {{kAlign, 3}, {kCausal, 1}},
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
      for (int n = 0; n < 3; ++n) {
        testing_backward::Call call = testing_backward::MakeCall(
            CaseOf(choice, Scale::kTest, ++seed), {.dlse = n == 0, .dbias = true, .dsinks = true});
        SpoilArrays(&call.sample, &random);
        device.arrays_are_wrong = true;
        UnderSchedule(n, n % 2 == 0 ? 800 : 750, [&] {
          const auto gradients = testing_backward::Differentiate({"cuda", "auto"}, call);
          EXPECT_TRUE(gradients.status.ok()) << gradients.status.message();
        });
        device.arrays_are_wrong = false;
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace heed::cuda
