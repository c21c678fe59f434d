// forward_index_test.cpp: index arrays in device memory that hold anything: kernels stay within the
// buffers of the call, and end. What they compute is then of no interest.
#include <gtest/gtest.h>

#include "nonsense.h"
#include "options/options_testing.h"

namespace heed::cuda {
namespace {

using namespace cases;

TEST(Index, NonsenseStaysInside) {
  const Kinds kinds = {
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
  RunNonsense(
      kinds, 6, [](const Case& c, int) { return MakeSample(c); }, std::identity(),
      [](Sample& sample) {
        const testing_options::Output out = testing_options::RunOn({"cuda", "auto"}, sample);
        EXPECT_TRUE(out.status.ok()) << out.status.message();
      });
}

}  // namespace
}  // namespace heed::cuda
