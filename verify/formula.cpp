// verify/formula.cpp: see formula.h.
#include "verify/formula.h"

#include <array>
#include <cmath>

namespace heed::verify {
namespace {

std::int64_t FloorDiv(std::int64_t a, std::int64_t b) {
  return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

bool Yes(const View& t, std::int64_t offset) {
  return static_cast<const std::uint8_t*>(t.data)[offset] != 0;
}

using Words = std::array<std::uint32_t, 4>;

// Salmon et al. 2011, ten rounds.
Words Philox(Words counter, std::uint32_t key0, std::uint32_t key1) {
  constexpr std::uint64_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = kMul0 * counter[0], b = kMul1 * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key0, static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key1, static_cast<std::uint32_t>(a)};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

}  // namespace

bool Sees(const Problem& p, const Sequence& s, std::int64_t i, std::int64_t j) {
  if (j < 0 || j >= s.sk || i < 0 || i >= s.sq) return false;
  if (j < p.prefix) return true;
  const std::int64_t at = i + s.shift;
  if (p.window_left >= 0 && at - j > p.window_left) return false;
  if (p.window_right >= 0 && j - at > p.window_right) return false;
  return p.chunk <= 0 || FloorDiv(at, p.chunk) == FloorDiv(j, p.chunk);
}

bool Visible(const Call& call, const Sequence& s, std::int64_t h, std::int64_t i, std::int64_t j) {
  const Problem& p = call.problem;
  if (!Sees(p, s, i, j)) return false;
  if (p.mask.given && !Yes(call.mask, Spread(call.mask, s.index, h, i, j))) return false;
  return !p.block_map.given || Yes(call.block_map, Spread(call.block_map, s.index, h,
                                                          i / p.block_rows, j / p.block_cols));
}

bool Keep(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  const auto low = [](std::int64_t x) { return static_cast<std::uint32_t>(x); };
  const Words words =
      Philox({low(j >> 2), low(i), low(b * p.q_heads + h), static_cast<std::uint32_t>(p.offset)},
             static_cast<std::uint32_t>(p.seed),
             static_cast<std::uint32_t>(p.seed >> 32) ^ static_cast<std::uint32_t>(p.offset >> 32));
  return words[static_cast<std::size_t>(j & 3)] >= std::floor(p.dropout_p * 0x1p32);
}

}  // namespace heed::verify
