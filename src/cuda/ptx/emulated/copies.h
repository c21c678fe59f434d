// Asynchronous copies, emulated.
#pragma once

#include "cuda/ptx/emulated/base.h"

namespace heed::cuda::ptx {

template <int Bytes>
HEED_DEVICE void CpAsync(uint32_t to, const void* from, bool valid, HEED_AT) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  emu::CpAsync(to, from, Bytes, valid, {"CpAsync", at});
}
HEED_DEVICE void CpAsyncCommit(HEED_AT) { emu::CpAsyncCommit({"CpAsyncCommit", at}); }
template <int Pending>
HEED_DEVICE void CpAsyncWait(HEED_AT) {
  emu::CpAsyncWait(Pending, {"CpAsyncWait", at});
}

HEED_DEVICE void BulkLoad(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier,
                          HEED_AT) {
  emu::BulkLoad(to, from, bytes, barrier, {"BulkLoad", at});
}
HEED_DEVICE void BulkReduceAdd(float* to, uint32_t from, uint32_t bytes, HEED_AT) {
  emu::BulkReduceAdd(to, from, bytes, {"BulkReduceAdd", at});
}
HEED_DEVICE void BulkCommit(HEED_AT) { emu::BulkCommit({"BulkCommit", at}); }
template <int Pending>
HEED_DEVICE void BulkWaitRead(HEED_AT) {
  emu::BulkWait(Pending, {"BulkWaitRead", at});
}
template <int Pending>
HEED_DEVICE void BulkWait(HEED_AT) {
  emu::BulkWait(Pending, {"BulkWait", at});
}
HEED_DEVICE void FenceProxyAsync(HEED_AT) { emu::FenceProxyAsync({"FenceProxyAsync", at}); }

using TensorMap = emu::TensorMap;

HEED_DEVICE void PrefetchTensorMap(const TensorMap* map, HEED_AT) {
  emu::PrefetchTensorMap(map, {"PrefetchTensorMap", at});
}
template <int Rank>
HEED_DEVICE void TmaLoad(uint32_t to, const TensorMap* map, uint32_t barrier,
                         const int (&coordinates)[Rank], HEED_AT) {
  static_assert(2 <= Rank && Rank <= 4);
  emu::TmaLoad(to, map, barrier, coordinates, Rank, {"TmaLoad", at});
}
template <int Rank>
HEED_DEVICE void TmaStore(const TensorMap* map, uint32_t from, const int (&coordinates)[Rank],
                          HEED_AT) {
  static_assert(2 <= Rank && Rank <= 4);
  emu::TmaStore(map, from, coordinates, Rank, {"TmaStore", at});
}

}  // namespace heed::cuda::ptx
