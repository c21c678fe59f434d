// bodies_mma_f16_general.cpp: rows forward_mma of f16, general. Not here: the others.
#include <type_traits>

#include "bodies.h"

namespace heed::cuda {

void AddMmaF16General(BodyOf* table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (R::kKernel == Kernel::forward_mma && R::C::kGeneral &&
                  std::is_same_v<typename R::C::Element, F16>) {
      table[R::kRow] = &BodyOfRow<R>;
    }
  });
}

}  // namespace heed::cuda
