// bench/kernels_table.cpp: finds the probes of an instruction set by name. Not here: the probes.
#include <string_view>

#include "bench/kernels.h"

namespace heed::bench {

// One row per instruction set that a build may have; HEED_HAVE_<ISA> says that this one has it.
#ifdef HEED_HAVE_AVX512BF16
#define HEED_AVX512BF16(X) X(avx512bf16)
#else
#define HEED_AVX512BF16(X)
#endif
#ifdef HEED_HAVE_AVX512
#define HEED_AVX512(X) X(avx512)
#else
#define HEED_AVX512(X)
#endif
#ifdef HEED_HAVE_AVX2
#define HEED_AVX2(X) X(avx2)
#else
#define HEED_AVX2(X)
#endif
#ifdef HEED_HAVE_NEON
#define HEED_NEON(X) X(neon)
#else
#define HEED_NEON(X)
#endif
#define HEED_ALL(X) HEED_AVX512BF16(X) HEED_AVX512(X) HEED_AVX2(X) HEED_NEON(X) X(scalar)

#define HEED_DECLARE(isa) extern const Kernels kKernels_##isa;
HEED_ALL(HEED_DECLARE)

const Kernels* KernelsOf(const char* isa) {
#define HEED_ROW(name) \
  if (std::string_view(isa) == #name) return &kKernels_##name;
  HEED_ALL(HEED_ROW)
  return nullptr;
}

}  // namespace heed::bench
