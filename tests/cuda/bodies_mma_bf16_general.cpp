// bodies_mma_bf16_general.cpp: rows forward_mma of bf16, general. Not here: the others.
#include <type_traits>

#include "bodies.h"

namespace heed::cuda {

void AddMmaBf16General(BodyOf* table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (R::kKernel == Kernel::forward_mma && R::C::kGeneral &&
                  std::is_same_v<typename R::C::Element, Bf16>) {
      table[R::kRow] = &BodyOfRow<R>;
    }
  });
}

}  // namespace heed::cuda
