// score_lanes.h: the lanes type of the score terms on a GPU: one score of one thread. Not here: any
// term (score/terms.h), loads.
#pragma once

#include "cuda/ptx/ptx.h"
#include "score/tanh.h"
#include "score/terms.h"

namespace heed::cuda {

struct ThreadLanes : ScalarLanes<float> {
  HEED_DEVICE static float Tanh(float y) {
    using T = TanhQuotient;
    if (y > T::kLimit) y = T::kLimit;
    if (y < -T::kLimit) y = -T::kLimit;
    const float u = y * y;
    float p = T::p[4], q = T::q[4];
    HEED_UNROLL
    for (int i = 3; i >= 0; i--) {
      p = p * u + T::p[i];
      q = q * u + T::q[i];
    }
    return y * p / q;
  }
};

}  // namespace heed::cuda
