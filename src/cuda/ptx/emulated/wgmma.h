// Matrix instructions of a warpgroup, emulated.
#pragma once

#include "cuda/ptx/emulated/matrix.h"

namespace heed::cuda::ptx {

HEED_DEVICE uint64_t SwizzledDescriptor(uint32_t start, uint32_t leading, uint32_t stride) {
  return uint64_t(start >> 4 & 0x3fff) | uint64_t(leading >> 4 & 0x3fff) << 16 |
         uint64_t(stride >> 4 & 0x3fff) << 32 | uint64_t(1) << 62;
}
HEED_DEVICE void WgmmaFence(HEED_AT) { emu::WgmmaFence({"WgmmaFence", at}); }
HEED_DEVICE void WgmmaCommit(HEED_AT) { emu::WgmmaCommit({"WgmmaCommit", at}); }
template <int Pending>
HEED_DEVICE void WgmmaWait(HEED_AT) {
  emu::WgmmaWait(Pending, {"WgmmaWait", at});
}

template <class T, int N, bool TransA, bool TransB>
HEED_DEVICE void WgmmaShared(float (&d)[N / 2], uint64_t a, uint64_t b, bool add, HEED_AT) {
  static_assert(N % 16 == 0 && 16 <= N && N <= 256);
  emu::Wgmma({d, nullptr, a, b, N, TransA, TransB, add, detail::Element<T>::Half},
             {"WgmmaShared", at});
}
template <class T, int N, bool TransB>
HEED_DEVICE void WgmmaRegisters(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool add,
                                HEED_AT) {
  static_assert(N % 16 == 0 && 16 <= N && N <= 256);
  emu::Wgmma({d, a, 0, b, N, false, TransB, add, detail::Element<T>::Half}, {"WgmmaRegisters", at});
}

}  // namespace heed::cuda::ptx
