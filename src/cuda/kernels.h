// kernels.h: every row of kernels.def as a type, and its body: for the wrappers that nvcc compiles
// (wrappers.h) and for the emulator alike. Not here: what a body does.
#pragma once

#include "cuda/append.h"
#include "cuda/backward_bias.h"
#include "cuda/backward_keys.h"
#include "cuda/backward_prepare.h"
#include "cuda/backward_queries.h"
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

// What a kernel takes.
template <bool kBackward>
struct CallFor {
  using Type = ForwardCall;
};
template <>
struct CallFor<true> {
  using Type = BackwardCall;
};
template <Kernel kernel>
using CallOf = typename CallFor<IsOfBackward(kernel)>::Type;

// Products of tiles whose rows are queries, or keys.
template <class C, bool kMma>
struct ProductsFor {
  using Queries = FmaProducts<C, C::kRows, C::kKeys>;
  using Keys = FmaProducts<C, C::kKeys, C::kRows>;
};
template <class C>
struct ProductsFor<C, true> {
  using Queries = MmaProducts<C, C::kRows>;
  using Keys = MmaProducts<C, C::kKeys>;
};

// What a thread runs.
template <Kernel kernel, class C>
HEED_DEVICE void Body(const CallOf<kernel>& call) {
  if constexpr (kernel == Kernel::forward_mma) ForwardMma<C>(call);
  if constexpr (kernel == Kernel::forward_fma) ForwardFma<C>(call);
  if constexpr (kernel == Kernel::append) AppendRows<C>(call);
  if constexpr (kernel == Kernel::classify) ClassifyTiles<C>(call);
  if constexpr (kernel == Kernel::join) JoinPieces<C>(call);
  if constexpr (kernel == Kernel::probs) Probabilities<C>(call);
  using Mma = ProductsFor<C, true>;
  using Fma = ProductsFor<C, false>;
  if constexpr (kernel == Kernel::prepare) PrepareBackward<C>(call);
  if constexpr (kernel == Kernel::queries_mma) BackwardQueries<C, typename Mma::Queries>(call);
  if constexpr (kernel == Kernel::queries_fma) BackwardQueries<C, typename Fma::Queries>(call);
  if constexpr (kernel == Kernel::keys_mma) BackwardKeys<C, typename Mma::Keys>(call);
  if constexpr (kernel == Kernel::keys_fma) BackwardKeys<C, typename Fma::Keys>(call);
  if constexpr (kernel == Kernel::bias_mma) BackwardBias<C, typename Mma::Queries>(call);
  if constexpr (kernel == Kernel::bias_fma) BackwardBias<C, typename Fma::Queries>(call);
  if constexpr (kernel == Kernel::sinks) GradientOfSinks<C>(call);
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
