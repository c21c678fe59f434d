// philox.h: which probabilities dropout keeps, a function of (seed, offset, b, h, i, j) alone.
// Philox4x32-10 (Salmon et al. 2011, the generator of Random123). Not here: what is done with the
// answer; vectors (each engine has its own derived form).
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define HEED_PHILOX_FN __host__ __device__ __forceinline__
#else
#define HEED_PHILOX_FN [[gnu::always_inline]] inline
#endif

namespace heed {

inline constexpr std::uint32_t kPhiloxMul0 = 0xD2511F53, kPhiloxMul1 = 0xCD9E8D57;
inline constexpr std::uint32_t kPhiloxAdd0 = 0x9E3779B9,
                               kPhiloxAdd1 = 0xBB67AE85;  // golden ratio, sqrt(3) - 1

struct Philox4x32 {
  std::uint32_t word[4];
};

// Ten rounds; the key grows by the two constants before each but the first.
HEED_PHILOX_FN constexpr Philox4x32 Philox(Philox4x32 counter, std::uint32_t key0,
                                           std::uint32_t key1) {
  Philox4x32 c = counter;
  for (int round = 0; round < 10; round++) {
    const std::uint64_t p0 = std::uint64_t{kPhiloxMul0} * c.word[0];
    const std::uint64_t p1 = std::uint64_t{kPhiloxMul1} * c.word[2];
    c = {{static_cast<std::uint32_t>(p1 >> 32) ^ c.word[1] ^ key0, static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ c.word[3] ^ key1, static_cast<std::uint32_t>(p0)}};
    key0 += kPhiloxAdd0;
    key1 += kPhiloxAdd1;
  }
  return c;
}

// The dropout of one call.
struct Dropout {
  std::uint64_t seed = 0, offset = 0;
  std::uint32_t threshold = 0;  // floor(p * 2^32): a word below it drops

  HEED_PHILOX_FN constexpr std::uint32_t key0() const { return static_cast<std::uint32_t>(seed); }
  HEED_PHILOX_FN constexpr std::uint32_t key1() const {
    return static_cast<std::uint32_t>(seed >> 32) ^ static_cast<std::uint32_t>(offset >> 32);
  }
  HEED_PHILOX_FN constexpr std::uint32_t counter3() const {
    return static_cast<std::uint32_t>(offset);
  }
};

// p in [0, 1).
HEED_PHILOX_FN constexpr Dropout DropoutOf(std::uint64_t seed, std::uint64_t offset, double p) {
  return {seed, offset, static_cast<std::uint32_t>(p * 4294967296.0)};
}

// ---------------------------------------------------------------- the definition
// bh = b * Hq + h; i and j count within the sequence.
HEED_PHILOX_FN constexpr bool Keep(const Dropout& d, std::int64_t bh, std::int64_t i,
                                   std::int64_t j) {
  const Philox4x32 counter = {{static_cast<std::uint32_t>(j >> 2), static_cast<std::uint32_t>(i),
                               static_cast<std::uint32_t>(bh), d.counter3()}};
  return Philox(counter, d.key0(), d.key1()).word[j & 3] >= d.threshold;
}

// ---------------------------------------------------------------- a derived form
// Four keys at once: bit w says whether key 4 * j4 + w is kept.
HEED_PHILOX_FN constexpr unsigned KeepFour(const Dropout& d, std::int64_t bh, std::int64_t i,
                                           std::int64_t j4) {
  const Philox4x32 words = Philox({{static_cast<std::uint32_t>(j4), static_cast<std::uint32_t>(i),
                                    static_cast<std::uint32_t>(bh), d.counter3()}},
                                  d.key0(), d.key1());
  unsigned keep = 0;
  for (int w = 0; w < 4; w++) {
    // Not as one expression: gcc 12's undefined-behaviour sanitizer then checks an index of its own.
    if (words.word[w] >= d.threshold) keep |= 1u << w;
  }
  return keep;
}

}  // namespace heed
