// overlap_test.cpp: Share against marking every byte, over thousands of small strided views.
#include "problem/overlap.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace heed {
namespace {

std::set<std::uintptr_t> BytesOf(const Region& r) {
  std::set<std::uintptr_t> bytes;
  const Axis* a = r.view.axes;
  for (std::int64_t w = 0; w < a[0].size; w++)
    for (std::int64_t x = 0; x < a[1].size; x++)
      for (std::int64_t y = 0; y < a[2].size; y++)
        for (std::int64_t z = 0; z < a[3].size; z++) {
          const std::int64_t at =
              w * a[0].stride + x * a[1].stride + y * a[2].stride + z * a[3].stride;
          for (std::int64_t n = 0; n < r.view.run * r.bytes; n++) {
            bytes.insert(r.base + static_cast<std::uintptr_t>(at * r.bytes + n));
          }
        }
  return bytes;
}

bool ReallyShare(const Region& a, const Region& b) {
  const std::set<std::uintptr_t> mine = BytesOf(a);
  for (const std::uintptr_t byte : BytesOf(b)) {
    if (mine.count(byte)) return true;
  }
  return false;
}

Region At(std::uintptr_t base, const View& view, std::int64_t bytes) {
  Region r = {"", base, 0, 0, view, bytes, false};
  Measure(&r);
  return r;
}

TEST(Measure, CoversEveryElement) {
  const Region r = At(1000, {{{1, 0}, {2, -10}, {3, 4}, {2, 0}}, 2}, 4);
  EXPECT_EQ(r.first, 1000u - 40);
  EXPECT_EQ(r.last, 1000u + 4 * (2 * 4 + 2));
  const std::set<std::uintptr_t> bytes = BytesOf(r);
  EXPECT_EQ(*bytes.begin(), r.first);
  EXPECT_EQ(*bytes.rbegin() + 1, r.last);
}

// Any strides: it may say yes where there is no common byte, but never no where there is one.
TEST(Share, NeverMissesACommonByte) {
  std::mt19937 random(1);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  int apart = 0, said_apart = 0;
  for (int n = 0; n < 50000; n++) {
    Region r[2];
    for (Region& region : r) {
      View view;
      view.run = pick(1, 3);
      for (Axis& axis : view.axes) axis = {pick(1, 3), pick(-24, 24)};
      region = At(static_cast<std::uintptr_t>(pick(1000, 1100)), view, pick(1, 2));
    }
    const bool share = ReallyShare(r[0], r[1]);
    if (share) {
      ASSERT_TRUE(Share(r[0], r[1])) << n;
      ASSERT_TRUE(Share(r[1], r[0])) << n;
    } else {
      apart++;
      said_apart += !Share(r[0], r[1]);
      ASSERT_EQ(Share(r[0], r[1]), Share(r[1], r[0])) << n;
    }
  }
  EXPECT_GT(apart, 1000);
  EXPECT_GT(said_apart, apart / 2);  // wild strides are the worst case
}

// Slices of one packed tensor (two indices of one of its axes): exact.
TEST(Share, ExactForSlicesOfOneTensor) {
  const std::int64_t sizes[] = {2, 3, 4, 3, 5};  // the last one contiguous
  for (int axis = 0; axis < 4; axis++) {
    View view;
    view.run = sizes[4];
    std::int64_t stride = sizes[4], step = 0;
    int at = 3;
    for (int a = 3; a >= 0; a--) {
      if (a == axis) {
        step = stride;
      } else {
        view.axes[at--] = {sizes[a], stride};
      }
      stride *= sizes[a];
    }
    view.axes[0] = {1, 0};
    for (std::int64_t i = 0; i < sizes[axis]; i++) {
      for (std::int64_t shift = -2; shift <= 2; shift++) {
        const Region a = At(4096, view, 2);
        const Region b = At(static_cast<std::uintptr_t>(4096 + 2 * (i * step + shift)), view, 2);
        EXPECT_EQ(Share(a, b), ReallyShare(a, b)) << axis << " " << i << " " << shift;
      }
    }
  }
}

// q, k, v of a packed (B, S, Hq + 2 Hk, D): heads of different numbers and widths.
TEST(Share, ExactForGroupedHeads) {
  const std::int64_t d = 4, hq = 4, hk = 2, row = (hq + 2 * hk) * d;
  const View q = {{{1, 0}, {2, 3 * row}, {3, row}, {hq, d}}, d};
  const View k = {{{1, 0}, {2, 3 * row}, {3, row}, {hk, d}}, d};
  for (std::int64_t at = -1; at <= row + 1; at++) {
    const Region a = At(4096, q, 2), b = At(static_cast<std::uintptr_t>(4096 + 2 * at), k, 2);
    EXPECT_EQ(Share(a, b), ReallyShare(a, b)) << at;
  }
}

}  // namespace
}  // namespace heed
