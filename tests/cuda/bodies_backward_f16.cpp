// bodies_backward_f16.cpp: the backward's rows of f16 on tensor cores. Not here: the others.
#include <type_traits>

#include "bodies.h"

namespace heed::cuda {

void AddBackwardF16(BodyOf* table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (OnTensorCores(R::kKernel) && IsOfBackward(R::kKernel) &&
                  std::is_same_v<typename R::C::Element, F16>) {
      table[R::kRow] = &BodyOfRow<R>;
    }
  });
}

}  // namespace heed::cuda
