// What every device file of the ptx layer starts from: attributes and the target. No instructions.
#pragma once

#include "cuda/ptx/types.h"

#define HEED_DEVICE __device__ __forceinline__
#define HEED_UNROLL _Pragma("unroll")
#define HEED_UNROLL_4 _Pragma("unroll 4")
#define HEED_NO_UNROLL _Pragma("unroll 1")

namespace heed::cuda::ptx {

// The target of this pass (750, 800, …), 0 in the host's. A __global__ wrapper instantiates its
// body only if the target has the instructions: if constexpr (kArch >= Config::kArch).
#ifdef __CUDA_ARCH__
inline constexpr int kArch = __CUDA_ARCH__;
#else
inline constexpr int kArch = 0;
#endif

// wgmma and setmaxnreg exist for sm_90a alone: neither for sm_90 nor for what came after it.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
inline constexpr bool kHasWgmma = true;
#else
inline constexpr bool kHasWgmma = false;
#endif

}  // namespace heed::cuda::ptx
