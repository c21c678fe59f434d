// Global and shared memory, emulated.
#pragma once

#include "cuda/ptx/emulated/base.h"

namespace heed::cuda::ptx {

HEED_DEVICE uint32_t SharedBase() { return emu::kSharedBase; }

template <class T>
HEED_DEVICE T LoadShared(uint32_t address, HEED_AT) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  T value;
  emu::LoadShared(address, &value, sizeof value, {"LoadShared", at});
  return value;
}
template <class T>
HEED_DEVICE void StoreShared(uint32_t address, T value, HEED_AT) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  emu::StoreShared(address, &value, sizeof value, {"StoreShared", at});
}

template <class T>
HEED_DEVICE T LoadGlobal(const T* p, HEED_AT) {
  T value;
  emu::LoadGlobal(p, &value, sizeof value, false, {"LoadGlobal", at});
  return value;
}
template <class T>
HEED_DEVICE T LoadReadOnly(const T* p, HEED_AT) {
  static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 ||
                sizeof(T) == 16);
  T value;
  emu::LoadGlobal(p, &value, sizeof value, true, {"LoadReadOnly", at});
  return value;
}
template <class T>
HEED_DEVICE void StoreGlobal(T* p, T value, HEED_AT) {
  emu::StoreGlobal(p, &value, sizeof value, {"StoreGlobal", at});
}

HEED_DEVICE uint32_t AtomicAdd(uint32_t* p, uint32_t value, HEED_AT) {
  return emu::AtomicAdd(p, value, {"AtomicAdd", at});
}
HEED_DEVICE void ReduceAdd(float* p, float value, HEED_AT) {
  emu::ReduceAdd(p, value, {"ReduceAdd", at});
}
// Blocks run one after another, so there is nothing to order; that a block reads what another one
// wrote is allowed in shared buffers alone.
HEED_DEVICE void FenceGpu() {}

}  // namespace heed::cuda::ptx
