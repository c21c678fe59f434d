// wrap_others.cu: all rows but forward_mma; for every target.
#include <type_traits>

#include "cuda/wrappers.h"

namespace heed::cuda {

void AddOthers(const void** table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (R::kKernel != Kernel::forward_mma) {
      table[R::kRow] = FunctionOf<R>();
    }
  });
}

}  // namespace heed::cuda
