// device.cu: the device of a build with CUDA: facts read once, launches on a stream. The only file of the
// host's half that knows CUDA. The runtime is linked statically and loads the driver when it is first
// asked: on a machine without one there is no device.
#include <cuda_runtime.h>

#include <vector>

#include "cuda/device.h"
#include "cuda/instances.h"
#include "cuda/wrappers.h"
#include "problem/words.h"

namespace heed::cuda {
namespace {

std::int64_t Attribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess ? value : 0;
}

Facts FactsOf(int device) {
  Facts f;
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) return f;
  f.name = properties.name;
  f.arch = properties.major * 100 + properties.minor * 10;
  f.multiprocessors = properties.multiProcessorCount;
  f.shared_block = Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  f.shared_multiprocessor = Attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  f.l2_bytes = Attribute(cudaDevAttrL2CacheSize, device);
  f.clock_hz = 1e3 * static_cast<double>(Attribute(cudaDevAttrClockRate, device));
  // Two transfers a clock, eight bits a byte.
  f.bytes_per_second = 1e3 * static_cast<double>(Attribute(cudaDevAttrMemoryClockRate, device)) *
                       2 * static_cast<double>(Attribute(cudaDevAttrGlobalMemoryBusWidth, device)) /
                       8;
  return f;
}

const std::vector<Facts>& AllFacts() {
  static const std::vector<Facts> all = [] {
    int count = 0;
    std::vector<Facts> facts;
    if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
    for (int device = 0; device < count; device++) facts.push_back(FactsOf(device));
    static_cast<void>(cudaGetLastError());  // that there is none is no error of a later call
    return facts;
  }();
  return all;
}

struct Functions {
  const void* of[kInstances] = {};
  Functions() {
    AddMma75(of);
    AddMma80F16(of);
    AddMma80Bf16(of);
    AddBackward75(of);
    AddBackward80F16(of);
    AddBackward80Bf16(of);
    AddOthers(of);
  }
};

class RealDevice final : public Device {
 public:
  const Facts* Now() const override {
    const std::vector<Facts>& all = AllFacts();
    int device = 0;
    if (all.empty() || cudaGetDevice(&device) != cudaSuccess) return nullptr;
    return &all[static_cast<std::size_t>(device)];
  }

  const char* WhyNot() const override { return "no CUDA device"; }

  bool Owns(const void* data) const override {
    cudaPointerAttributes attributes;
    if (AllFacts().empty()) return false;
    if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      return false;
    }
    return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  }

  void* Take(std::size_t bytes, void* stream) const override {
    void* data = nullptr;
    if (cudaMallocAsync(&data, bytes, static_cast<cudaStream_t>(stream)) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      return nullptr;
    }
    return data;
  }
  void Give(void* data, void* stream) const override {
    cudaFreeAsync(data, static_cast<cudaStream_t>(stream));
  }

  Status Run(const Launches& launches) const override {
    static const Functions functions;
    void* forward[] = {const_cast<ForwardCall*>(&launches.call)};
    void* backward[] = {const_cast<BackwardCall*>(launches.backward)};
    for (const Launch& launch : launches.all) {
      const Instance& instance = InstanceOf(launch.row);
      const void* const function = functions.of[launch.row];
      const std::uint32_t shared = instance.shared_bytes();
      cudaError_t error = cudaSuccess;
      // Per function and device; every time, since who of them was asked before is state.
      constexpr std::uint32_t kWithoutAsking = 48 * 1024;
      if (shared > kWithoutAsking) {
        error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shared));
      }
      if (error == cudaSuccess) {
        error = cudaLaunchKernel(function, dim3(static_cast<unsigned>(launch.blocks)),
                                 dim3(static_cast<unsigned>(instance.threads())),
                                 IsOfBackward(instance.kernel) ? backward : forward, shared,
                                 static_cast<cudaStream_t>(launches.buffers.stream));
      }
      if (error != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
        return {StatusCode::kDevice, Words("CUDA did not launch ", instance.name, " on ",
                                           launch.blocks, " blocks: ", cudaGetErrorString(error))};
      }
    }
    return {};
  }
};

}  // namespace

const Device& TheDevice() {
  static const RealDevice device;
  return device;
}

}  // namespace heed::cuda
