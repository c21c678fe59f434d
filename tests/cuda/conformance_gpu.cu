// The conformance kernel on a GPU: runs the parts that the device has and compares with the
// emulator's file, bit for bit. Usage: conformance_gpu FILE [OUT]. Exit 0: equal.
#include <cuda_runtime.h>

#include "conformance_host.h"

namespace {

namespace conf = heed::cuda::conformance;
namespace ptx = heed::cuda::ptx;

// Each exists for every target of this file, and is empty where the target lacks the instructions.
template <int Arch>
__global__ void __launch_bounds__(conf::kThreads, 1)
    Kernel(const __grid_constant__ conf::Params p) {
  if constexpr (Arch == 750 && ptx::kArch >= 750) conf::Turing(p);
  if constexpr (Arch == 800 && ptx::kArch >= 800) conf::Ampere(p);
  if constexpr (Arch == 900 && ptx::kHasWgmma) conf::Hopper(p);
}

bool Ok(cudaError_t e, const char* what) {
  if (e != cudaSuccess) std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(e));
  return e == cudaSuccess;
}

template <class T>
T* ToDevice(const std::vector<T>& v) {
  void* p = nullptr;
  const size_t bytes = v.size() * sizeof(T);
  if (!Ok(cudaMalloc(&p, bytes), "cudaMalloc")) return nullptr;
  if (!Ok(cudaMemcpy(p, v.data(), bytes, cudaMemcpyHostToDevice), "to the device")) return nullptr;
  return static_cast<T*>(p);
}
template <class T>
bool ToHost(std::vector<T>& v, const T* p) {
  return Ok(cudaMemcpy(v.data(), p, v.size() * sizeof(T), cudaMemcpyDeviceToHost), "to the host");
}

// Boxes of 64 × 64 16-bit elements, swizzled, of a tensor of 64 columns.
bool Encode(ptx::TensorMap& map, void* base, cuuint64_t rows) {
  // Asked of the runtime, so that nothing links libcuda.
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (!Ok(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                           cudaEnableDefault, &found),
          "cuTensorMapEncodeTiled") ||
      found != cudaDriverEntryPointSuccess) {
    return false;
  }
  const cuuint64_t size[2] = {64, rows}, stride[1] = {128};
  const cuuint32_t box[2] = {64, 64}, element[2] = {1, 1};
  const CUresult r = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      &map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, base, size, stride, box, element,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (r != CUDA_SUCCESS) std::fprintf(stderr, "cuTensorMapEncodeTiled: error %d\n", int(r));
  return r == CUDA_SUCCESS;
}

template <int Arch>
bool Launch(const conf::Params& p, uint32_t shared_bytes) {
  Kernel<Arch><<<1, conf::kThreads, shared_bytes>>>(p);
  return Ok(cudaGetLastError(), "launch") && Ok(cudaDeviceSynchronize(), "kernel");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: conformance_gpu FILE [OUT]\n");
    return 2;
  }
  const std::vector<uint32_t> want = conf::ReadFile(argv[1]);
  if (want.empty()) {
    std::fprintf(stderr, "%s is missing or has the wrong size\n", argv[1]);
    return 2;
  }
  cudaDeviceProp device;
  if (!Ok(cudaGetDeviceProperties(&device, 0), "no CUDA device")) return 2;
  // wgmma exists for compute capability 9.0 alone.
  const int arch = device.major == 9 && device.minor == 0 ? 900 : device.major >= 8 ? 800 : 750;

  conf::HostBuffers b;
  conf::Params p{};
  uint16_t* const source = ToDevice(b.source);
  p.source = source;
  p.out = ToDevice(b.out);
  p.sums = ToDevice(b.sums);
  p.reduced = ToDevice(b.reduced);
  p.stored = ToDevice(b.stored);
  if (!source || !p.out || !p.sums || !p.reduced || !p.stored) return 2;
  if (!Launch<750>(p, conf::kMmaShared)) return 2;
  if (arch >= 800 && !Launch<800>(p, conf::kMmaShared)) return 2;
  if (arch >= 900) {
    if (!Encode(p.load, source, 128) || !Encode(p.store, p.stored, 60)) return 2;
    if (!Launch<900>(p, conf::kHopperShared)) return 2;
  }
  if (!ToHost(b.out, p.out) || !ToHost(b.sums, p.sums) || !ToHost(b.reduced, p.reduced) ||
      !ToHost(b.stored, p.stored)) {
    return 2;
  }
  b.Collect(arch);
  if (argc > 2 && !conf::WriteFile(argv[2], b.out)) return 2;

  const std::string differences = conf::Differences(b.out, want, arch);
  std::printf("%s, sm_%d%d: %s\n%s", device.name, device.major, device.minor,
              differences.empty() ? "every section equals the emulator's" : "DIFFERENT",
              differences.c_str());
  return differences.empty() ? 0 : 1;
}
