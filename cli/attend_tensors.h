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
/// What of a problem follows from the axes of q and of the tensors with its keys and values.
void SetSizes(const Axes& q, const Axes& k, const Axes& v, bool head_first, Problem* problem);

/// The tensor, if there is one, becomes one of this type.
Status ConvertTo(io::TensorFile& file, const char* name, io::ElementType type);

/// The tensor, which must be there, is of a type that attention computes with, and of q's.
Status ExpectNumbers(const io::TensorFile& file, const char* name);

/// A tensor of exactly this type and shape, or none.
Status Expect(const io::TensorFile& file, const char* name, io::ElementType type,
              const std::vector<std::int64_t>& shape);

}  // namespace heed::cli
