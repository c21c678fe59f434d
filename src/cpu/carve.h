// carve.h: cuts a thread's workspace into its parts. Not here: which parts.
#pragma once

#include "cpu/lanes/base.h"

namespace heed::cpu::HEED_ISA {

// Parts lie one behind the other, each at a multiple of 64 bytes. With base null only `bytes` means
// anything.
struct Carver {
  char* base;
  std::int64_t bytes = 0;
  explicit Carver(void* workspace) : base(static_cast<char*>(workspace)) {}

  template <class T>
  HEED_INLINE void operator()(T*& out, std::int64_t count) {
    out = base ? reinterpret_cast<T*>(base + bytes) : nullptr;
    bytes += (count * static_cast<std::int64_t>(sizeof(T)) + 63) / 64 * 64;
  }
};

}  // namespace heed::cpu::HEED_ISA
