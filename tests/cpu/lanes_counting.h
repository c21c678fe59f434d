// lanes_counting.h: the scalar lanes with every access to memory told to a cache model. In the
// tests alone: compiled as an instruction set of its own, called counting.
#pragma once

// The scalar lanes under another name; here are only the operations that touch memory.
#undef HEED_ISA
#define HEED_ISA counted
#include "cpu/lanes/scalar.h"
#undef HEED_ISA
#define HEED_ISA counting

namespace heed::cpu {
void NoteAccess(const void* p, std::size_t bytes, bool written);  // io_model_test.cpp
}

namespace heed::cpu::counting {

using namespace counted;

inline constexpr int kMaxTiles = 64;  // so that the test may choose among block sizes

template <class T>
HEED_INLINE const T* Read(const T* p) {
  NoteAccess(p, sizeof(T), false);
  return p;
}
template <class T>
HEED_INLINE T* Written(T* p) {
  NoteAccess(p, sizeof(T), true);
  return p;
}

HEED_INLINE V Splat(const float* p) { return counted::Splat(Read(p)); }
HEED_INLINE V Load(const float* p) { return counted::Load(Read(p)); }
HEED_INLINE V LoadBf16(const std::uint16_t* p) { return counted::LoadBf16(Read(p)); }
HEED_INLINE V LoadF16(const std::uint16_t* p) { return counted::LoadF16(Read(p)); }
HEED_INLINE void Store(float* p, V x) { counted::Store(Written(p), x); }
HEED_INLINE void StoreBf16(std::uint16_t* p, V x) { counted::StoreBf16(Written(p), x); }
HEED_INLINE void StoreF16(std::uint16_t* p, V x) { counted::StoreF16(Written(p), x); }

HEED_INLINE V LoadN(const float* p, int n) { return n > 0 ? Load(p) : Zero(); }
HEED_INLINE V LoadBf16N(const std::uint16_t* p, int n) { return n > 0 ? LoadBf16(p) : Zero(); }
HEED_INLINE V LoadF16N(const std::uint16_t* p, int n) { return n > 0 ? LoadF16(p) : Zero(); }
HEED_INLINE void StoreN(float* p, V x, int n) {
  if (n > 0) Store(p, x);
}
HEED_INLINE void StoreBf16N(std::uint16_t* p, V x, int n) {
  if (n > 0) StoreBf16(p, x);
}
HEED_INLINE void StoreF16N(std::uint16_t* p, V x, int n) {
  if (n > 0) StoreF16(p, x);
}

}  // namespace heed::cpu::counting
