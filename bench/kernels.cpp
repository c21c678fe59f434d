// bench/kernels.cpp: probes of what a core can issue, a read stream, a row softmax; compiled once
// per instruction set. Not here: timing, threads, anything of the standard library but its
// integers.
#include "bench/kernels.h"

#define HEED_JOIN_(a, b) a##b
#define HEED_JOIN(a, b) HEED_JOIN_(a, b)

namespace heed::bench {
namespace {

// Registers are named in the text and the loop is inside it, so that no compiler can spill, reorder
// or drop anything. 24 (16) accumulators: two a clock at a latency of up to 12 (8) clocks.
#if defined(HEED_ISA_AVX512BF16) || defined(HEED_ISA_AVX512)
#define HEED_CLOBBER                                                                             \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20",  \
      "xmm21", "xmm22", "xmm23", "xmm30", "xmm31"
#define HEED_EACH ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n"
#define HEED_PROBE(op, bits)                         \
  asm volatile(                                      \
      "vpbroadcastd %1, %%zmm30\n"                   \
      "vmovdqa64 %%zmm30, %%zmm31\n" HEED_EACH       \
      "vpxord %%zmm\\i, %%zmm\\i, %%zmm\\i\n.endr\n" \
      "1:\n" HEED_EACH op                            \
      " %%zmm30, %%zmm31, %%zmm\\i\n.endr\n"         \
      "dec %0\njnz 1b\n"                             \
      : "+r"(n)                                      \
      : "r"(bits)                                    \
      : HEED_CLOBBER)
typedef float V __attribute__((vector_size(64)));

double Fma(std::int64_t rounds) {
  std::int64_t n = rounds;
  HEED_PROBE("vfmadd231ps", 0x3f800000);  // 1.0f
  return 24.0 * 16 * 2 * static_cast<double>(rounds);
}
#if defined(HEED_ISA_AVX512BF16)
#define HEED_HAS_DOT
double Dot(std::int64_t rounds) {
  std::int64_t n = rounds;
  HEED_PROBE("vdpbf16ps", 0x3f803f80);  // two bf16 ones
  return 24.0 * 32 * 2 * static_cast<double>(rounds);
}
#endif

#elif defined(HEED_ISA_AVX2)
typedef float V __attribute__((vector_size(32)));

double Fma(std::int64_t rounds) {
  std::int64_t n = rounds;
  asm volatile(
      "vmovd %1, %%xmm14\nvbroadcastss %%xmm14, %%ymm14\nvmovaps %%ymm14, %%ymm15\n"
      ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13\nvxorps %%ymm\\i, %%ymm\\i, %%ymm\\i\n.endr\n"
      "1:\n.irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13\nvfmadd231ps %%ymm14, %%ymm15, %%ymm\\i\n.endr\n"
      "dec %0\njnz 1b\n"
      : "+r"(n)
      : "r"(0x3f800000)
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  return 14.0 * 8 * 2 * static_cast<double>(rounds);
}

#elif defined(__aarch64__)
// Also for the portable kernels: the compiler may vectorise them, and no scalar code is faster.
typedef float V __attribute__((vector_size(16)));

double Fma(std::int64_t rounds) {
  std::int64_t n = rounds;
#define HEED_EACH ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n"
  asm volatile("fmov v30.4s, #1.0\nfmov v31.4s, #1.0\n" HEED_EACH
               "movi v\\i\\().4s, #0\n.endr\n"
               "1:\n" HEED_EACH
               "fmla v\\i\\().4s, v30.4s, v31.4s\n.endr\n"
               "subs %0, %0, #1\nb.ne 1b\n"
               : "+r"(n)
               :
               : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11",
                 "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23",
                 "v30", "v31");
  return 24.0 * 4 * 2 * static_cast<double>(rounds);
}

#elif defined(__x86_64__)
// Portable kernels on baseline x86-64: no fused instruction. Products and sums go to different
// pipes, so both are issued side by side, four lanes each, which is the most the compiler could
// make of it.
typedef float V __attribute__((vector_size(16)));

double Fma(std::int64_t rounds) {
  std::int64_t n = rounds;
  asm volatile(
      "movd %1, %%xmm14\nshufps $0, %%xmm14, %%xmm14\n"
      ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13\nmovaps %%xmm14, %%xmm\\i\n.endr\n"
      "1:\n.irp i,0,1,2,3,4,5,6\nmulps %%xmm14, %%xmm\\i\n.endr\n"
      ".irp i,7,8,9,10,11,12,13\naddps %%xmm14, %%xmm\\i\n.endr\n"
      "dec %0\njnz 1b\n"
      : "+r"(n)
      : "r"(0x3f800000)
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14");
  return 14.0 * 4 * static_cast<double>(rounds);
}

#else
typedef float V __attribute__((vector_size(16)));

double Fma(std::int64_t rounds) {
  const V one = {1, 1, 1, 1};
  V a[16] = {};
  for (std::int64_t r = 0; r < rounds; ++r) {
    for (V& x : a) x = x * one + one;
    asm volatile("" ::"m"(a));
  }
  return 16.0 * 4 * 2 * static_cast<double>(rounds);
}
#endif

constexpr std::int64_t kW = sizeof(V) / sizeof(float);
typedef std::int32_t VI __attribute__((vector_size(sizeof(V))));

void Read(const void* data, std::int64_t bytes) {
  // 512 bytes a round and 4 KB ahead: hardware prefetchers stop at the page, this does not.
  const char* p = static_cast<const char*>(data);
  for (const char* end = p + bytes; p < end; p += kReadStep) {
    for (int line = 0; line < kReadStep; line += 64) __builtin_prefetch(p + 4096 + line, 0, 3);
    for (int i = 0; i < kReadStep; i += static_cast<int>(sizeof(V))) {
      const V x = *reinterpret_cast<const V*>(p + i);
#if defined(__x86_64__)
      asm volatile("" ::"v"(x));
#elif defined(__aarch64__)
      asm volatile("" ::"w"(x));
#else
      asm volatile("" ::"m"(x));
#endif
    }
  }
}

V Set(float x) { return x - V{}; }
V Max(V a, V b) { return a > b ? a : b; }

// 2^x for x <= 0: x = n + f with |f| <= 1/2; the polynomial has a relative error of 7.5e-8. Below
// 2^-125 the result is 0.
V Exp2(V x) {
  const V magic = Set(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer
  const V c = Max(x, Set(-126.f));
  const V t = c + magic;
  const V f = c - (t - magic);
  V p = Set(1.327647217e-03f);
  p = p * f + 9.675541331e-03f;
  p = p * f + 5.550713273e-02f;
  p = p * f + 2.402211972e-01f;
  p = p * f + 6.931469671e-01f;
  p = p * f + 1.000000072e+00f;
  const VI scaled = reinterpret_cast<VI>(p) + (reinterpret_cast<VI>(t) << 23);
  return x < Set(-125.f) ? V{} : reinterpret_cast<V>(scaled);
}

float Sum(V x) {
  float sum = 0;
  for (int i = 0; i < kW; ++i) sum += x[i];
  return sum;
}

void Softmax(float* s, std::int64_t n, std::int64_t first, std::int64_t last) {
  if (first < 0) first = 0;
  if (last > n) last = n;
  if (last < first) last = first;
  const std::int64_t from = first / kW * kW;
  const std::int64_t to = first == last ? from : (last + kW - 1) / kW * kW;
  for (std::int64_t j = 0; j < from; ++j) s[j] = 0;
  for (std::int64_t j = to; j < n; ++j) s[j] = 0;
  if (from == to) return;
  for (std::int64_t j = from; j < first; ++j) s[j] = -__builtin_inff();
  for (std::int64_t j = last; j < to; ++j) s[j] = -__builtin_inff();

  V* row = reinterpret_cast<V*>(s + from);
  const std::int64_t vectors = (to - from) / kW;
  V most = row[0];
  for (std::int64_t j = 1; j < vectors; ++j) most = Max(most, row[j]);
  float max = most[0];
  for (int i = 1; i < kW; ++i) max = most[i] > max ? most[i] : max;

  constexpr float kLog2e = 1.44269504088896341f;
  const V shift = Set(max * kLog2e);
  V sum = {};
  for (std::int64_t j = 0; j < vectors; ++j) {
    row[j] = Exp2(row[j] * kLog2e - shift);
    sum += row[j];
  }
  const V scale = Set(1 / Sum(sum));
  for (std::int64_t j = 0; j < vectors; ++j) row[j] *= scale;
}

void SoftmaxBackward(const float* p, float* dp, std::int64_t n) {
  const V* probs = reinterpret_cast<const V*>(p);
  V* row = reinterpret_cast<V*>(dp);
  const std::int64_t vectors = n / kW;
  V sum = {};
  for (std::int64_t j = 0; j < vectors; ++j) sum += probs[j] * row[j];
  const V delta = Set(Sum(sum));
  for (std::int64_t j = 0; j < vectors; ++j) row[j] = probs[j] * (row[j] - delta);
}

}  // namespace

#define HEED_TEXT_(x) #x
#define HEED_TEXT(x) HEED_TEXT_(x)

extern const Kernels HEED_JOIN(kKernels_, HEED_ISA);
const Kernels HEED_JOIN(kKernels_, HEED_ISA) = {HEED_TEXT(HEED_ISA),
                                                Fma,
#ifdef HEED_HAS_DOT
                                                Dot,
#else
                                                nullptr,
#endif
                                                Read,
                                                Softmax,
                                                SoftmaxBackward};

}  // namespace heed::bench
