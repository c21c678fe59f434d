// wrap_back80_f16.cu: the backward's tiles of sm_80 in f16; for sm_80 and what is newer.
#include <type_traits>

#include "cuda/wrappers.h"

namespace heed::cuda {

void AddBackward80F16(const void** table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (OnTensorCores(R::kKernel) && IsOfBackward(R::kKernel) && R::C::kArch == 800 &&
                  std::is_same_v<typename R::C::Element, F16>) {
      table[R::kRow] = FunctionOf<R>();
    }
  });
}

}  // namespace heed::cuda
