// cpu_call.h: one call as the kernels want it, from a Problem and its Buffers. Not here: which
// kernels, how many threads (cpu.cpp).
#pragma once

#include "cpu/kernels.h"
#include "heed/heed.h"

namespace heed::cpu {

// The blocks of a problem; a packed one has the heads of a group as rows.
bool Packed(const Problem& p, const Kernels& kernels);
Blocks BlocksOf(const Problem& p, const Kernels& kernels);

Steps StepsOf(const Strides& strides);

// Parts of a workspace begin at multiples of a cache line, wherever it begins itself: kAlign - 1 bytes
// more than they take.
inline constexpr std::int64_t kAlign = 64;
inline std::int64_t AlignUp(std::int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
char* AlignedStart(const Workspace& workspace);

// All but the pointers: what a plan knows.
ForwardCall CallOf(const Problem& p, const Kernels& kernels);
void SetPointers(const Problem& p, const Buffers& buffers, ForwardCall* call);

// What the mask says of each tile, to call.kinds.words.
void Classify(const ForwardCall& call, const Kernels& kernels, int threads, bool wake);

WorkShape WorkShapeOf(const ForwardCall& call);

}  // namespace heed::cpu
