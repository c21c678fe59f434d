// elements.h: the element types of tensors on a GPU, and one element or one result at a time. Not
// here: tiles.
#pragma once

#include "cuda/ptx/ptx.h"

namespace heed::cuda {

using ptx::Bf16;
using ptx::F16;
using F32 = float;

// Elements of 16 bytes, the unit that copies move.
template <class T>
inline constexpr int kChunk = 16 / int(sizeof(T));

HEED_DEVICE float Widen(F32 x) { return x; }
HEED_DEVICE float Widen(F16 x) { return ptx::ToFloat(x); }
HEED_DEVICE float Widen(Bf16 x) { return ptx::ToFloat(x); }

// x rounded to T, to where it lies.
template <class T>
HEED_DEVICE void StoreRounded(T* to, float x) {
  if constexpr (sizeof(T) == 4) {
    ptx::StoreGlobal(to, x);
  } else {
    ptx::StoreGlobal(to, ptx::FromFloat<T>(x));
  }
}
// Two neighbours at once, at a multiple of their size.
template <class T>
HEED_DEVICE void StorePair(T* to, float x, float y) {
  if constexpr (sizeof(T) == 4) {
    ptx::StoreGlobal(reinterpret_cast<ptx::U32x2*>(to), ptx::U32x2{ptx::BitsOf(x), ptx::BitsOf(y)});
  } else {
    ptx::StoreGlobal(reinterpret_cast<uint32_t*>(to), ptx::Pack<T>(x, y));
  }
}

}  // namespace heed::cuda
