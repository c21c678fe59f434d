// bodies_mma_f16_plain.cpp: rows forward_mma of f16, plain. Not here: the others.
#include <type_traits>

#include "bodies.h"

namespace heed::cuda {

void AddMmaF16Plain(BodyOf* table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (R::kKernel == Kernel::forward_mma && !R::C::kGeneral &&
                  std::is_same_v<typename R::C::Element, F16>) {
      table[R::kRow] = &BodyOfRow<R>;
    }
  });
}

}  // namespace heed::cuda
