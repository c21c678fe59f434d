// cli/attend_tensors.h: what reading a call's tensors needs again and again: finding, converting,
// expecting a shape. Not here: what they mean.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "heed/problem.h"
#include "heed/types.h"
#include "io/tensor.h"

namespace heed::cli {

template <class... Args>
Status Invalid(fmt::format_string<Args...> sentence, Args&&... args) {
  return {StatusCode::kInvalid, fmt::format(sentence, std::forward<Args>(args)...)};
}

/// The axes of a q, k or v: where there is none of its kind, 1.
struct Axes {
  std::int64_t batch = 1, rows = 0, heads = 1, width = 0;
};
Axes AxesOf(const io::Tensor& tensor, bool head_first);
Strides HeadFirst(const Axes& axes);

/// The tensor, if there is one, becomes one of this type.
Status ConvertTo(io::TensorFile& file, const char* name, io::ElementType type);

/// A tensor of exactly this type and shape, or none.
Status Expect(const io::TensorFile& file, const char* name, io::ElementType type,
              const std::vector<std::int64_t>& shape);

}  // namespace heed::cli
