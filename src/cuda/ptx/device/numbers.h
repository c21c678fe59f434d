// Numbers on a GPU: conversions and special functions. f16 everywhere, bf16 and tf32 from sm_80.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/ptx/device/base.h"

namespace heed::cuda::ptx {

// 2^x and log2(x) within 2 units in the last place; subnormal inputs and results count as 0.
HEED_DEVICE float Ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
HEED_DEVICE float Lg2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Rounded each, and never fused with one another by the compiler; and fused.
HEED_DEVICE float Fmul(float a, float b) { return __fmul_rn(a, b); }
HEED_DEVICE float Fadd(float a, float b) { return __fadd_rn(a, b); }
HEED_DEVICE float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
HEED_DEVICE float NegInf() { return __int_as_float(int(0xff800000)); }
HEED_DEVICE uint32_t BitsOf(float x) { return __float_as_uint(x); }
HEED_DEVICE float FloatOf(uint32_t bits) { return __uint_as_float(bits); }

// Two numbers, rounded to nearest even, in one register: `low` in the lower half.
template <class T>
HEED_DEVICE uint32_t Pack(float low, float high);
template <>
HEED_DEVICE uint32_t Pack<F16>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  uint32_t bits;
  __builtin_memcpy(&bits, &pair, 4);
  return bits;
}
template <>
HEED_DEVICE uint32_t Pack<Bf16>(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

HEED_DEVICE float ToFloat(F16 x) { return __half2float(__ushort_as_half(x.bits)); }
HEED_DEVICE float ToFloat(Bf16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }
template <class T>
HEED_DEVICE T FromFloat(float x) {
  return {uint16_t(Pack<T>(x, 0.0f))};
}

// To tf32, rounded to nearest, ties away from zero: the bits an Mma<Tf32> operand takes.
HEED_DEVICE uint32_t RoundTf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

}  // namespace heed::cuda::ptx
