// cases_run.h: a call on the emulated device under its three schedules: where it runs, that all three
// give the same bits. Not here: which calls.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "emulated_device.h"
#include "heed/heed.h"
#include "verify/conformance.h"

namespace heed::cuda {

struct On {
  int arch;
  DType dtype;
  std::string name() const { return "sm_" + std::to_string(arch / 10) + "_" + heed::Name(dtype); }
};

// Every kernel family: f16 on sm_75, all types on sm_80 (f32 has one text for both).
inline std::vector<On> Everywhere() {
  return {{750, DType::kF16}, {800, DType::kF16}, {800, DType::kBF16}, {800, DType::kF32}};
}

// Calls `run` under one schedule, or with kEverySchedule under all; `run` reports what is wrong itself.
// What the device wrote must be the same every time.
constexpr int kEverySchedule = -1;
#ifdef HEED_LONG_TESTS
constexpr bool kLong = true;
inline int ScheduleOf(const std::string&) { return kEverySchedule; }
#else
constexpr bool kLong = false;
inline int ScheduleOf(const std::string& name) {
  return static_cast<int>(std::hash<std::string>()(name) % 3);
}
#endif
template <class F>
void UnderSchedule(int which, int arch, F&& run) {
  EmulatedDevice& device = EmulatedDevice::The();
  device.Be(arch);
  std::uint64_t first = 0;
  const char* const names[] = {"greedy, late", "reverse, early", "random, seed 5"};
  const std::vector<emu::Config> schedules = emu::Schedules(emu::Config{}, 5);
  for (std::size_t n = 0; n < schedules.size(); ++n) {
    if (which != kEverySchedule && which != static_cast<int>(n)) continue;
    SCOPED_TRACE(names[n]);
    device.schedule = schedules[n];
    device.bits = 0;
    run();
    if (testing::Test::HasFailure()) return;
    if (first == 0) first = device.bits;
    ASSERT_EQ(device.bits, first) << "another schedule, other bits";
  }
}

// The files of the conformance cases, and with every place to run them: what a test of them is made of.
inline std::vector<std::string> CasePaths() {
  const Result<std::vector<std::string>> paths =
      verify::ExpandPaths({HEED_SOURCE_DIR "/tests/data/conformance"});
  return paths ? *paths : std::vector<std::string>{};
}
inline auto ConformanceCases() {
  return testing::Combine(testing::ValuesIn(CasePaths()), testing::ValuesIn(Everywhere()));
}
struct ConformanceName {
  std::string operator()(const testing::TestParamInfo<std::tuple<std::string, On>>& test) const {
    return std::get<1>(test.param).name() + "_" +
           std::filesystem::path(std::get<0>(test.param)).stem().string();
  }
};

}  // namespace heed::cuda
