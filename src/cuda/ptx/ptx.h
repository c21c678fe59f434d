// The ptx layer: one instruction, one function. Two bodies: inline PTX for a GPU (device/), and an
// emulated machine for the tests (emulated/, which is never part of the library). This file is the
// only place that knows which one is compiled; kernels are the same text for both.
//
// The contract that makes both possible:
// - shared memory is one dynamic block, reached by 32-bit addresses from SharedBase() alone;
// - global memory is reached by LoadGlobal, StoreGlobal and their like alone, never through a
//   dereferenced pointer;
// - what only some architectures have is guarded by `if constexpr` on the kernel's configuration,
//   in a template, so that an older target never sees the instruction.
#pragma once

#ifdef __CUDACC__
#include "cuda/ptx/device/block.h"
#include "cuda/ptx/device/copies.h"
#include "cuda/ptx/device/matrix.h"
#include "cuda/ptx/device/mbarrier.h"
#include "cuda/ptx/device/memory.h"
#include "cuda/ptx/device/numbers.h"
#include "cuda/ptx/device/wgmma.h"
#else
#include "cuda/ptx/emulated/block.h"
#include "cuda/ptx/emulated/copies.h"
#include "cuda/ptx/emulated/matrix.h"
#include "cuda/ptx/emulated/mbarrier.h"
#include "cuda/ptx/emulated/memory.h"
#include "cuda/ptx/emulated/numbers.h"
#include "cuda/ptx/emulated/wgmma.h"
#endif
