// schedule_test.cpp: the cuts of the work: every (b, h, i) exactly once, in the order that is
// promised.
#include "problem/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
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

// ---------------------------------------------------------------- the backward's keys

struct Cut {
  std::int64_t most, step;
};
// What instruction sets ask for, and two that divide nothing evenly.
constexpr Cut kCuts[] = {{256, 16}, {256, 8}, {192, 16}, {96, 16},
                         {128, 4},  {64, 4},  {21, 7},   {5, 1}};
constexpr std::int64_t kMostKeys = 3000;

// The blocks of one part, in its order.
std::vector<std::int64_t> BlocksOf(const KeyCut& cut, std::int64_t part) {
  std::vector<std::int64_t> blocks;
  for (std::int64_t n = 0; n * cut.parts < cut.blocks && cut.Block(part, n) < cut.blocks; n++)
    blocks.push_back(cut.Block(part, n));
  return blocks;
}

TEST(CutKeys, EveryKeyInOneBlockOfOnePart) {
  for (const auto& [most, step] : kCuts)
    for (std::int64_t n = 2; n <= 2 * kMostKeys; n++) {
      const std::int64_t sk = n / 2;
      const KeyCut cut = CutKeys(sk, most, step, n % 2);
      std::vector<int> seen(sk);
      for (std::int64_t part = 0; part < cut.parts; part++)
        for (const std::int64_t block : BlocksOf(cut, part)) {
          ASSERT_GE(block, 0);
          ASSERT_LT(block * cut.keys, sk) << "an empty block";
          for (std::int64_t j = block * cut.keys; j < Min((block + 1) * cut.keys, sk); j++)
            seen[j]++;
        }
      ASSERT_EQ(std::count(seen.begin(), seen.end(), 1), sk) << sk << " keys, at most " << most;
    }
}

TEST(CutKeys, BlocksFitAndPartsAreFew) {
  for (const auto& [most, step] : kCuts)
    for (std::int64_t sk = 1; sk <= kMostKeys; sk++) {
      const KeyCut cut = CutKeys(sk, most, step);
      ASSERT_TRUE(cut.keys > 0 && cut.keys <= most) << sk;
      ASSERT_EQ(cut.keys % step, 0) << sk;
      ASSERT_TRUE(cut.parts >= 1 && cut.parts <= kMostParts && cut.parts <= cut.blocks) << sk;
      // Longer sequences never have fewer parts, or two threads would wait for one.
      ASSERT_GE(CutKeys(sk + 1, most, step).parts, cut.parts) << sk;
      // What is set aside for the longest sequence holds the blocks of every shorter one.
      ASSERT_LE(cut.blocks, MostBlocks(sk, most)) << sk;
      ASSERT_LE(MostBlocks(sk, most), MostBlocks(sk + 1, most)) << sk;
      // Numbers of blocks differ by one at most, and where step allows it not at all.
      const auto first = BlocksOf(cut, 0).size();
      for (std::int64_t part = 0; part < cut.parts; part++) {
        const auto count = BlocksOf(cut, part).size();
        ASSERT_LE(std::max(first, count) - std::min(first, count), 1u) << sk;
        if (cut.blocks % cut.parts == 0) {
          ASSERT_EQ(count, first) << sk;
        }
      }
    }
  EXPECT_EQ(CutKeys(0, 256, 16).parts, 0);
  EXPECT_EQ(CutKeys(0, 256, 16).blocks, 0);
}

// Sizes that were measured: a block more or less of them changes bits and speed.
TEST(CutKeys, OfCommonLengths) {
  const auto same = [](const KeyCut& a, const KeyCut& b) {
    return a.keys == b.keys && a.blocks == b.blocks && a.parts == b.parts;
  };
  EXPECT_TRUE(same(CutKeys(200, 256, 16), {208, 1, 1}));
  EXPECT_TRUE(same(CutKeys(512, 256, 16), {256, 2, 1}));
  EXPECT_TRUE(same(CutKeys(1024, 256, 16), {256, 4, 2}));
  EXPECT_TRUE(same(CutKeys(2048, 256, 16), {256, 8, 4}));
  EXPECT_TRUE(same(CutKeys(8192, 256, 16), {256, 32, 8}));
  EXPECT_TRUE(same(CutKeys(1025, 256, 16), {176, 6, 2}));
}

