// mbarriers on a GPU, sm_90: eight bytes of shared memory that count arrivals and bytes.
#pragma once

#include "cuda/ptx/device/base.h"

namespace heed::cuda::ptx {

// One thread initialises; FenceMbarrierInit and a SyncThreads make it visible to the others and to
// the copy engine.
HEED_DEVICE void MbarrierInit(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
HEED_DEVICE void FenceMbarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
HEED_DEVICE void MbarrierArrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives, and the phase waits for so many more bytes.
HEED_DEVICE void MbarrierArriveExpectTx(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Returns when the phase of this parity is over; the first phase has parity 0. On a new barrier,
// parity 1 returns at once.
HEED_DEVICE void MbarrierWait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{.reg .pred p;\n"
      "again: mbarrier.try_wait.parity.shared.b64 p, [%0], %1;\n"
      "@p bra done;\n"
      "bra again;\n"
      "done: }" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

}  // namespace heed::cuda::ptx
