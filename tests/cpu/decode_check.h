// decode_check.h: the decode kernels of one instruction set as plain functions, so that baseline
// code can test every set that was compiled. Not here: what is right (decode_test.cpp).
#pragma once

#include <cstdint>

#include "heed/types.h"

namespace heed::cpu {

// All kv heads of one entry, in pieces of `piece` keys, joined.
struct DecodeCall {
  DType dtype = DType::kF32;
  int dim = 1, dim_v = 1, rows = 1, heads = 1;
  const void *q = nullptr, *k = nullptr, *v = nullptr;        // q: [heads][rows][dim]
  std::int64_t k_row = 0, v_row = 0, k_head = 0, v_head = 0;  // elements
  const std::int32_t* table = nullptr;
  std::int64_t page_rows = 1, k_page = 0, v_page = 0, first_row = 0;
  std::int64_t keys = 0, piece = 0;
  bool together = false;  // all heads in one walk
  bool cached = false;
  const std::int64_t *row_first = nullptr, *row_last = nullptr, *positions = nullptr;
  std::int64_t prefix = 0;
  double scale = 1, softcap = 0;
  const float* slopes = nullptr;  // [heads * rows] or null
  const float* sinks = nullptr;   // [heads * rows], in natural units, or null
  void* o = nullptr;              // [heads][rows][dim_v]; f32 where o_f32, else dtype
  bool o_f32 = true;
  float* lse = nullptr;  // [heads][rows]
};

struct DecodeCheck {
  const char* isa;
  bool native_bf16;
  int most_rows;
  std::int64_t (*scratch)(const DecodeCall& call);     // bytes
  void (*run)(const DecodeCall& call, void* scratch);  // 64-byte aligned
};

#define HEED_DECLARE_DECODE_CHECK(isa) \
  namespace isa {                      \
  extern const DecodeCheck kDecode;    \
  }
HEED_DECLARE_DECODE_CHECK(avx512bf16)
HEED_DECLARE_DECODE_CHECK(avx512)
HEED_DECLARE_DECODE_CHECK(avx2)
HEED_DECLARE_DECODE_CHECK(neon)
HEED_DECLARE_DECODE_CHECK(scalar)
#undef HEED_DECLARE_DECODE_CHECK

}  // namespace heed::cpu
