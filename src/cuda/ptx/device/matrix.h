// Matrix instructions of a warp on a GPU: ldmatrix, stmatrix, mma.sync. A warpgroup's: wgmma.h.
#pragma once

#include "cuda/ptx/device/base.h"

namespace heed::cuda::ptx {

// ldmatrix moves `Count` 8 × 8 matrices of 16-bit elements. Lanes 8i to 8i + 7 give the addresses
// of matrix i's rows (16 bytes each, at multiples of 16). Register i of lane l then holds two
// neighbours of matrix i: row l / 4, columns 2(l % 4) and the next; with Trans those of the
// transposed matrix.
//
//   row 0   l0  l0  l1  l1  l2  l2  l3  l3
//   row 1   l4  l4  l5  l5  l6  l6  l7  l7
//   ...
//   row 7   l28 l28 l29 l29 l30 l30 l31 l31
template <int Count, bool Trans>
HEED_DEVICE void Ldmatrix(uint32_t (&to)[Count], uint32_t row) {
  static_assert(Count == 1 || Count == 2 || Count == 4);
  if constexpr (Count == 1 && !Trans) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(to[0])
                 : "r"(row)
                 : "memory");
  } else if constexpr (Count == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(to[0])
                 : "r"(row)
                 : "memory");
  } else if constexpr (Count == 2 && !Trans) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(row)
                 : "memory");
  } else if constexpr (Count == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(row)
                 : "memory");
  } else if constexpr (!Trans) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
  }
}

// sm_90. The way back, with the same layout.
template <int Count, bool Trans>
HEED_DEVICE void Stmatrix(uint32_t row, const uint32_t (&from)[Count]) {
  static_assert(Count == 2 || Count == 4);
  if constexpr (Count == 2 && !Trans) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1,%2};" ::"r"(row), "r"(from[0]),
                 "r"(from[1])
                 : "memory");
  } else if constexpr (Count == 2) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};" ::"r"(row),
                 "r"(from[0]), "r"(from[1])
                 : "memory");
  } else if constexpr (!Trans) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(row),
                 "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
                 : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(row),
                 "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
                 : "memory");
  }
}

// d += a·b over a warp: a is 16 × K, b is K × 8, d is 16 × 8 in f32. With E elements of T to a
// register, g = lane / 4 and t = lane % 4:
//
//   a[r], element e   row g + 8(r % 2), column 4E·(r / 2) + E·t + e
//   b[r], element e   row 4E·r + E·t + e, column g
//   d[i]              row g + 8(i / 2), column 2t + i % 2
//
// f16 with K = 8 exists from sm_75, everything else from sm_80.
template <class T, int K>
HEED_DEVICE void Mma(float (&d)[4], const uint32_t (&a)[kMmaA<T, K>],
                     const uint32_t (&b)[kMmaB<T, K>]) = delete;

#define HEED_MMA_D "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])

template <>
HEED_DEVICE void Mma<F16, 8>(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6},"
      " {%0,%1,%2,%3};"
      : HEED_MMA_D
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
template <>
HEED_DEVICE void Mma<F16, 16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9},"
      " {%0,%1,%2,%3};"
      : HEED_MMA_D
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
HEED_DEVICE void Mma<Bf16, 8>(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6},"
      " {%0,%1,%2,%3};"
      : HEED_MMA_D
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
template <>
HEED_DEVICE void Mma<Bf16, 16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9},"
      " {%0,%1,%2,%3};"
      : HEED_MMA_D
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
HEED_DEVICE void Mma<Tf32, 4>(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {
  asm volatile(
      "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5}, {%6},"
      " {%0,%1,%2,%3};"
      : HEED_MMA_D
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
template <>
HEED_DEVICE void Mma<Tf32, 8>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9},"
      " {%0,%1,%2,%3};"
      : HEED_MMA_D
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#undef HEED_MMA_D

}  // namespace heed::cuda::ptx
