// Global and shared memory on a GPU: plain loads and stores, atomics, fences. Copies between the
// two are in copies.h.
#pragma once

#include "cuda/ptx/device/base.h"

namespace heed::cuda::ptx {

// The block of dynamic shared memory; 1024 bytes is what a 128-byte swizzle must be aligned to.
extern __shared__ __align__(1024) unsigned char heed_shared[];
HEED_DEVICE uint32_t SharedBase() { return uint32_t(__cvta_generic_to_shared(heed_shared)); }

namespace detail {
template <class To, class From>
HEED_DEVICE To BitCast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace detail

// Of 2, 4, 8 or 16 bytes, at a multiple of their size.
template <class T>
HEED_DEVICE T LoadShared(uint32_t address) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  if constexpr (sizeof(T) == 2) {
    uint16_t v;
    asm volatile("ld.shared.b16 %0, [%1];" : "=h"(v) : "r"(address) : "memory");
    return detail::BitCast<T>(v);
  } else if constexpr (sizeof(T) == 4) {
    uint32_t v;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
    return detail::BitCast<T>(v);
  } else if constexpr (sizeof(T) == 8) {
    U32x2 v;
    asm volatile("ld.shared.v2.b32 {%0,%1}, [%2];"
                 : "=r"(v.x), "=r"(v.y)
                 : "r"(address)
                 : "memory");
    return detail::BitCast<T>(v);
  } else {
    U32x4 v;
    asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(address)
                 : "memory");
    return detail::BitCast<T>(v);
  }
}
template <class T>
HEED_DEVICE void StoreShared(uint32_t address, T value) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  if constexpr (sizeof(T) == 2) {
    const auto v = detail::BitCast<uint16_t>(value);
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(address), "h"(v) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    const auto v = detail::BitCast<uint32_t>(value);
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    const auto v = detail::BitCast<U32x2>(value);
    asm volatile("st.shared.v2.b32 [%0], {%1,%2};" ::"r"(address), "r"(v.x), "r"(v.y) : "memory");
  } else {
    const auto v = detail::BitCast<U32x4>(value);
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
  }
}

template <class T>
HEED_DEVICE T LoadGlobal(const T* p) {
  return *p;
}
// For data that nothing writes while the kernel runs: goes through the read-only path.
template <class T>
HEED_DEVICE T LoadReadOnly(const T* p) {
  static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 ||
                sizeof(T) == 16);
  if constexpr (sizeof(T) == 1) {
    return detail::BitCast<T>(__ldg(reinterpret_cast<const unsigned char*>(p)));
  } else if constexpr (sizeof(T) == 2) {
    return detail::BitCast<T>(__ldg(reinterpret_cast<const unsigned short*>(p)));
  } else if constexpr (sizeof(T) == 4) {
    return detail::BitCast<T>(__ldg(reinterpret_cast<const unsigned int*>(p)));
  } else if constexpr (sizeof(T) == 8) {
    return detail::BitCast<T>(__ldg(reinterpret_cast<const uint2*>(p)));
  } else {
    return detail::BitCast<T>(__ldg(reinterpret_cast<const uint4*>(p)));
  }
}
template <class T>
HEED_DEVICE void StoreGlobal(T* p, T value) {
  *p = value;
}

// Returns the value before.
HEED_DEVICE uint32_t AtomicAdd(uint32_t* p, uint32_t value) { return atomicAdd(p, value); }
// Float sums in no fixed order: only where the bits may differ from run to run.
HEED_DEVICE void ReduceAdd(float* p, float value) {
  asm volatile("red.global.add.f32 [%0], %1;" ::"l"(p), "f"(value) : "memory");
}
// Orders this thread's global accesses for all blocks of the grid.
HEED_DEVICE void FenceGpu() { __threadfence(); }

}  // namespace heed::cuda::ptx
