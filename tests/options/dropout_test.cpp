// dropout_test.cpp: what dropout keeps, read off the signs of the probabilities: the same on every
// engine, as often as it should be, another pattern for another seed. Not here: Philox itself
// (tests/score), what dropout does to o (pairwise_test.cpp).
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cases.h"
#include "options_testing.h"

namespace heed::testing_options {
namespace {

using cases::Case;

constexpr std::int64_t kBatch = 2, kHeads = 3, kRows = 97, kKeys = 203;

Case With(double p_drop, std::uint64_t seed, std::uint64_t offset) {
  Case c;
  c.problem = {.batch = kBatch,
               .q_len = kRows,
               .k_len = kKeys,
               .q_heads = kHeads,
               .dim = 16,
               .dropout_p = p_drop,
               .seed = seed,
               .offset = offset,
               .want_lse = true,
               .want_probs = true};
  c.seed = 3;
  return c;
}

// 1 where the probability is kept. Every pair is visible and no p is 0, so every sign is there.
std::vector<int> KeptBy(const Engine& engine, const Case& c, int threads = 2) {
  std::vector<int> kept;
  for (const double p : RunOn(engine, cases::MakeSample(c), threads).Probs()) {
    EXPECT_NE(p, 0);
    kept.push_back(!std::signbit(p));
  }
  return kept;
}

const Engine kReference = {"reference", "auto"};

TEST(Dropout, IsTheSameOnEveryEngine) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const double p_drop : {0.001, 0.1, 0.5, 0.999}) {
      Case c = With(p_drop, 0x0123456789ABCDEF, 0xFEDCBA9876543210);
      c.problem.dtype = type;
      c.problem.out_dtype = DType::kF32;  // p may be below the smallest f16
      const std::vector<int> want = KeptBy(kReference, c);
      for (const Engine& engine : Isas()) {
        EXPECT_EQ(KeptBy(engine, c, 1), want) << engine.name();
        EXPECT_EQ(KeptBy(engine, c, 5), want) << engine.name();
      }
    }
  }
}

// Of n draws of probability q: n q, give or take five standard deviations. The draws are fixed, so
// this never fails by chance; a generator without faults passes but for one seed in millions.
void ExpectCount(std::int64_t count, std::int64_t n, double q, const char* what) {
  const double mean = static_cast<double>(n) * q;
  EXPECT_NEAR(static_cast<double>(count), mean, 5 * std::sqrt(mean * (1 - q))) << what;
}

TEST(Dropout, KeepsAsManyAsItShould) {
  for (const double p_drop : {0.01, 0.1, 0.25, 0.5, 0.9}) {
    SCOPED_TRACE(p_drop);
    const std::vector<int> kept = KeptBy(kReference, With(p_drop, 42, 7));
    const std::int64_t n = static_cast<std::int64_t>(kept.size()), rows = n / kKeys;
    std::int64_t total = 0;
    std::vector<std::int64_t> of_row(static_cast<std::size_t>(rows)), of_key(kKeys);
    for (std::int64_t at = 0; at < n; ++at) {
      const int k = kept[static_cast<std::size_t>(at)];
      total += k;
      of_row[static_cast<std::size_t>(at / kKeys)] += k;
      of_key[static_cast<std::size_t>(at % kKeys)] += k;
    }
    ExpectCount(total, n, 1 - p_drop, "all");
    for (const std::int64_t count : of_row) ExpectCount(count, kKeys, 1 - p_drop, "a row");
    for (const std::int64_t count : of_key) ExpectCount(count, rows, 1 - p_drop, "a key");
    // Rows are independent: the sum of ((count - mean) / deviation)^2 is a chi-square of `rows`
    // degrees of freedom, of mean `rows` and variance 2 rows.
    const double mean = kKeys * (1 - p_drop), variance = mean * p_drop;
    double chi_square = 0;
    for (const std::int64_t count : of_row) {
      chi_square +=
          (static_cast<double>(count) - mean) * (static_cast<double>(count) - mean) / variance;
    }
    EXPECT_NEAR(chi_square, static_cast<double>(rows),
                5 * std::sqrt(2.0 * static_cast<double>(rows)));
  }
}

TEST(Dropout, NeighboursAreIndependent) {
  const double p_drop = 0.3;
  const std::vector<int> kept = KeptBy(kReference, With(p_drop, 42, 7));
  for (const std::int64_t step : {std::int64_t{1}, std::int64_t{4}, kKeys, kKeys * kRows}) {
    std::int64_t both = 0, n = 0;
    for (std::size_t at = 0; at + static_cast<std::size_t>(step) < kept.size(); ++at, ++n) {
      both += kept[at] & kept[at + static_cast<std::size_t>(step)];
    }
    ExpectCount(both, n, (1 - p_drop) * (1 - p_drop), "two neighbours");
  }
}

// Every bit of seed and offset matters, the highest and the lowest of both words.
TEST(Dropout, SeedAndOffsetChangeIt) {
  const double p_drop = 0.3;
  for (const Engine& engine : Engines()) {
    const std::vector<int> want = KeptBy(engine, With(p_drop, 42, 7));
    for (const int bit : {0, 1, 31, 32, 63}) {
      const std::uint64_t flip = std::uint64_t{1} << bit;
      for (const bool seed : {true, false}) {
        const std::vector<int> other =
            KeptBy(engine, With(p_drop, seed ? 42 ^ flip : 42, seed ? 7 : 7 ^ flip));
        std::int64_t differ = 0;
        for (std::size_t n = 0; n < want.size(); ++n) differ += want[n] != other[n];
        ExpectCount(differ, static_cast<std::int64_t>(want.size()), 2 * p_drop * (1 - p_drop),
                    "another pattern");
      }
    }
  }
}

// A pair's draw knows nothing of how long the sequences are.
TEST(Dropout, KnowsOnlyCoordinates) {
  for (const Engine& engine : Engines()) {
    const Case large = With(0.4, 1, 2);
    Case small = large;
    small.problem.q_len = 50;
    small.problem.k_len = 61;
    const std::vector<int> all = KeptBy(engine, large), some = KeptBy(engine, small);
    for (std::int64_t n = 0; n < static_cast<std::int64_t>(some.size()); ++n) {
      const std::int64_t bh = n / (50 * 61), i = n / 61 % 50, j = n % 61;
      ASSERT_EQ(some[static_cast<std::size_t>(n)],
                all[static_cast<std::size_t>((bh * kRows + i) * kKeys + j)])
          << engine.name();
    }
  }
}

}  // namespace
}  // namespace heed::testing_options
