// kernels_testing.h: what the tests of the kernels around the forward share: data of every element
// type, a launch under every schedule, calls to start from. Not here: what is right (each test).
#pragma once

#include <cmath>
#include <random>

#include "cuda/config.h"
#include "cuda/elements.h"
#include "cuda/grid.h"
#include "emu/emu_testing.h"

namespace heed::cuda {

using Elements = testing::Types<F32, F16, Bf16>;

// One row of kernels.def for the kernels around the forward, but of seven warps: so that the last
// block has some without work.
template <class T>
using SmallConfig =
    Config<T, std::is_same_v<T, Bf16> ? 800 : 750, 1024, 0, 0, 7, TermKind::general>;

template <class T>
T Rounded(float x) {
  if constexpr (sizeof(T) == 4) {
    return x;
  } else {
    return ptx::FromFloat<T>(x);
  }
}
template <class T>
uint32_t BitsOfElement(T x) {
  if constexpr (sizeof(T) == 4) {
    return ptx::BitsOf(x);
  } else {
    return x.bits;
  }
}
template <class T>
::testing::AssertionResult SameBits(const std::vector<T>& got, const std::vector<T>& want) {
  for (size_t n = 0; n < want.size(); ++n) {
    if (BitsOfElement(got[n]) != BitsOfElement(want[n])) {
      return ::testing::AssertionFailure() << "element " << n << " of " << want.size() << " is "
                                           << Widen(got[n]) << ", not " << Widen(want[n]);
    }
  }
  return ::testing::AssertionSuccess();
}

class Values {
 public:
  explicit Values(unsigned seed) : random_(seed) {}
  int Below(int n) { return int(random_() % unsigned(n)); }
  float Normal() {  // about that: the same with every library
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += float(Below(4096)) / 2048 - 1;
    return sum;
  }
  template <class T>
  std::vector<T> Of(size_t n) {
    std::vector<T> v(n);
    for (T& x : v) x = Rounded<T>(Normal());
    return v;
  }

 private:
  std::mt19937 random_;
};

// A kernel over `items` of grid.h under every schedule: `buffers` says what it may touch, `check`
// looks at the results.
template <class C, class Buffers, class Kernel, class Check>
void RunEverySchedule(std::int64_t items, Buffers buffers, Kernel kernel, Check check,
                      uint64_t seed = 7) {
  emu::Config base = emu::Threads(C::kThreads, 0, C::kArch);
  base.grid[0] = int(BlocksFor(items, C::kWarps));
  for (const emu::Config& schedule : emu::Schedules(base, seed)) {
    SCOPED_TRACE("order " + std::to_string(int(schedule.order)));
    emu::Memory memory;
    buffers(memory);
    ASSERT_EQ(emu::ErrorOf(schedule, memory, kernel), "");
    check();
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Rows of (batch, row, head) of `length` elements each, with gaps of `gap` elements between heads.
inline Steps StepsOf(std::int64_t rows, std::int64_t heads, std::int64_t length, int gap = 0) {
  const std::int64_t head = length + gap;
  return {rows * heads * head, heads * head, head};
}

}  // namespace heed::cuda
