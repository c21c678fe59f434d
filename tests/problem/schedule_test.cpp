// schedule_test.cpp: the cuts of the work: every (b, h, i) exactly once, in the order that is
// promised.
#include "problem/schedule.h"

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

namespace heed {
namespace {

TEST(ForwardSchedule, EveryRowExactlyOnce) {
  for (std::int64_t batch = 0; batch <= 3; batch++)
    for (std::int64_t heads = 1; heads <= 3; heads++)
      for (std::int64_t q_len = 0; q_len <= 13; q_len++)
        for (std::int64_t tile = 1; tile <= 6; tile++)
          for (const bool reverse : {false, true}) {
            const ForwardSchedule s = {batch, heads, q_len, tile, reverse};
            std::vector<int> seen(batch * heads * q_len);
            for (std::int64_t n = 0; n < s.items(); n++) {
              const Item item = s.At(n);
              ASSERT_TRUE(item.b >= 0 && item.b < batch && item.h >= 0 && item.h < heads);
              ASSERT_TRUE(item.rows.first >= 0 && item.rows.last <= q_len);
              ASSERT_EQ(item.rows.first % tile, 0);
              ASSERT_GT(item.rows.size(), 0);
              ASSERT_LE(item.rows.size(), tile);
              for (std::int64_t i = item.rows.first; i < item.rows.last; i++) {
                seen[(item.b * heads + item.h) * q_len + i]++;
              }
            }
            for (const int count : seen) ASSERT_EQ(count, 1);
          }
}

TEST(ForwardSchedule, ConsecutiveItemsAreConsecutiveTilesOfOneHead) {
  for (const bool reverse : {false, true}) {
    const ForwardSchedule s = {2, 3, 10, 4, reverse};
    for (std::int64_t n = 1; n < s.items(); n++) {
      const Item before = s.At(n - 1), now = s.At(n);
      if (now.b == before.b && now.h == before.h) {
        EXPECT_EQ(now.rows.first - before.rows.first, reverse ? -4 : 4);
      } else {
        EXPECT_EQ(now.b * 3 + now.h, before.b * 3 + before.h + 1);
      }
    }
  }
}

TEST(ForwardSchedule, HeavierTilesFirst) {
  const Visibility causal = {.sq = 10, .sk = 10, .right = 0};
  const ForwardSchedule s = {1, 1, 10, 4, LaterRowsSeeMore(causal)};
  std::int64_t last = INT64_MAX;
  for (std::int64_t n = 0; n < s.items(); n++) {
    const std::int64_t keys = Band(causal, s.At(n).rows.last - 1).size();
    EXPECT_LE(keys, last);
    last = keys;
  }
  EXPECT_FALSE(LaterRowsSeeMore({.sq = 10, .sk = 10}));
  EXPECT_FALSE(LaterRowsSeeMore({.sq = 10, .sk = 10, .left = 2, .right = 0}));
  EXPECT_FALSE(LaterRowsSeeMore({.sq = 10, .sk = 10, .left = 2}));
}

void CheckRagged(const std::vector<std::int32_t>& lengths, std::int64_t heads, std::int64_t tile,
                 bool reverse) {
  std::vector<std::int32_t> cu = {0};
  for (const std::int32_t length : lengths) cu.push_back(cu.back() + length);
  const RaggedForwardSchedule s = {
      static_cast<std::int64_t>(lengths.size()), heads, cu.back(), tile, cu.data(), reverse};
  std::vector<int> seen(heads * cu.back());
  std::int64_t last_sequence = 0;
  for (std::int64_t n = 0; n < s.items(); n++) {
    const Item item = s.At(n);
    ASSERT_TRUE(item.b >= last_sequence && item.b < s.batch && item.h >= 0 && item.h < heads);
    last_sequence = item.b;
    ASSERT_TRUE(item.rows.first >= 0 && item.rows.last <= lengths[item.b]);
    ASSERT_LE(item.rows.size(), tile);
    for (std::int64_t i = item.rows.first; i < item.rows.last; i++) {
      seen[item.h * cu.back() + cu[item.b] + i]++;
    }
  }
  for (const int count : seen) ASSERT_EQ(count, 1);
}

TEST(RaggedForwardSchedule, EveryRowExactlyOnce) {
  for (std::int64_t tile = 1; tile <= 5; tile++)
    for (const bool reverse : {false, true})
      for (std::int64_t heads = 1; heads <= 3; heads++) {
        CheckRagged({}, heads, tile, reverse);
        for (std::int32_t a = 0; a <= 7; a++)
          for (std::int32_t b = 0; b <= 7; b++)
            for (std::int32_t c = 0; c <= 7; c++) CheckRagged({a, b, c}, heads, tile, reverse);
      }
}

TEST(RaggedForwardSchedule, FewItemsAreEmpty) {
  // At most one of every (sequence, head), whatever the lengths.
  const std::int32_t cu[] = {0, 5, 5, 13, 20};
  const RaggedForwardSchedule s = {4, 2, 20, 4, cu, false};
  std::int64_t empty = 0;
  for (std::int64_t n = 0; n < s.items(); n++) empty += s.At(n).rows.empty();
  EXPECT_EQ(s.items(), 18);
  EXPECT_LE(empty, 8);
}

static_assert(CeilDiv(0, 3) == 0 && CeilDiv(1, 3) == 1 && CeilDiv(3, 3) == 1 && CeilDiv(4, 3) == 2);
static_assert(ForwardSchedule{1, 1, 5, 2, false}.At(2).rows.last == 5);

}  // namespace
}  // namespace heed
