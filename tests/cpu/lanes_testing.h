// lanes_testing.h: the lanes that can run here, and vectors in which one value stands in every
// lane.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "cpu/machine.h"
#include "lanes_check.h"

namespace heed::cpu {

inline constexpr int kMaxLanes = 16;
inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

inline std::vector<const LanesCheck*> UsableLanes() {
  std::vector<const LanesCheck*> usable;
  const LanesCheck* const built[] = {
#if defined(HEED_HAVE_AVX512BF16)
    &avx512bf16::kLanes,
#endif
#if defined(HEED_HAVE_AVX512)
    &avx512::kLanes,
#endif
#if defined(HEED_HAVE_AVX2)
    &avx2::kLanes,
#endif
#if defined(HEED_HAVE_NEON)
    &neon::kLanes,
#endif
    &scalar::kLanes,
  };
  for (const LanesCheck* lanes : built)
    if (!WhyUnusable(lanes->isa)) usable.push_back(lanes);
  return usable;
}

// One instruction set's lanes; the tests run for each that is usable.
class Lanes : public ::testing::TestWithParam<const LanesCheck*> {
 protected:
  const LanesCheck& lanes = *GetParam();
  const int w = GetParam()->w;

  // The operation of three vectors; a is the value at lane `lane` and an ordinary one elsewhere, so
  // that a lane which leaks into another shows.
  float At(int lane, LaneOp op, float a, float b = 0, float c = 0) const {
    float x[kMaxLanes], y[kMaxLanes], z[kMaxLanes], out[kMaxLanes];
    for (int i = 0; i < w; i++) {
      x[i] = i == lane ? a : 0.25f + static_cast<float>(i);
      y[i] = i == lane ? b : 1.5f;
      z[i] = i == lane ? c : 2.f;
    }
    lanes.floats(op, x, y, z, out);
    return out[lane];
  }
  // The same value in all lanes.
  float All(LaneOp op, float a, float b = 0, float c = 0) const {
    float x[kMaxLanes], y[kMaxLanes], z[kMaxLanes], out[kMaxLanes];
    for (int i = 0; i < w; i++) {
      x[i] = a;
      y[i] = b;
      z[i] = c;
    }
    lanes.floats(op, x, y, z, out);
    for (int i = 1; i < w; i++)
      EXPECT_EQ(std::bit_cast<std::uint32_t>(out[i]), std::bit_cast<std::uint32_t>(out[0]));
    return out[0];
  }
  // Of `n` values, whatever n; op takes one operand.
  std::vector<float> Map(LaneOp op, const std::vector<float>& x) const {
    std::vector<float> padded = x, out(x.size() + kMaxLanes);
    padded.resize(x.size() + kMaxLanes, 1.f);
    for (std::size_t i = 0; i < x.size(); i += static_cast<std::size_t>(w))
      lanes.floats(op, &padded[i], &padded[i], &padded[i], &out[i]);
    out.resize(x.size());
    return out;
  }
};

inline std::string NameOfLanes(const ::testing::TestParamInfo<const LanesCheck*>& info) {
  return info.param->isa;
}

// Equal bits, or both NaN.
inline bool Same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

}  // namespace heed::cpu
