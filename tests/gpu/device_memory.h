// device_memory.h: memory of the device and copies to and from it, for tests that start from arrays of
// the host. Two of them exist: the GPU's (device_memory.cu) and the host's own (device_memory_host.cpp).
// Not here: which arrays a call has (on_device.h).
#pragma once

#include <cstddef>
#include <string>

namespace heed::gpu {

/// Null where there is none.
void* Take(std::size_t bytes);
void Give(void* data);

/// Copies of so many bytes; those to the host wait for all that was launched before. Empty, or the
/// device's own words for what went wrong, in a kernel, too.
std::string ToDevice(void* to, const void* from, std::size_t bytes);
std::string ToHost(void* to, const void* from, std::size_t bytes);

}  // namespace heed::gpu
