// lanes_check.h: the operations of one lanes header as plain functions on arrays, so that baseline
// code can test every instruction set that was compiled. Not here: what is right (lanes_test.cpp).
#pragma once

#include <cstdint>

#include "heed/types.h"

namespace heed::cpu {

// Operations on whole vectors: a, b, c in, one vector out. Booleans come as 1 and 0.
enum class LaneOp {
  kZero,
  kSet,    // of a[0]
  kSplat,  // of a[0]
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFma,
  kFms,
  kMax,
  kLt,
  kLe,
  kEq,
  kAnd,     // a < b and b < c
  kAndNot,  // not a < b, and b < c
  kSelect,  // a < b ? b : c
  kAny,     // any a < b, in lane 0
  kAllLe,   // in lane 0
  kExp2Split,
  kExp2Join,  // b * 2^n of a
  kFlushTiny,
  kClampLow,
  kLog2Fraction,
  kLog2Exponent,
  kExp2Of4,
  kExp2Of5,
  kExp2OrZeroOf4,
  kExp2OrZeroOf5,
  kLog2,
};

struct LanesCheck {
  const char* isa;
  int w;
  void (*floats)(LaneOp op, const float* a, const float* b, const float* c, float* out);
  // The first n elements, or all w by the form without a count where n < 0.
  void (*load)(DType dtype, const void* p, int n, float* out);
  void (*store)(DType dtype, void* p, const float* x, int n);
  void (*stream)(float* p, const float* x, int vectors);  // and ends the streams
  void (*transpose)(float* rows);                         // w rows of w
  void (*repeat)(int n, const float* p, float* out);      // n: a power of two up to w
  void (*fold)(int step, const float* a, const float* b, float* out);

  // Pairs of bf16: null where the set has none.
  void (*dot)(const std::uint32_t* a, const std::uint32_t* b, const float* c, float* out) = nullptr;
  void (*pack)(const float* low, const float* high, std::uint32_t* out) = nullptr;
  void (*unpack)(const std::uint32_t* pairs, float* low, float* high) = nullptr;
  void (*store_halves)(std::uint32_t* pairs, const float* x) = nullptr;
  void (*zip)(const std::uint16_t* a, const std::uint16_t* b, int n, std::uint32_t* out) = nullptr;
  void (*set_pair)(std::uint32_t pair, std::uint32_t* out) = nullptr;
  void (*repeat_pairs)(int n, const std::uint16_t* p, std::uint32_t* out) = nullptr;
  // 2w columns of two rows by ZipRowsApart, each pair's half widened, and those put in order.
  void (*zip_apart)(const std::uint16_t* a, const std::uint16_t* b, float* low,
                    float* high) = nullptr;
};

#define HEED_DECLARE_LANES_CHECK(isa) \
  namespace isa {                     \
  extern const LanesCheck kLanes;     \
  }
HEED_DECLARE_LANES_CHECK(avx512bf16)
HEED_DECLARE_LANES_CHECK(avx512)
HEED_DECLARE_LANES_CHECK(avx2)
HEED_DECLARE_LANES_CHECK(neon)
HEED_DECLARE_LANES_CHECK(scalar)
#undef HEED_DECLARE_LANES_CHECK

}  // namespace heed::cpu
