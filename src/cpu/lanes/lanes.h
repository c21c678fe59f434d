// lanes/lanes.h: the one place that turns HEED_ISA into a header. Not here: anything else.
#pragma once

#define HEED_LANES_STRING_(x) #x
#define HEED_LANES_STRING(x) HEED_LANES_STRING_(x)
#if !defined(HEED_LANES_HEADER)
// clang-format off
#define HEED_LANES_HEADER HEED_LANES_STRING(cpu/lanes/HEED_ISA.h)
// clang-format on
#endif
#include HEED_LANES_HEADER

namespace heed::cpu::HEED_ISA {
inline constexpr char kIsaName[] = HEED_LANES_STRING(HEED_ISA);
inline constexpr int kRows = kVecs * W;  // queries of a score tile
}  // namespace heed::cpu::HEED_ISA
