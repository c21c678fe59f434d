// device_memory.cu: see device_memory.h; the GPU's.
#include <cuda_runtime.h>

#include "device_memory.h"

namespace heed::gpu {
namespace {

std::string Words(cudaError_t e) { return e == cudaSuccess ? "" : cudaGetErrorString(e); }

}  // namespace

void* Take(std::size_t bytes) {
  void* data = nullptr;
  return cudaMalloc(&data, bytes) == cudaSuccess ? data : nullptr;
}

void Give(void* data) { cudaFree(data); }

std::string ToDevice(void* to, const void* from, std::size_t bytes) {
  return Words(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

std::string ToHost(void* to, const void* from, std::size_t bytes) {
  const std::string kernels = Words(cudaDeviceSynchronize());
  return kernels.empty() ? Words(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost)) : kernels;
}

}  // namespace heed::gpu
