// dropout.h: which probabilities are kept, a score tile at a time: the lane form of score/philox.h.
// Not here: what becomes of those that are not.
#pragma once

#include "cpu/lanes/lanes.h"
#include "score/philox.h"

namespace heed::cpu::HEED_ISA {

// The counter is (j / 4, i, b * Hq + h, offset). The first two rounds multiply either what all lanes
// share or what belongs to a row alone: the row's half is done once, in Set.
//
//   round   words 0..3 after it                     U: of j alone, uniform; R: of the row alone
//     1     R, R (low), U, U                        low = the low half of M1 * (b * Hq + h)
//     2     U ^ low, U, high(R') ^ U, low(R')       R' = M0 * word 0, 64 bits
struct DropoutRows {
  std::uint32_t low[kRows], product_low[kRows], product_high[kRows];

  HEED_INLINE void Set(const Dropout& d, int row, std::uint32_t bh, std::uint32_t i) {
    const std::uint64_t p1 = std::uint64_t{kPhiloxMul1} * bh;
    const std::uint32_t word0 = static_cast<std::uint32_t>(p1 >> 32) ^ i ^ d.key0();
    const std::uint64_t p0 = std::uint64_t{kPhiloxMul0} * word0;
    low[row] = static_cast<std::uint32_t>(p1);
    product_low[row] = static_cast<std::uint32_t>(p0);
    product_high[row] = static_cast<std::uint32_t>(p0 >> 32);
  }
};

using KeepMasks = M[kKeys][kVecs];

// Keys [j, j + kKeys), j a multiple of 4, and vectors [at, at + kCount). The chains of kKeys / 4
// evaluations run side by side: one alone waits for its multiplications.
template <int kCount>
HEED_NOINLINE void KeepTile(const Dropout& d, const DropoutRows& rows, std::int64_t j, int at,
                            KeepMasks& keep) {
  constexpr int kSets = kKeys / 4;
  struct Uniform {
    std::uint32_t x0, word1, x2;
  } uniform[kSets];
  for (int g = 0; g < kSets; g++) {
    const std::uint64_t p0 = std::uint64_t{kPhiloxMul0} * static_cast<std::uint32_t>(j / 4 + g);
    const std::uint32_t word2 = static_cast<std::uint32_t>(p0 >> 32) ^ d.counter3() ^ d.key1();
    const std::uint64_t p1 = std::uint64_t{kPhiloxMul1} * word2;
    uniform[g].x0 = static_cast<std::uint32_t>(p1 >> 32) ^ (d.key0() + kPhiloxAdd0);
    uniform[g].word1 = static_cast<std::uint32_t>(p1);
    uniform[g].x2 = static_cast<std::uint32_t>(p0) ^ (d.key1() + kPhiloxAdd1);
  }
  const Words none = SetWords(0);
  for (int v = 0; v < kCount; v++) {
    const int lane = (at + v) * W;
    Words c[kSets][4];
    HEED_UNROLL for (int g = 0; g < kSets; g++) {
      c[g][0] = XorWords(LoadWords(rows.low + lane), SetWords(uniform[g].x0), none);
      c[g][1] = SetWords(uniform[g].word1);
      c[g][2] = XorWords(LoadWords(rows.product_high + lane), SetWords(uniform[g].x2), none);
      c[g][3] = LoadWords(rows.product_low + lane);
    }
    std::uint32_t key0 = d.key0() + 2 * kPhiloxAdd0, key1 = d.key1() + 2 * kPhiloxAdd1;
    for (int round = 2; round < 10; round++) {
      const Words k0 = SetWords(key0), k1 = SetWords(key1);
      HEED_UNROLL for (int g = 0; g < kSets; g++) {
        const Words p0 = MulWords(c[g][0], kPhiloxMul0), p1 = MulWords(c[g][2], kPhiloxMul1);
        c[g][0] = XorWords(HighWords(p1), c[g][1], k0);
        c[g][1] = p1;
        c[g][2] = XorWords(HighWords(p0), c[g][3], k1);
        c[g][3] = p0;
      }
      key0 += kPhiloxAdd0;
      key1 += kPhiloxAdd1;
    }
    HEED_UNROLL for (int g = 0; g < kSets; g++) HEED_UNROLL for (int w = 0; w < 4; w++)
        keep[4 * g + w][v] = WordsAtLeast(c[g][w], d.threshold);
  }
}

}  // namespace heed::cpu::HEED_ISA
