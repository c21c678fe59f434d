// bench/kernels.h: what the benchmark needs compiled once per instruction set. Not here: timing,
// threads.
#pragma once

#include <cstdint>

namespace heed::bench {

inline constexpr int kReadStep = 512;

/// The probes of one instruction set. Plain functions in a plain table: the file that defines them
/// is compiled with that set's flags and must not hand any shared inline code to the linker.
struct Kernels {
  const char* isa;
  /// Issues `rounds` rounds of independent multiply-adds in f32; returns the flops done.
  double (*fma)(std::int64_t rounds);
  /// The same with bf16 dot products; null where the set has none.
  double (*dot)(std::int64_t rounds);
  /// Reads `bytes` (a multiple of kReadStep) in order, prefetching ahead.
  void (*read)(const void* data, std::int64_t bytes);
  /// s[first..last) becomes its softmax, every other entry of s[0..n) becomes 0. `s` starts on a
  /// cache line and n is a multiple of kRowFloats.
  void (*softmax)(float* s, std::int64_t n, std::int64_t first, std::int64_t last);
  /// The softmax's gradient: dp[j] becomes p[j] (dp[j] - sum of p dp), both rows as s above.
  void (*softmax_backward)(const float* p, float* dp, std::int64_t n);
};

/// One cache line.
inline constexpr std::int64_t kRowFloats = 16;

/// The table of an instruction set of this build, by its name; null if there is none.
const Kernels* KernelsOf(const char* isa);

}  // namespace heed::bench
