// philox_test.cpp: Philox4x32-10 against the vectors published with Random123, and Keep against its
// derived form and chance.
#include "score/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

namespace heed {
namespace {

constexpr bool Same(const Philox4x32& a, const Philox4x32& b) {
  return a.word[0] == b.word[0] && a.word[1] == b.word[1] && a.word[2] == b.word[2] &&
         a.word[3] == b.word[3];
}

// kat_vectors of Random123, philox4x32 10 rounds.
static_assert(Same(Philox({{0, 0, 0, 0}}, 0, 0),
                   {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}),
              "zero counter, zero key");
static_assert(Same(Philox({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff,
                          0xffffffff),
                   {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}),
              "all ones");
static_assert(Same(Philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822,
                          0x299f31d0),
                   {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}),
              "digits of pi");

constexpr std::uint64_t kSeed = 0x299f31d0a4093822, kOffset = 0x03707344;

TEST(Philox, AtRunTimeIsPhiloxAtCompileTime) {
  volatile std::uint32_t word = 0x243f6a88;  // keeps the compiler from knowing the answer
  const Philox4x32 got =
      Philox({{word, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0);
  EXPECT_TRUE(Same(got, {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

// The third vector, its words placed where the contract has them: key (seed low, seed high),
// counter (j/4, i, bh, offset low).
TEST(Keep, ComparesTheWordOfTheCoordinates) {
  const std::int64_t bh = 0x13198a2e, i = 0x85a308d3, j = std::int64_t{0x243f6a88} * 4;
  const std::uint32_t words[] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
  for (int w = 0; w < 4; w++) {
    EXPECT_TRUE(Keep({kSeed, kOffset, words[w]}, bh, i, j + w));  // word >= threshold keeps
    EXPECT_FALSE(Keep({kSeed, kOffset, words[w] + 1}, bh, i, j + w));
  }
}

TEST(Keep, TakesTheHighHalfOfTheOffsetIntoTheKey) {
  const std::uint64_t high = std::uint64_t{0xdeadbeef} << 32;
  for (std::int64_t j = 0; j < 100; j++) {
    EXPECT_EQ(Keep({kSeed ^ high, kOffset | high, 1u << 31}, 5, 6, j),
              Keep({kSeed, kOffset, 1u << 31}, 5, 6, j));
  }
}

TEST(Keep, ThresholdIsTheFloor) {
  EXPECT_EQ(DropoutOf(1, 2, 0).threshold, 0u);
  EXPECT_EQ(DropoutOf(1, 2, 0.5).threshold, 1u << 31);
  EXPECT_EQ(DropoutOf(1, 2, 0.1).threshold, 429496729u);
  EXPECT_EQ(DropoutOf(1, 2, std::nextafter(1.0, 0.0)).threshold, 0xffffffffu);
  EXPECT_EQ(DropoutOf(1, 2, 1e-12).threshold, 0u);
}

TEST(Keep, WithoutDropoutKeepsAll) {
  for (std::int64_t j = 0; j < 1000; j++) EXPECT_TRUE(Keep(DropoutOf(3, 4, 0), 0, 1, j));
}

TEST(KeepFour, IsKeepFourTimes) {
  for (const double p : {0.0, 0.1, 0.5, 0.9}) {
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{21474836487}}) {
      const Dropout d = DropoutOf(42, offset, p);
      for (std::int64_t bh = 0; bh < 5; bh++) {
        for (std::int64_t i = 0; i < 20; i++) {
          for (std::int64_t j = 0; j < 64; j++) {
            ASSERT_EQ((KeepFour(d, bh, i, j / 4) >> (j % 4) & 1) != 0, Keep(d, bh, i, j));
          }
        }
      }
    }
  }
}

// The number kept of n is binomial: six standard deviations are left to chance, once in 5e8.
TEST(Keep, KeepsTheShareItShould) {
  constexpr int kRows = 200, kKeys = 500;
  for (const double p : {0.01, 0.1, 0.3, 0.5, 0.9}) {
    const Dropout d = DropoutOf(7, 0, p);
    int kept = 0;
    for (int i = 0; i < kRows; i++) {
      for (int j = 0; j < kKeys; j++) kept += Keep(d, 3, i, j) ? 1 : 0;
    }
    const double n = kRows * kKeys;
    EXPECT_NEAR(kept, n * (1 - p), 6 * std::sqrt(n * p * (1 - p))) << p;
  }
}

// Two patterns that differ in one coordinate agree on half of the keys, as chance would have it.
TEST(Keep, DependsOnEveryCoordinate) {
  constexpr int kKeys = 10000;
  const Dropout d = DropoutOf(7, 9, 0.5);
  const auto agree = [&](const Dropout& other, std::int64_t bh, std::int64_t i, std::int64_t j0) {
    int same = 0;
    for (int j = 0; j < kKeys; j++) same += Keep(d, 1, 2, j) == Keep(other, bh, i, j0 + j) ? 1 : 0;
    return same;
  };
  const double half = kKeys / 2.0, slack = 6 * std::sqrt(kKeys) / 2;
  EXPECT_NEAR(agree(d, 2, 2, 0), half, slack);
  EXPECT_NEAR(agree(d, 1, 3, 0), half, slack);
  EXPECT_NEAR(agree(d, 1, 2, 1), half, slack);
  for (const Dropout& other :
       {DropoutOf(8, 9, 0.5), DropoutOf(7 | std::uint64_t{1} << 32, 9, 0.5), DropoutOf(7, 10, 0.5),
        DropoutOf(7, 9 | std::uint64_t{1} << 32, 0.5)}) {
    EXPECT_NEAR(agree(other, 1, 2, 0), half, slack);
  }
  EXPECT_EQ(agree(d, 1, 2, 0), kKeys);
}

}  // namespace
}  // namespace heed
