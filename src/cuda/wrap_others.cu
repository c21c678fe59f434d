// wrap_others.cu: all rows that are not made of tensor cores' products; for every target.
#include <type_traits>

#include "cuda/wrappers.h"

namespace heed::cuda {

void AddOthers(const void** table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (!OnTensorCores(R::kKernel)) {
      table[R::kRow] = FunctionOf<R>();
    }
  });
}

}  // namespace heed::cuda
