// kernels.cpp: the table of one instruction set's kernels. Compiled once per set with
// -DHEED_ISA=<name> and its flags. Includes no std header that has templates: see lanes/base.h. Not
// here: the kernels (forward.h), the choice among sets (cpu.cpp).
#include "cpu/kernels.h"

#include "cpu/forward.h"

namespace heed::cpu::HEED_ISA {
namespace {

template <class F>
void Run(const ForwardCall& call, std::int64_t first, std::int64_t last, void* workspace) {
  Forward<F>(call, workspace).Items(first, last);
}

void RunForward(const ForwardCall& call, std::int64_t first, std::int64_t last, void* workspace) {
  const char* const name = kIsaName;
  __atomic_store_n(call.ran, name, __ATOMIC_RELAXED);  // every thread writes the same
  switch (call.dtype) {
    case DType::kF32:
      return Run<Format<DType::kF32>>(call, first, last, workspace);
    case DType::kBF16:
      return Run<Format<DType::kBF16>>(call, first, last, workspace);
    case DType::kF16:
      return Run<Format<DType::kF16>>(call, first, last, workspace);
    case DType::kF64:
      return;  // Supports refused it
  }
}

std::int64_t Workspace(DType dtype, int dim, int dim_v, Blocks blocks) {
  switch (dtype) {
    case DType::kF32:
      return Work<Format<DType::kF32>>().Carve(nullptr, dim, dim_v, blocks);
    case DType::kBF16:
      return Work<Format<DType::kBF16>>().Carve(nullptr, dim, dim_v, blocks);
    case DType::kF16:
      return Work<Format<DType::kF16>>().Carve(nullptr, dim, dim_v, blocks);
    case DType::kF64:
      break;
  }
  return 0;
}

// Above head dim 256 both shrink in proportion, so that the workspace stays within the L2; small
// problems take what they need.
Blocks BlocksOf(DType, int dim, int dim_v, std::int64_t q_len, std::int64_t k_len) {
  const int big = dim > dim_v ? dim : dim_v, over = big > 256 ? big : 256;
  Blocks b;
  b.tiles =
      static_cast<int>(Clamp((q_len + kRows - 1) / kRows, 1, heed::Max(1, kMaxTiles * 256 / over)));
  const std::int64_t most = heed::Max(kKeys, kMaxKeys * 256 / over / kKeys * kKeys);
  b.keys = static_cast<int>(Clamp((k_len + kKeys - 1) / kKeys * kKeys, kKeys, most));
  return b;
}

}  // namespace

#if defined(HEED_NATIVE_BF16)
inline constexpr bool kNativeBf16 = true;
#else
inline constexpr bool kNativeBf16 = false;
#endif

const Kernels kKernels = {kIsaName, kNativeBf16, kRows, kKeys, BlocksOf, Workspace, RunForward};

}  // namespace heed::cpu::HEED_ISA
