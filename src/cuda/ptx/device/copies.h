// Asynchronous copies on a GPU: cp.async (sm_80), bulk copies and TMA (sm_90). What they signal is
// in mbarrier.h.
#pragma once

#include <cuda.h>

#include "cuda/ptx/device/base.h"

namespace heed::cuda::ptx {

// --- cp.async ---------------------------------------------------------------------------------

// 4, 8 or 16 bytes from global to shared memory, both aligned to that; zeros where not valid (the
// source is not read then). Lands at the latest when this thread waits for the copy's group; others
// see it after a barrier behind that wait.
template <int Bytes>
HEED_DEVICE void CpAsync(uint32_t to, const void* from, bool valid) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  const int read = valid ? Bytes : 0;
  if constexpr (Bytes == 16) {  // .cg: past the L1
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(read)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(Bytes),
                 "r"(read)
                 : "memory");
  }
}
HEED_DEVICE void CpAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most `Pending` groups of this thread are in flight.
template <int Pending>
HEED_DEVICE void CpAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// --- bulk copies ------------------------------------------------------------------------------

// Contiguous bytes, a multiple of 16, into shared memory; the barrier counts them.
HEED_DEVICE void BulkLoad(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}
// to[i] += the floats at `from` in shared memory, each sum atomic.
HEED_DEVICE void BulkReduceAdd(float* to, uint32_t from, uint32_t bytes) {
  asm volatile(
      "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to),
      "r"(from), "r"(bytes)
      : "memory");
}
HEED_DEVICE void BulkCommit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until at most `Pending` of this thread's groups still read shared memory (BulkWaitRead), or are
// not yet complete in global memory either (BulkWait).
template <int Pending>
HEED_DEVICE void BulkWaitRead() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
}
template <int Pending>
HEED_DEVICE void BulkWait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Pending) : "memory");
}
// What this thread wrote to shared memory may be read by bulk copies and wgmma.
HEED_DEVICE void FenceProxyAsync() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- TMA --------------------------------------------------------------------------------------

using TensorMap = CUtensorMap;

HEED_DEVICE void PrefetchTensorMap(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// A box of the tensor, of its map's size, with its first element at coordinates `at` (innermost
// first); zeros outside the tensor. The barrier counts the whole box.
template <int Rank>
HEED_DEVICE void TmaLoad(uint32_t to, const TensorMap* map, uint32_t barrier,
                         const int (&at)[Rank]) {
  static_assert(2 <= Rank && Rank <= 4);
  if constexpr (Rank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3,%4}], [%2];" ::"r"(to),
        "l"(map), "r"(barrier), "r"(at[0]), "r"(at[1])
        : "memory");
  } else if constexpr (Rank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3,%4,%5}], [%2];" ::"r"(to),
        "l"(map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2])
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3,%4,%5,%6}], [%2];" ::"r"(to),
        "l"(map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
        : "memory");
  }
}
// The way back: a box of shared memory into the tensor; what lies outside is not written. Belongs
// to a bulk group.
template <int Rank>
HEED_DEVICE void TmaStore(const TensorMap* map, uint32_t from, const int (&at)[Rank]) {
  static_assert(2 <= Rank && Rank <= 4);
  if constexpr (Rank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2,%3}], [%1];" ::"l"(
            map),
        "r"(from), "r"(at[0]), "r"(at[1])
        : "memory");
  } else if constexpr (Rank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2,%3,%4}], [%1];" ::"l"(
            map),
        "r"(from), "r"(at[0]), "r"(at[1]), "r"(at[2])
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group"
        " [%0, {%2,%3,%4,%5}], [%1];" ::"l"(map),
        "r"(from), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
        : "memory");
  }
}

}  // namespace heed::cuda::ptx
