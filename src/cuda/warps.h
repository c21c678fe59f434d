// warps.h: one warp an item of work: which items a warp takes, and sums over its lanes. Not here: what
// an item is (grid.h).
#pragma once

#include "cuda/ptx/ptx.h"
#include "problem/visibility.h"

namespace heed::cuda {

HEED_DEVICE int Lane() { return ptx::ThreadIndex() % 32; }

// for (std::int64_t n = FirstItem<C>(); n < items; n += ItemStep<C>())
template <class C>
HEED_DEVICE std::int64_t FirstItem() {
  return std::int64_t{ptx::BlockX()} * C::kWarps + ptx::ThreadIndex() / 32;
}
template <class C>
HEED_DEVICE std::int64_t ItemStep() {
  return std::int64_t{ptx::GridX()} * C::kWarps;
}

// Over kLanes neighbouring lanes, for each of them; the order of the sum is fixed.
template <int kLanes>
HEED_DEVICE float MaxOver(float x) {
  HEED_UNROLL
  for (int bits = 1; bits < kLanes; bits *= 2) {
    const float other = ptx::ShuffleXor(x, bits);
    x = other > x ? other : x;
  }
  return x;
}
template <int kLanes>
HEED_DEVICE float SumOver(float x) {
  HEED_UNROLL
  for (int bits = 1; bits < kLanes; bits *= 2) x += ptx::ShuffleXor(x, bits);
  return x;
}

HEED_DEVICE float WarpMax(float x) { return MaxOver<32>(x); }
HEED_DEVICE float WarpSum(float x) { return SumOver<32>(x); }

}  // namespace heed::cuda
