// cases_data.h: how the numbers of cases are made, for the files that make them (cases_data.cpp,
// cases_arrays.cpp, cases_axes.cpp). Not here: what tests see (cases.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "cases.h"

namespace heed::cases {

// Steele, Lea & Flood 2014: a hash of 64 bits, so that every coordinate has its own number.
inline std::uint64_t Mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// The hash of a coordinate.
inline std::uint64_t HashOf(std::uint64_t seed, std::initializer_list<std::int64_t> at) {
  std::uint64_t bits = Mix(seed);
  for (const std::int64_t x : at) bits = Mix(bits ^ static_cast<std::uint64_t>(x));
  return bits;
}

// In (0, 1).
double Uniform(std::uint64_t bits);
// Nearly of N(0, 1): the sum of four uniform numbers, within 3.47. A logarithm and a cosine for each
// number took half of the time of the tests.
double Normal(std::uint64_t bits);

// Stores one element, rounded once.
void Put(DType type, std::byte* at, double value);

inline constexpr std::byte kGap{0xFF};  // a NaN in every dtype

struct Extents {
  std::int64_t batch, rows, heads, width;
};
// Of q, k, v. Ragged tensors are one entry; a cache has slots or pages.
std::array<Extents, 3> ExtentsOf(const Problem& p);
// Strides with the defaults filled in.
Strides Explicit(const Strides& s, const Extents& e);

// Lengths of the sequences of a ragged batch, none beyond `longest`: the first has it, the second
// is empty, the rest are anything. `which`: 0 queries, 1 keys.
std::vector<std::int64_t> RaggedLengths(std::uint64_t seed, std::int64_t batch,
                                        std::int64_t longest, int which);

// Fills in what a case's options need; q, k and v (or the caches) are there already. Rows of k and v
// that no sequence has become NaN.
void FillArrays(const Case& c, Sample* sample);

}  // namespace heed::cases
