// backward_index_test.cpp: index arrays in device memory that hold anything, backward: kernels stay within
// the buffers of the call, and end. Not here: the forward's (forward_index_test.cpp).
#include <gtest/gtest.h>

#include "backward/backward_cases.h"
#include "backward/backward_testing.h"
#include "nonsense.h"

namespace heed::cuda {
namespace {

using namespace cases;

TEST(BackwardIndex, NonsenseStaysInside) {
  const Kinds kinds = {
      {{kRagged, 1}, {kBias, 1}, {kSinks, 1}},
      {{kRagged, 1}, {kKeyLengths, 1}, {kCausal, 1}},
      {{kKeyLengths, 1}, {kWindow, 3}, {kMask, 1}},
      {{kAlign, 3}, {kCausal, 1}},
  };
  RunNonsense(
      kinds, 3,
      [](const Case& c, int n) {
        return testing_backward::MakeCall(c, {.dlse = n == 0, .dbias = true, .dsinks = true});
      },
      &testing_backward::Call::sample,
      [](testing_backward::Call& call) {
        const auto gradients = testing_backward::Differentiate({"cuda", "auto"}, call);
        EXPECT_TRUE(gradients.status.ok()) << gradients.status.message();
      });
}

}  // namespace
}  // namespace heed::cuda
