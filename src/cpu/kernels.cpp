// kernels.cpp: the table of one instruction set's kernels. Compiled once per set with
// -DHEED_ISA=<name> and its flags. Includes no std header that has templates: see lanes/base.h. Not
// here: the kernels (forward.h), the choice among sets (cpu.cpp).
#include "cpu/kernels.h"

#include "cpu/decode_items.h"
#include "cpu/forward.h"

namespace heed::cpu::HEED_ISA {
namespace {

void RunForward(const ForwardCall& call, std::int64_t first, std::int64_t last, void* workspace) {
  const char* const name = kIsaName;
  __atomic_store_n(call.ran, name, __ATOMIC_RELAXED);  // every thread writes the same
  WithFormat(call.dtype, [&]<class F>(F) {
    if (call.split.few)
      DecodeItems<F>(call, workspace).Items(first, last);
    else
      Forward<F>(call, workspace).Items(first, last);
  });
}

void Append(const ForwardCall& call, std::int64_t first, std::int64_t last) {
  WithFormat(call.dtype, [&]<class F>(F) { AppendRows<F>(call, first, last); });
}

void Join(const ForwardCall& call, std::int64_t first, std::int64_t last) {
  WithFormat(call.dtype, [&]<class F>(F) { JoinRows<F>(call, first, last); });
}

void Classify(const ForwardCall& call, std::int64_t first, std::int64_t last) {
  for (std::int64_t n = first; n < last; n++) FindMaskKinds(call, n);
}

int SumStep(int columns) { return RoundUp(columns, W); }

std::int64_t Workspace(const WorkShape& shape) {
  std::int64_t bytes = 0;
  WithFormat(shape.dtype, [&]<class F>(F) {
    bytes = shape.few_rows > 0 ? DecodeItemsWorkspace<F>(shape) : Work<F>().Carve(nullptr, shape);
  });
  return bytes;
}

// Above head dim 256 both shrink in proportion, so that the workspace stays within the L2; small
// problems take what they need.
Blocks BlocksOf(int dim, int dim_v, std::int64_t rows, std::int64_t k_len) {
  const int big = dim > dim_v ? dim : dim_v, over = big > 256 ? big : 256;
  Blocks b;
  b.tiles =
      static_cast<int>(Clamp((rows + kRows - 1) / kRows, 1, heed::Max(1, kMaxTiles * 256 / over)));
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

const Kernels kKernels = {kIsaName, kNativeBf16, kRows,  kKeys,    BlocksOf,  Workspace,
                          SumStep,  Join,        Append, Classify, RunForward};

}  // namespace heed::cpu::HEED_ISA
