// wrap_back75.cu: the backward's tiles on sm_75; for that target alone.
#include <type_traits>

#include "cuda/wrappers.h"

namespace heed::cuda {

void AddBackward75(const void** table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (OnTensorCores(R::kKernel) && IsOfBackward(R::kKernel) && R::C::kArch == 750 &&
                  std::is_same_v<typename R::C::Element, F16>) {
      table[R::kRow] = FunctionOf<R>();
    }
  });
}

}  // namespace heed::cuda
