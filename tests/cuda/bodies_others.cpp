// bodies_others.cpp: all rows but forward_mma, and the whole table.
#include <array>

#include "bodies.h"
#include "cuda/kernels.h"

namespace heed::cuda {

void AddOthers(BodyOf* table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (R::kKernel != Kernel::forward_mma)
      table[R::kRow] = &Body<R::kKernel, typename R::C>;
  });
}

BodyOf EmulatedBody(int row) {
  static const std::array<BodyOf, kRowCount> kTable = [] {
    std::array<BodyOf, kRowCount> table = {};
    AddMmaF16Plain(table.data());
    AddMmaF16General(table.data());
    AddMmaBf16Plain(table.data());
    AddMmaBf16General(table.data());
    AddOthers(table.data());
    return table;
  }();
  return row >= 0 && row < kRowCount ? kTable[static_cast<std::size_t>(row)] : nullptr;
}

}  // namespace heed::cuda
