// device_memory_host.cpp: see device_memory.h; the host's own, for the emulated device and for
// rehearsals.
#include <cstdlib>
#include <cstring>

#include "device_memory.h"

namespace heed::gpu {

void* Take(std::size_t bytes) { return std::malloc(bytes); }

void Give(void* data) { std::free(data); }

std::string ToDevice(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
  return "";
}

std::string ToHost(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
  return "";
}

}  // namespace heed::gpu
