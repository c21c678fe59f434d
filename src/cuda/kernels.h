// kernels.h: every row of kernels.def as a type, and its body: for the wrappers that nvcc compiles
// (wrappers.h) and for the emulator alike. Not here: what a body does.
#pragma once

#include "cuda/append.h"
#include "cuda/classify.h"
#include "cuda/config.h"
#include "cuda/forward_fma.h"
#include "cuda/forward_mma.h"
#include "cuda/join.h"
#include "cuda/probs.h"

namespace heed::cuda {

// Row number n of the table is KernelRow<n>.
template <int row>
struct KernelRow;

enum RowNumber : int {
#define HEED_CUDA_KERNEL(op, arch, type, dim, rows, keys, warps, blocks, terms) \
  k_##op##_##arch##_##type##_##dim##_##rows##x##keys##_##terms,
#include "cuda/kernels.def"
#undef HEED_CUDA_KERNEL
  kRowCount
};

#define HEED_CUDA_KERNEL(op, arch, type, dim, rows, keys, warps, blocks, terms)               \
  template <>                                                                                 \
  struct KernelRow<k_##op##_##arch##_##type##_##dim##_##rows##x##keys##_##terms> {            \
    using C = Config<type, arch * 10, dim, rows, keys, warps, TermKind::terms>;               \
    static constexpr Kernel kKernel = Kernel::op;                                             \
    static constexpr int kBlocks = blocks;                                                    \
    static constexpr int kRow = k_##op##_##arch##_##type##_##dim##_##rows##x##keys##_##terms; \
  };
#include "cuda/kernels.def"
#undef HEED_CUDA_KERNEL

// What a thread runs.
template <Kernel kernel, class C>
HEED_DEVICE void Body(const ForwardCall& call) {
  if constexpr (kernel == Kernel::forward_mma) ForwardMma<C>(call);
  if constexpr (kernel == Kernel::forward_fma) ForwardFma<C>(call);
  if constexpr (kernel == Kernel::append) AppendRows<C>(call);
  if constexpr (kernel == Kernel::classify) ClassifyTiles<C>(call);
  if constexpr (kernel == Kernel::join) JoinPieces<C>(call);
  if constexpr (kernel == Kernel::probs) Probabilities<C>(call);
}

// f(KernelRow<n>{}) for every row.
template <class F, int row = 0>
void ForEachRow(F&& f) {
  if constexpr (row < kRowCount) {
    f(KernelRow<row>{});
    ForEachRow<F&, row + 1>(f);
  }
}

}  // namespace heed::cuda
