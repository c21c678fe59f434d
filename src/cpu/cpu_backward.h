// cpu_backward.h: the backward of the cpu backend: its workspace, its waves and loops. Not here: which
// kernels, how many threads (cpu.cpp), SIMD.
#pragma once

#include "cpu/kernels.h"
#include "heed/heed.h"

namespace heed::cpu {

struct BackwardKernels;

// What a plan tells of it.
struct BackwardSize {
  std::int64_t items = 0;  // of all waves
  std::int64_t block_rows = 0, block_keys = 0;
  std::int64_t workspace_bytes = 0;  // of `threads` threads
};
BackwardSize SizeOfBackward(const Problem& p, const Kernels& kernels,
                            const BackwardKernels& backward, int threads);

// How a thread's workspace and what is shared come about, for a plan's words.
const char* BackwardFormula();

// Bytes that move between the caches and memory, for entries as long as the longest. Every block of keys reads the queries that see it (q, dout) and reads and writes their dq; k, v,
// o, dk, dv and the final dq move once.
double BackwardBytes(const Problem& p, std::int64_t block_keys);

// `ran`: where the kernels leave their name.
void RunBackward(const Problem& p, const Buffers& b, const Kernels& kernels,
                 const BackwardKernels& backward, int threads, bool wake, const char** ran);

}  // namespace heed::cpu
