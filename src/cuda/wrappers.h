// wrappers.h: the __global__ functions, one per row of kernels.def. They are compiled in a few files, each
// for its own targets (src/CMakeLists.txt). Not here: their bodies (kernels.h), launching (device.cu).
#pragma once

#include "cuda/kernels.h"

namespace heed::cuda {

// Its name in a profile says kernel, element type, architecture, dim, rows, keys, warps and terms. Empty
// where the target of this pass is older.
template <Kernel kKernel, class C, int kBlocks>
__global__ void __launch_bounds__(C::kThreads, kBlocks)
    HeedKernel(const __grid_constant__ CallOf<kKernel> call) {
  if constexpr (ptx::kArch >= C::kArch) Body<kKernel, C>(call);
}

// The functions of a file to their rows of the table.
void AddMma75(const void** table);
void AddMma80F16(const void** table);
void AddMma80Bf16(const void** table);
void AddBackward75(const void** table);
void AddBackward80F16(const void** table);
void AddBackward80Bf16(const void** table);
void AddOthers(const void** table);

template <class R>
const void* FunctionOf() {
  return reinterpret_cast<const void*>(&HeedKernel<R::kKernel, typename R::C, R::kBlocks>);
}

}  // namespace heed::cuda
