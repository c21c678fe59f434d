// forward_fma.h: the forward kernel on FMAs: f32. The walk is in forward_block.h.
#pragma once

#include "cuda/forward_block.h"
#include "cuda/products_fma.h"

namespace heed::cuda {

template <class C>
HEED_DEVICE void ForwardFma(const ForwardCall& c) {
  RunForward<C, FmaProducts<C, C::kRows, C::kKeys>>(c);
}

}  // namespace heed::cuda
