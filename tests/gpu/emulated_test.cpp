// emulated_test.cpp: what `make gpu-test` judges on a GPU, a sample of it on the emulated device: calls of
// the cuda backend whose arrays were copied, with nothing of theirs where it was. Not here: all cases
// (tests/cuda).
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "cuda/emulated_device.h"
#include "gpu/judge.h"

namespace heed::gpu {
namespace {

using cuda::EmulatedDevice;

// Of the small options: with caches, ragged batches, masks; of the small backward calls.
constexpr std::size_t kEvery = 61, kEveryBackward = 97;

class Emulated : public testing::TestWithParam<int> {};

TEST_P(Emulated, CasesAreRightInCopiedArrays) {
  EmulatedDevice::The().Be(GetParam());
  int passed = 0;
  const auto expect = [&](const Verdict& v) {
    if (v.status == verify::CaseStatus::kRefused) {
      // What a GPU must be: sm_75 has no bf16.
      EXPECT_THAT(v.words, testing::HasSubstr("bf16")) << v.name;
      return;
    }
    EXPECT_EQ(v.status, verify::CaseStatus::kPass) << v.name << ": " << v.words;
    ++passed;
  };
  const std::vector<cases::Case> all = cases::Options(cases::Scale::kSmall);
  for (std::size_t n = 0; n < all.size(); n += kEvery)
    expect(JudgeCase(all[n], {.backend = "cuda"}));
  EXPECT_GT(passed, 1);
  const auto backward = testing_backward::BackwardCases(cases::Scale::kSmall);
  passed = 0;
  for (std::size_t n = 0; n < backward.size(); n += kEveryBackward) {
    expect(JudgeBackward(backward[n], {.backend = "cuda"}));
  }
  EXPECT_GT(passed, 0);
  EXPECT_THAT(EmulatedDevice::The().ran, testing::HasSubstr("keys_"));
}

INSTANTIATE_TEST_SUITE_P(Arch, Emulated, testing::Values(750, 800));

TEST(Emulated, WithoutADeviceNothingPasses) {
  EmulatedDevice::The().Be(0);
  const Verdict v = JudgeCase(cases::DenseForwardReduced().front(), {.backend = "cuda"});
  EXPECT_EQ(v.status, verify::CaseStatus::kRefused);
  EXPECT_THAT(v.words, testing::HasSubstr("no CUDA device"));
}

}  // namespace
}  // namespace heed::gpu