// In a causal square key j is seen by sk - j queries. Two rounds, forth and back, give all parts
// the same; what is left of a last round, or of its missing blocks, is less than `parts` blocks' square.
// Dealt forth only, parts would be apart by that in every second round.
TEST(CutKeys, PartsOfACausalSquareAreEquallyLong) {
  for (const auto& [most, step] : kCuts)
    for (std::int64_t sk = 1; sk <= kMostKeys; sk++) {
      const KeyCut cut = CutKeys(sk, most, step);
      std::int64_t least = INT64_MAX, largest = 0;
      for (std::int64_t part = 0; part < cut.parts; part++) {
        std::int64_t pairs = 0;
        for (const std::int64_t block : BlocksOf(cut, part)) {
          const std::int64_t from = block * cut.keys, to = Min(from + cut.keys, sk);
          pairs += (to - from) * (2 * sk - from - to + 1) / 2;
        }
        least = Min(least, pairs);
        largest = Max(largest, pairs);
      }
      ASSERT_LE(largest - least, cut.parts * cut.keys * cut.keys) << sk << " keys, " << most;
      if (sk % (2 * cut.parts * cut.keys) == 0) {
        ASSERT_EQ(largest, least) << sk;
      }
    }
}

TEST(CutKeys, PartsOfANarrowBandAreEquallyLong) {
  for (const auto& [most, step] : kCuts)
    for (std::int64_t sk = 16; sk <= kMostKeys; sk += 7) {
      const Visibility band = {sk, sk, 0, sk / 8, 0, 0, 0};
      ASSERT_TRUE(IsNarrowBand(band));
      const KeyCut cut = CutKeys(sk, most, step, true);
      std::int64_t least = INT64_MAX, largest = 0;
      for (std::int64_t part = 0; part < cut.parts; part++) {
        std::int64_t pairs = 0;
        for (const std::int64_t block : BlocksOf(cut, part))
          for (std::int64_t j = block * cut.keys; j < Min((block + 1) * cut.keys, sk); j++)
            pairs += QueriesOf(band, j).size();
        least = Min(least, pairs);
        largest = Max(largest, pairs);
      }
      // The blocks that the last parts lack, and the corner that the last keys' queries lack.
      const std::int64_t width = sk / 8 + 1;
      const std::int64_t lacking = CeilDiv(cut.blocks, cut.parts) * cut.parts * cut.keys - sk;
      ASSERT_LE(largest - least, lacking * width + width * width / 2) << sk << " keys, " << most;
    }
}

TEST(CutKeys, NarrowBands) {
  const auto narrow = [](std::int64_t sq, std::int64_t sk, std::int64_t left, std::int64_t right,
                         std::int64_t chunk) {
    return IsNarrowBand({sq, sk, sk - sq, left, right, 0, chunk});
  };
  EXPECT_TRUE(narrow(8192, 8192, 255, 0, 0));
  EXPECT_TRUE(narrow(8192, 8192, 1023, 1023, 0));
  EXPECT_TRUE(narrow(8192, 8192, -1, 0, 1024));
  EXPECT_FALSE(narrow(8192, 8192, 4095, 0, 0)) << "later keys are seen by fewer queries";
  EXPECT_FALSE(narrow(8192, 8192, -1, 0, 0));
  EXPECT_FALSE(narrow(1024, 8192, 255, 0, 0)) << "most keys are seen by nobody";
}

static_assert(CeilDiv(0, 3) == 0 && CeilDiv(1, 3) == 1 && CeilDiv(3, 3) == 1 && CeilDiv(4, 3) == 2);
static_assert(ForwardSchedule{1, 1, 5, 2, false}.At(2).rows.last == 5);

}  // namespace
}  // namespace heed
