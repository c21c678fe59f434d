// array_test.cpp: ulps, rounding, views and guarded memory: what the comparator stands on.
#include "verify/array.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "verify/guarded.h"
#include "verify/layout.h"

namespace heed::verify {
namespace {

TEST(Ulp, IsTheDistanceOfNeighbours) {
  for (const float x : {1.0f, 1.5f, -3.0f, 1e-30f, 3e38f, 0x1p-126f, 1e-45f}) {
    const float above = std::nextafter(std::fabs(x), 0.0f);
    const double step = static_cast<double>(std::fabs(x)) - static_cast<double>(above);
    EXPECT_TRUE(Ulp(DType::kF32, x) == step || Ulp(DType::kF32, x) == 2 * step) << x;
  }
  EXPECT_EQ(Ulp(DType::kF32, 0), 0x1p-149);
  EXPECT_EQ(Ulp(DType::kBF16, 1), 0x1p-7);
  EXPECT_EQ(Ulp(DType::kBF16, 1.99), 0x1p-7);
  EXPECT_EQ(Ulp(DType::kF16, 2), 0x1p-9);
  EXPECT_EQ(Ulp(DType::kF16, 1e-7), 0x1p-24);
  EXPECT_EQ(Ulp(DType::kBF16, 0), 0x1p-133);
  EXPECT_EQ(UnitRoundoff(DType::kF32), 0x1p-24);
}

TEST(RoundTo, RoundsOnceToNearestEven) {
  EXPECT_EQ(RoundTo(DType::kBF16, 1 + 0x1p-8), 1);
  EXPECT_EQ(RoundTo(DType::kBF16, 1 + 0x1p-8 + 0x1p-40), 1 + 0x1p-7);
  EXPECT_EQ(RoundTo(DType::kF16, 1 + 3 * 0x1p-11), 1 + 0x1p-9);
  EXPECT_TRUE(std::isinf(RoundTo(DType::kF16, 65520)));
}

TEST(Layout, PackedStridesStepOverWhatLiesInside) {
  const Problem p{.batch = 2, .q_len = 3, .k_len = 4, .q_heads = 5, .dim = 6};
  EXPECT_EQ(ViewOf(p, Role::kQ).strides, (std::vector<std::int64_t>{90, 30, 6, 1}));
  Problem heads_first = p;
  heads_first.q_strides = {kPacked, 6, 18};
  EXPECT_EQ(ViewOf(heads_first, Role::kQ).strides, (std::vector<std::int64_t>{90, 6, 18, 1}));
  Problem ragged = p;
  ragged.ragged = true;
  ragged.total_q = 7;
  EXPECT_EQ(ViewOf(ragged, Role::kQ).shape, (std::vector<std::int64_t>{7, 5, 6}));
  EXPECT_EQ(ViewOf(ragged, Role::kLse).shape, (std::vector<std::int64_t>{5, 7}));
}

TEST(Guarded, SeesBytesInZonesAndGapsAndNoOthers) {
  Guarded g({nullptr, DType::kF32, {2, 3}, {5, 1}});
  auto* x = static_cast<float*>(g.data());
  for (const int at : {0, 1, 2, 5, 6, 7}) x[at] = 1;
  EXPECT_EQ(g.Spilled(), 0);
  EXPECT_EQ(g.Values().values, std::vector<double>(6, 1));
  x[3] = 1;  // the gap behind the first row
  EXPECT_EQ(g.Spilled(), 4);
  x[8] = 1;   // behind the last row
  x[-1] = 1;  // in front
  EXPECT_EQ(g.Spilled(), 12);
}

TEST(Guarded, WhatNobodyWroteIsNaN) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    EXPECT_TRUE(std::isnan(Guarded({nullptr, type, {1}, {1}}).Values()[0])) << Name(type);
  }
  EXPECT_NE(Guarded({nullptr, DType::kF32, {0}, {1}}).data(), nullptr);
}

}  // namespace
}  // namespace heed::verify
