// kernels.h: the seam between the engine's host half (cpu.cpp) and its kernels: what one call
// needs, and one table of functions per instruction set. Plain data, no SIMD. Not here: who chooses
// the set, threads, checks.
#pragma once

#include <cstdint>

#include "heed/types.h"
#include "problem/schedule.h"
#include "problem/visibility.h"

namespace heed::cpu {

// Strides of one tensor in elements.
struct Steps {
  std::int64_t batch = 0, row = 0, head = 0;
};

// How a problem is cut into blocks. Depends on the entry's own sizes alone, and bits depend on keys
// alone.
struct Blocks {
  int tiles = 1;  // query tiles that share one pass over a block of keys
  int keys = 0;   // keys of a block, a multiple of the score tile's
};

// One forward call as the kernels see it. Pointers are those of entry 0, head 0, row 0.
struct ForwardCall {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  void* o = nullptr;
  float* lse = nullptr;                         // (B, Hq, Sq) or null
  const std::int32_t* query_offsets = nullptr;  // (B): the shifts, instead of visibility.shift
  Steps q_steps, k_steps, v_steps, o_steps;
  std::int64_t q_heads = 0, group = 1;  // query heads per kv head
  int dim = 0, dim_v = 0;
  DType dtype = DType::kF32, out_dtype = DType::kF32;
  double scale = 1;
  Visibility visibility;
  ForwardSchedule schedule;
  Blocks blocks;
  const char** ran = nullptr;  // the kernel leaves its own name here
};

// One instruction set.
struct Kernels {
  const char* isa;
  bool native_bf16;  // bf16 inputs go through dot products of pairs; else they are widened while
                     // packing
  int tile_rows, tile_keys;
  // The largest blocks that help for this dtype and these dims, not larger than the problem.
  Blocks (*blocks)(DType dtype, int dim, int dim_v, std::int64_t q_len, std::int64_t k_len);
  // Bytes of workspace of one thread: a multiple of 64.
  std::int64_t (*workspace)(DType dtype, int dim, int dim_v, Blocks blocks);
  // Computes items [first, last) of the schedule. workspace: 64-byte aligned, this thread's own.
  void (*forward)(const ForwardCall& call, std::int64_t first, std::int64_t last, void* workspace);
};

// Defined once per instruction set by kernels.cpp.
#define HEED_DECLARE_KERNELS(isa) \
  namespace isa {                 \
  extern const Kernels kKernels;  \
  }
HEED_DECLARE_KERNELS(avx512bf16)
HEED_DECLARE_KERNELS(avx512)
HEED_DECLARE_KERNELS(avx2)
HEED_DECLARE_KERNELS(neon)
HEED_DECLARE_KERNELS(scalar)
#undef HEED_DECLARE_KERNELS

}  // namespace heed::cpu
