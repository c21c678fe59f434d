// wrap_mma75.cu: rows forward_mma of sm_75; for that target alone, as newer ones have their own.
#include <type_traits>

#include "cuda/wrappers.h"

namespace heed::cuda {

void AddMma75(const void** table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (R::kKernel == Kernel::forward_mma && R::C::kArch == 750) {
      table[R::kRow] = FunctionOf<R>();
    }
  });
}

}  // namespace heed::cuda
