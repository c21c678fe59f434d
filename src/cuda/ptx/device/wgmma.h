// Matrix instructions of a warpgroup (128 threads) on a GPU, sm_90a: wgmma over operands in shared
// memory that are laid out in TMA's 128-byte swizzle. f16 and bf16, K = 16 to an instruction.
#pragma once

#include "cuda/ptx/device/base.h"
#include "cuda/ptx/device/wgmma_rows.inc"

namespace heed::cuda::ptx {

// Where a 16-bit operand's 16-deep slice lies. `mn` counts A's rows or B's columns.
//
//   K-major (not Trans): row mn is 128 bytes (64 elements of k); 8 rows are an atom of 1024 bytes.
//     element (mn, k) at  start + (mn / 8)·stride + (mn % 8)·128 + 2k            leading: unused
//   MN-major (Trans): row k is 128 bytes (64 elements of mn); 8 rows are an atom.
//     element (mn, k) at  start + (mn / 64)·leading + 2(mn % 64) + (k / 8)·stride + (k % 8)·128
//
// and bits 4-6 of that address are xored with its bits 7-9. The atoms lie at multiples of 1024.
HEED_DEVICE uint64_t SwizzledDescriptor(uint32_t start, uint32_t leading, uint32_t stride) {
  return uint64_t(start >> 4 & 0x3fff) | uint64_t(leading >> 4 & 0x3fff) << 16 |
         uint64_t(stride >> 4 & 0x3fff) << 32 | uint64_t(1) << 62;
}

// Before the first wgmma, and whenever registers that it reads or adds to were written otherwise.
HEED_DEVICE void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
HEED_DEVICE void WgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most `Pending` groups are in flight; before that, neither registers nor operands may be
// touched.
template <int Pending>
HEED_DEVICE void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

namespace detail {
template <class T, int N>
struct Wgmma;
#define HEED_WGMMA(T, type, N, p0, p1, p2, p3, p4, p5, p6)                                        \
  template <>                                                                                     \
  struct Wgmma<T, N> {                                                                            \
    template <bool TransA, bool TransB>                                                           \
    static HEED_DEVICE void Shared(float (&d)[N / 2], uint64_t a, uint64_t b, bool add) {         \
      asm volatile("{.reg .pred p; setp.ne.b32 p, %" #p2                                          \
                   ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type           \
                   " {" HEED_REGS_##N "}, %" #p0 ", %" #p1 ", p, 1, 1, %" #p3 ", %" #p4 ";}"      \
                   : HEED_ACC_##N                                                                 \
                   : "l"(a), "l"(b), "r"(int(add)), "n"(int(TransA)), "n"(int(TransB)));          \
    }                                                                                             \
    template <bool TransB>                                                                        \
    static HEED_DEVICE void Registers(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,      \
                                      bool add) {                                                 \
      asm volatile(                                                                               \
          "{.reg .pred p; setp.ne.b32 p, %" #p5 ", 0; wgmma.mma_async.sync.aligned.m64n" #N       \
          "k16.f32." type "." type " {" HEED_REGS_##N "}, {%" #p0 ",%" #p1 ",%" #p2 ",%" #p3      \
                                                      "}, %" #p4 ", p, 1, 1, %" #p6 ";}"          \
          : HEED_ACC_##N                                                                          \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(add)), "n"(int(TransB))); \
    }                                                                                             \
  };
#define HEED_WGMMA_F16(...) HEED_WGMMA(F16, "f16", __VA_ARGS__)
#define HEED_WGMMA_BF16(...) HEED_WGMMA(Bf16, "bf16", __VA_ARGS__)
HEED_WGMMA_ROWS(HEED_WGMMA_F16)
HEED_WGMMA_ROWS(HEED_WGMMA_BF16)
#undef HEED_WGMMA_BF16
#undef HEED_WGMMA_F16
#undef HEED_WGMMA
}  // namespace detail

// d = a·b, plus d if `add`: a is 64 × 16, b is 16 × N, N a multiple of 16. Thread i holds of d,
// with g = i % 32 / 4 and t = i % 4,
//
//   d[j]   row 16(i / 32) + g + 8(j / 2 % 2), column 8(j / 4) + 2t + j % 2
//
// and, where a comes in registers, of its warp's 16 rows what Mma<T, 16> takes as a.
template <class T, int N, bool TransA, bool TransB>
HEED_DEVICE void WgmmaShared(float (&d)[N / 2], uint64_t a, uint64_t b, bool add) {
  detail::Wgmma<T, N>::template Shared<TransA, TransB>(d, a, b, add);
}
template <class T, int N, bool TransB>
HEED_DEVICE void WgmmaRegisters(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool add) {
  detail::Wgmma<T, N>::template Registers<TransB>(d, a, b, add);
}

}  // namespace heed::cuda::ptx
