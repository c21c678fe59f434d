// What every emulated file of the ptx layer starts from. The names and contracts are those of the
// file of the same name in device/, where they are described; the machine is tests/emu.
#pragma once

#include "cuda/ptx/types.h"
#include "emu/machine.h"

#define HEED_DEVICE inline
#define HEED_UNROLL
#define HEED_UNROLL_4
#define HEED_NO_UNROLL

// Behind the last parameter: where in the kernel the call stands.
#define HEED_AT emu::At at = emu::At::Here()

namespace heed::cuda::ptx {

// Everything is compiled; what an architecture lacks, the machine reports when it is used.
inline constexpr int kArch = 900;
inline constexpr bool kHasWgmma = true;

}  // namespace heed::cuda::ptx
