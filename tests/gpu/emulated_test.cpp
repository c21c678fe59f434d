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

constexpr std::size_t kEvery = 61;  // of the small options: with caches, ragged batches, masks

class Emulated : public testing::TestWithParam<int> {};

TEST_P(Emulated, CasesAreRightInCopiedArrays) {
  EmulatedDevice::The().Be(GetParam());
  const std::vector<cases::Case> all = cases::Options(cases::Scale::kSmall);
  int passed = 0;
  for (std::size_t n = 0; n < all.size(); n += kEvery) {
    const Verdict v = JudgeCase(all[n], {.backend = "cuda"});
    if (v.status == verify::CaseStatus::kRefused) {
      // What a GPU must be: sm_75 has no bf16.
      EXPECT_THAT(v.words, testing::HasSubstr("bf16")) << all[n].name;
      continue;
    }
    EXPECT_EQ(v.status, verify::CaseStatus::kPass) << all[n].name << ": " << v.words;
    ++passed;
  }
  EXPECT_GT(passed, 1);
  EXPECT_FALSE(EmulatedDevice::The().ran.empty());
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
