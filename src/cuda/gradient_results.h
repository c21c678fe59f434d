// gradient_results.h: how a gradient gets to global memory: rounded once, written or added to what is
// there. Not here: which one.
#pragma once

#include "cuda/backward_call.h"
#include "cuda/results.h"

namespace heed::cuda {

// One element.
template <class T>
HEED_DEVICE void Deliver(T* to, float x, bool accumulate) {
  StoreRounded(to, accumulate ? Widen(ptx::LoadGlobal(to)) + x : x);
}
// Up to four neighbours of a row.
template <class T>
HEED_DEVICE void Deliver(T* to, ptx::F32x4 x, int count, bool wide, bool accumulate) {
  if (!accumulate) return CopyOut(to, x, count, wide);
  const float of[4] = {x.x, x.y, x.z, x.w};
  HEED_UNROLL
  for (int n = 0; n < 4; n++) {
    if (n < count) Deliver(to + n, of[n], true);
  }
}

// Of a tensor's row that begins `at` elements behind its start.
template <class T>
HEED_DEVICE void DeliverRow(const BackwardCall& c, const Gradient& to, std::int64_t at,
                            ptx::F32x4 x, int count) {
  if (count <= 0) return;
  if (c.grads_f32) {
    Deliver(static_cast<float*>(to.data) + at, x, count, to.wide, c.accumulate);
  } else {
    Deliver(static_cast<T*>(to.data) + at, x, count, to.wide, c.accumulate);
  }
}

}  // namespace heed::cuda
