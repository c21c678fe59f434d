// instances.cpp: see instances.h.
#include "cuda/instances.h"

#include <algorithm>

namespace heed::cuda {
namespace {

// The newest architecture of rows for (kernel, dtype) that the device runs; older rows are not compiled
// for it. 0: none.
int NewestArch(const Facts& facts, Kernel kernel, DType dtype) {
  int newest = 0;
  for (const Instance& i : instances::kAll) {
    if (i.kernel == kernel && i.dtype == dtype && i.arch <= facts.arch)
      newest = std::max(newest, i.arch);
  }
  return newest;
}

}  // namespace

int FindForward(const Facts& facts, const Wanted& w) {
  const Kernel kernel = w.dtype == DType::kF32 ? Kernel::forward_fma : Kernel::forward_mma;
  const int arch = NewestArch(facts, kernel, w.dtype);
  int best = -1;
  const auto better = [&](const Instance& i, const Instance& b) {
    if (i.dim != b.dim) return i.dim < b.dim;
    if (w.packed > 0 && i.rows != b.rows) return i.rows < b.rows;
    return i.terms == TermKind::plain && b.terms != TermKind::plain;
  };
  for (int row = 0; row < kInstances; row++) {
    const Instance& i = InstanceOf(row);
    if (i.kernel != kernel || i.arch != arch || i.dtype != w.dtype || i.dim < w.dim ||
        i.rows < w.packed || i.shared_bytes() > facts.shared_block ||
        (i.terms == TermKind::plain && !w.plain)) {
      continue;
    }
    if (best < 0 || better(i, InstanceOf(best))) best = row;
  }
  return best;
}

int FindTiles(const Facts& facts, Kernel kernel, DType dtype, int dim, bool plain, int like) {
  const int arch = NewestArch(facts, kernel, dtype);
  int best = -1;
  for (int row = 0; row < kInstances; row++) {
    const Instance& i = InstanceOf(row);
    const bool same =
        like < 0 || (i.rows == InstanceOf(like).rows && i.keys == InstanceOf(like).keys &&
                     i.dim == InstanceOf(like).dim);
    if (i.kernel != kernel || i.arch != arch || i.dtype != dtype || i.dim < dim || !same ||
        i.shared_bytes() > facts.shared_block || (i.terms == TermKind::plain && !plain)) {
      continue;
    }
    if (best < 0 || i.dim < InstanceOf(best).dim) best = row;
  }
  return best;
}

int FindOther(const Facts& facts, Kernel kernel, DType dtype) {
  const DType type = kernel == Kernel::classify ? DType::kF16
                     : kernel == Kernel::sinks  ? DType::kF32
                                                : dtype;
  const int arch = NewestArch(facts, kernel, type);
  for (int row = 0; row < kInstances; row++) {
    const Instance& i = InstanceOf(row);
    if (i.kernel == kernel && i.dtype == type && i.arch == arch) return row;
  }
  return -1;
}

int BlocksAtOnce(const Facts& facts, const Instance& i) {
  constexpr std::int64_t kReserved = 1024;  // of shared memory, per block, by the system
  const std::int64_t fit =
      facts.shared_multiprocessor / (static_cast<std::int64_t>(i.shared_bytes()) + kReserved);
  return static_cast<int>(std::clamp<std::int64_t>(fit, 1, i.blocks));
}

}  // namespace heed::cuda
