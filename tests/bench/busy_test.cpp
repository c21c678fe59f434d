// busy_test.cpp: when a measured peak is taken for this machine's, and what is said when it is not.
#include "bench/busy.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace heed::bench {
namespace {

PeakSamples Steady() {
  return {.before = 100e9, .after = 98e9, .between = {97e9, 60e9, 99e9, 98e9}};
}

TEST(Peak, OfAnIdleMachineIsTaken) {
  EXPECT_TRUE(CheckPeak(Steady(), 0, true));
  EXPECT_TRUE(CheckPeak(Steady(), 124e9, true));
  EXPECT_TRUE(CheckPeak({}, 100e9, true)) << "there is no probe";
  EXPECT_EQ(Steady().best(), 100e9);
  EXPECT_EQ(Steady().least(), 98e9);
}

TEST(Peak, FarBelowTheUsualOneIsRefused) {
  const Status status = CheckPeak(Steady(), 126e9, false);
  EXPECT_EQ(status.code(), StatusCode::kRefused);
  EXPECT_EQ(
      status.message(),
      "the peak measured beside the calls is 100.0 GFLOP/s, less than 0.8 of 126.0 GFLOP/s, which "
      "this machine usually has: the machine is busy with other work, and a share of such a peak "
      "means nothing; wait until it is idle, or say --any-peak");
}

TEST(Peak, ThatFallsDuringTheCallsIsRefused) {
  PeakSamples before = Steady(), between = Steady(), after = Steady();
  before.before = 70e9;
  between.between = {70e9, 100e9, 70e9, 71e9};
  after.after = 79e9;
  for (const PeakSamples& samples : {before, between, after}) {
    const Status status = CheckPeak(samples, 0, true);
    EXPECT_NE(status.message().find("GFLOP/s and once 7"), std::string::npos) << status.message();
    EXPECT_TRUE(CheckPeak(samples, 0, false)) << "of a short look";
  }
  between.between = {70e9, 70e9};  // two windows may both be unlucky
  EXPECT_TRUE(CheckPeak(between, 0, true));
}

TEST(Peak, OfAThreadThatWaitsForAProcessorIsRefused) {
  PeakSamples samples = Steady();
  samples.processor = 0.79;
  EXPECT_NE(CheckPeak(samples, 0, true).message().find("for 79 % of their time"),
            std::string::npos);
  samples.processor = 0.81;
  EXPECT_TRUE(CheckPeak(samples, 0, true));
}

}  // namespace
}  // namespace heed::bench
