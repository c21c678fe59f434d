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

// Over all lanes, for all lanes; the order of the sum is fixed.
HEED_DEVICE float WarpMax(float x) {
  HEED_UNROLL
  for (int by = 16; by > 0; by /= 2) {
    const float other = ptx::ShuffleXor(x, by);
    x = other > x ? other : x;
  }
  return x;
}
HEED_DEVICE float WarpSum(float x) {
  HEED_UNROLL
  for (int by = 16; by > 0; by /= 2) x += ptx::ShuffleXor(x, by);
  return x;
}

}  // namespace heed::cuda
