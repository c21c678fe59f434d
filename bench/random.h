// bench/random.h: numbers that are the same for the same seed on every machine. Not here: tensors.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace heed::bench {

/// SplitMix64 (Steele, Lea, Flood 2014): every seed gives a good stream, and it is two lines.
inline std::uint64_t Next(std::uint64_t* state) {
  std::uint64_t z = (*state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// True with that chance.
inline bool Chance(double share, std::uint64_t* state) {
  return static_cast<double>(Next(state) >> 11) * 0x1p-53 < share;
}

/// Fisher and Yates.
template <class T>
void Shuffle(std::vector<T>* all, std::uint64_t seed) {
  for (std::size_t n = all->size(); n > 1; --n) {
    std::swap((*all)[n - 1], (*all)[Next(&seed) % n]);
  }
}

}  // namespace heed::bench
