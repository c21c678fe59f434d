// bodies_others.cpp: all rows that are not made of tensor cores' products, and the whole table.
#include <array>

#include "bodies.h"

namespace heed::cuda {

void AddOthers(BodyOf* table) {
  ForEachRow([&](auto row) {
    using R = decltype(row);
    if constexpr (!OnTensorCores(R::kKernel)) table[R::kRow] = &BodyOfRow<R>;
  });
}

BodyOf EmulatedBody(int row) {
  static const std::array<BodyOf, kRowCount> kTable = [] {
    std::array<BodyOf, kRowCount> table = {};
    AddMmaF16Plain(table.data());
    AddMmaF16General(table.data());
    AddMmaBf16Plain(table.data());
    AddMmaBf16General(table.data());
    AddBackwardF16(table.data());
    AddBackwardBf16(table.data());
    AddOthers(table.data());
    return table;
  }();
  return row >= 0 && row < kRowCount ? kTable[static_cast<std::size_t>(row)] : nullptr;
}

}  // namespace heed::cuda
