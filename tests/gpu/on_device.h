// on_device.h: a call whose arrays are the host's, run in memory of the device. Not here: what is right.
#pragma once

#include "heed/heed.h"

namespace heed::gpu {

/// Copies every array of the call to the device, each with zones before and behind it and at the same
/// address modulo 256, runs there in a workspace full of NaN, and copies the results back. kDevice where
/// the device fails, and where it wrote beside an array, into an input, or beside the workspace. Takes
/// the place of heed::Run in tests.
Status RunOnDevice(const Plan& plan, const Buffers& buffers);

/// The same with `run`, which sees the arrays on the device, in place of heed::Run.
Status RunOnDevice(const Plan& plan, const Buffers& buffers,
                   Status (*run)(const Plan&, const Buffers&));

}  // namespace heed::gpu
