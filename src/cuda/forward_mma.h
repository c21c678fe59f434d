// forward_mma.h: the forward kernel on tensor cores: f16, bf16. The walk is in forward_block.h.
#pragma once

#include "cuda/forward_block.h"
#include "cuda/products_mma.h"

namespace heed::cuda {

template <class C>
HEED_DEVICE void ForwardMma(const ForwardCall& c) {
  RunForward<C, MmaProducts<C, C::kRows>>(c);
}

}  // namespace heed::cuda
