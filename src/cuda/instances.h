// instances.h: kernels.def as a table for the host, and which row serves what. Not here: the bodies
// (kernels.h), who asks (cuda_call.cpp).
#pragma once

#include <cstdint>

#include "cuda/config.h"
#include "cuda/device.h"
#include "heed/types.h"

namespace heed::cuda {

// One row of kernels.def.
struct Instance {
  Kernel kernel;
  int arch;  // 750, 800
  DType dtype;
  int dim, rows, keys, warps, blocks;
  TermKind terms;
  const char* name;  // "forward_mma_80_F16_128_128x64_plain"

  constexpr int threads() const { return 32 * warps; }
  constexpr bool forward() const {
    return kernel == Kernel::forward_mma || kernel == Kernel::forward_fma;
  }
  constexpr std::uint32_t shared_bytes() const {
    const int size = static_cast<int>(SizeOf(dtype));
    const bool general = terms == TermKind::general;
    if (forward()) return ForwardShared(size, dim, rows, keys, general);
    if (IsOfBackward(kernel) && rows > 0) return BackwardShared(size, dim, rows, keys, general);
    return kernel == Kernel::sinks ? 4 * static_cast<std::uint32_t>(warps) : 0;
  }
};

namespace instances {
inline constexpr DType F16 = DType::kF16, Bf16 = DType::kBF16, F32 = DType::kF32;
inline constexpr Instance kAll[] = {
#define HEED_CUDA_KERNEL(op, arch, type, dim, rows, keys, warps, blocks, terms) \
  {Kernel::op,                                                                  \
   arch * 10,                                                                   \
   type,                                                                        \
   dim,                                                                         \
   rows,                                                                        \
   keys,                                                                        \
   warps,                                                                       \
   blocks,                                                                      \
   TermKind::terms,                                                             \
   #op "_" #arch "_" #type "_" #dim "_" #rows "x" #keys "_" #terms},
#include "cuda/kernels.def"
#undef HEED_CUDA_KERNEL
};
}  // namespace instances

inline constexpr int kInstances = static_cast<int>(sizeof instances::kAll / sizeof(Instance));
constexpr const Instance& InstanceOf(int row) { return instances::kAll[row]; }

// What is asked of a forward kernel.
struct Wanted {
  DType dtype = DType::kF32;
  int dim = 0;              // the larger one of D and Dv
  bool plain = false;       // no terms, masks, dropout
  std::int64_t packed = 0;  // rows that must fit one tile; 0: rows are not packed
};

// The row of kernels.def for it on a device, -1 where there is none.
int FindForward(const Facts& facts, const Wanted& wanted);

// The row of one of the backward's kernels that work on tiles of scores; `like`: the row whose tile it
// must have, or -1. -1 where there is none.
int FindTiles(const Facts& facts, Kernel kernel, DType dtype, int dim, bool plain, int like);

// The row of another kernel; those whose text does not depend on the dtype have one for all.
int FindOther(const Facts& facts, Kernel kernel, DType dtype);

// Blocks of a row that fit a multiprocessor at a time: as planned, or fewer where its shared memory
// does not hold as many.
int BlocksAtOnce(const Facts& facts, const Instance& instance);

}  // namespace heed::cuda
