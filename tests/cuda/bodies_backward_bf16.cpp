// bodies_backward_bf16.cpp: the backward's rows of bf16 on tensor cores. Not here: the others.
#include <type_traits>

#include "bodies.h"

namespace heed::cuda {

void AddBackwardBf16(BodyOf* table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (OnTensorCores(R::kKernel) && IsOfBackward(R::kKernel) &&
                  std::is_same_v<typename R::C::Element, Bf16>) {
      table[R::kRow] = &BodyOfRow<R>;
    }
  });
}

}  // namespace heed::cuda
