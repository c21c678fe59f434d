// Threads of a block on a GPU: who am I, barriers, shuffles, votes, register budgets. No memory.
#pragma once

#include "cuda/ptx/device/base.h"

namespace heed::cuda::ptx {

HEED_DEVICE int ThreadIndex() { return int(threadIdx.x); }
HEED_DEVICE int BlockX() { return int(blockIdx.x); }
HEED_DEVICE int BlockY() { return int(blockIdx.y); }
HEED_DEVICE int BlockZ() { return int(blockIdx.z); }
HEED_DEVICE int GridX() { return int(gridDim.x); }

// x, of which the compiler no longer knows where it came from: what follows from it is computed again
// and not kept in registers.
HEED_DEVICE int Forget(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

HEED_DEVICE void SyncThreads() { __syncthreads(); }
HEED_DEVICE void SyncWarp(uint32_t lanes = ~0u) { __syncwarp(lanes); }

// Named barriers 1 to 15 (0 is SyncThreads'); `threads` counts those who sync and those who arrive,
// a multiple of 32.
HEED_DEVICE void NamedSync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
HEED_DEVICE void NamedArrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Four-byte values. None of these orders memory between lanes: that is SyncWarp's.
template <class T>
HEED_DEVICE T ShuffleXor(T value, int bits, uint32_t lanes = ~0u) {
  return __shfl_xor_sync(lanes, value, bits);
}
template <class T>
HEED_DEVICE T ShuffleIndex(T value, int lane, uint32_t lanes = ~0u) {
  return __shfl_sync(lanes, value, lane);
}
// From the lane `by` below (Up) or above (Down); lanes that have none there keep their own value.
template <class T>
HEED_DEVICE T ShuffleUp(T value, int by, uint32_t lanes = ~0u) {
  return __shfl_up_sync(lanes, value, unsigned(by));
}
template <class T>
HEED_DEVICE T ShuffleDown(T value, int by, uint32_t lanes = ~0u) {
  return __shfl_down_sync(lanes, value, unsigned(by));
}

HEED_DEVICE uint32_t Ballot(bool yes, uint32_t lanes = ~0u) { return __ballot_sync(lanes, yes); }
HEED_DEVICE bool Any(bool yes, uint32_t lanes = ~0u) { return __any_sync(lanes, yes) != 0; }
HEED_DEVICE bool All(bool yes, uint32_t lanes = ~0u) { return __all_sync(lanes, yes) != 0; }

// sm_90. True in one lane of a full warp; which one is the hardware's choice.
HEED_DEVICE bool Elect() {
  uint32_t chosen;
  asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.b32 %0, 1, 0, p;}" : "=r"(chosen));
  return chosen != 0;
}

// sm_90a. A warpgroup's registers per thread, a multiple of 8 in [24, 256]: Dec gives some back to
// the block, Inc waits until there are enough.
template <int Registers>
HEED_DEVICE void SetMaxRegDec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
HEED_DEVICE void SetMaxRegInc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

}  // namespace heed::cuda::ptx
