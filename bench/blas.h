// bench/blas.h: OpenBLAS, found at run time so that nothing here depends on it. Not here:
// attention.
#pragma once

#include <cstdint>
#include <string>

#include "heed/types.h"

namespace heed::bench {

/// One row-major product c = alpha * a * b + beta * c, a or b transposed where asked; f32, leading
/// dimensions given.
struct Product {
  const float* a = nullptr;
  const float* b = nullptr;
  float* c = nullptr;
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t lda = 0, ldb = 0, ldc = 0;
  bool transpose_a = false, transpose_b = false;
  float alpha = 1, beta = 0;
};

/// The library, loaded once per process. Debian's OpenBLAS takes its AVX2 kernels on processors
/// younger than itself; it is told the core type whose instructions this machine has (unless
/// OPENBLAS_CORETYPE is already set), since a slow baseline would flatter us.
class Blas {
 public:
  static Result<const Blas*> Load(int threads);

  void Multiply(const Product& product) const;
  /// What OpenBLAS says it runs as, such as "SkylakeX".
  const std::string& core() const { return core_; }

 private:
  void* sgemm_ = nullptr;
  std::string core_;
};

}  // namespace heed::bench
