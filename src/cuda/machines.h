// machines.h: what a plan assumes of a device that is not there, and how fast a device can be at
// best. Not here: the device that is there (device.h).
#pragma once

#include <span>
#include <string>

#include "cuda/device.h"

namespace heed::cuda {

// One well-known device per architecture, oldest first.
std::span<const Facts> KnownMachines();

// "sm_80"
std::string ArchName(int arch);

// Facts to plan with: of the device that is there where it has this architecture (0: whatever it
// has), else of the known one. Null: no such architecture, or none is there.
const Facts* FactsFor(const Device& device, int arch);

// The architecture named "sm_80", 0 for "auto", -1 for any other word.
int ArchOf(const std::string& name);

// Operations a second of its tensor cores (16-bit, sums in f32) or of its f32 lanes.
double PeakFlops(const Facts& facts, DType dtype);

}  // namespace heed::cuda
