// bench/blas.cpp: dlopen and one product. Not here: attention.
#include "bench/blas.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

#include "bench/machine.h"

namespace heed::bench {
namespace {

constexpr int kRowMajor = 101, kNoTranspose = 111, kTranspose = 112;  // cblas.h

using Sgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                       float alpha, const float* a, int lda, const float* b, int ldb, float beta,
                       float* c, int ldc);

template <class F>
F Symbol(void* library, const char* name) {
  return reinterpret_cast<F>(dlsym(library, name));
}

// Its constructor reads the environment, so this must come before dlopen.
void TellCoreType() {
  const Machine machine = ThisMachine();
  const auto has = [&](const char* feature) {
    return std::find(machine.features.begin(), machine.features.end(), feature) !=
           machine.features.end();
  };
  const char* core = nullptr;
  if (has("avx512f") && has("avx512vl") && has("avx512bw") && has("avx512dq")) {
    core = "SkylakeX";
  } else if (has("avx2") && has("fma")) {
    core = "Haswell";
  }
  if (core != nullptr) setenv("OPENBLAS_CORETYPE", core, /*overwrite=*/0);
}

}  // namespace

Result<const Blas*> Blas::Load(int threads) {
  static void* library = [threads] {
    TellCoreType();
    setenv("OPENBLAS_NUM_THREADS", std::to_string(threads).c_str(), /*overwrite=*/1);
    return dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  }();
  if (library == nullptr) {
    return Status(StatusCode::kRefused,
                  "standard attention needs OpenBLAS, and libopenblas.so.0 is not here; Debian's "
                  "package is libopenblas0-pthread");
  }
  static Blas blas;
  blas.sgemm_ = dlsym(library, "cblas_sgemm");
  if (blas.sgemm_ == nullptr) {
    return Status(StatusCode::kRefused, "libopenblas.so.0 has no cblas_sgemm");
  }
  if (auto set = Symbol<void (*)(int)>(library, "openblas_set_num_threads")) set(threads);
  if (auto core = Symbol<char* (*)()>(library, "openblas_get_corename")) blas.core_ = core();
  return &blas;
}

void Blas::Multiply(const Product& p) const {
  const auto sgemm = reinterpret_cast<Sgemm>(sgemm_);
  const auto i = [](std::int64_t x) { return static_cast<int>(x); };
  sgemm(kRowMajor, p.transpose_a ? kTranspose : kNoTranspose,
        p.transpose_b ? kTranspose : kNoTranspose, i(p.m), i(p.n), i(p.k), p.alpha, p.a, i(p.lda),
        p.b, i(p.ldb), p.beta, p.c, i(p.ldc));
}

}  // namespace heed::bench
