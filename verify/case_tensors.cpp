// verify/case_tensors.cpp: see case_tensors.h.
#include "verify/case_tensors.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>

#include "io/convert.h"
#include "verify/array.h"

namespace heed::verify {
namespace {

using io::ElementType;

// Cases are small. Beyond these a size is a mistake, and a shape made from two tensors' sizes could
// leave int64.
constexpr std::int64_t kLargestSize = std::int64_t{1} << 20, kLargestCount = std::int64_t{1} << 40;

Status Bad(std::string sentence) { return {StatusCode::kInvalid, std::move(sentence)}; }

struct Known {
  const char* name;
  enum class Kind { kData, kF32, kIndex, kBool, kExpected } kind;
};

constexpr Known kKnown[] = {
    {"q", Known::Kind::kData},
    {"k", Known::Kind::kData},
    {"v", Known::Kind::kData},
    {"dout", Known::Kind::kData},
    {"k_cache", Known::Kind::kData},
    {"v_cache", Known::Kind::kData},
    {"k_new", Known::Kind::kData},
    {"v_new", Known::Kind::kData},
    {"rotary_cos", Known::Kind::kData},
    {"rotary_sin", Known::Kind::kData},
    {"alibi_slopes", Known::Kind::kF32},
    {"bias", Known::Kind::kF32},
    {"sinks", Known::Kind::kF32},
    {"dlse", Known::Kind::kF32},
    {"mask", Known::Kind::kBool},
    {"block_map", Known::Kind::kBool},
    {"key_lengths", Known::Kind::kIndex},
    {"query_offset", Known::Kind::kIndex},
    {"cu_seqlens_q", Known::Kind::kIndex},
    {"cu_seqlens_k", Known::Kind::kIndex},
    {"cache_seqlens", Known::Kind::kIndex},
    {"cache_batch_idx", Known::Kind::kIndex},
    {"cache_leftpad", Known::Kind::kIndex},
    {"block_table", Known::Kind::kIndex},
    {"out", Known::Kind::kExpected},
    {"lse", Known::Kind::kExpected},
    {"dq", Known::Kind::kExpected},
    {"dk", Known::Kind::kExpected},
    {"dv", Known::Kind::kExpected},
    {"dbias", Known::Kind::kExpected},
    {"dsinks", Known::Kind::kExpected},
    {"k_cache_after", Known::Kind::kExpected},
    {"v_cache_after", Known::Kind::kExpected},
};

ElementType TypeFor(Known::Kind kind, DType dtype) {
  switch (kind) {
    case Known::Kind::kData:
      return io::FromDType(dtype);
    case Known::Kind::kF32:
      return ElementType::kF32;
    case Known::Kind::kIndex:
      return ElementType::kI32;
    case Known::Kind::kBool:
      return ElementType::kBool;
    case Known::Kind::kExpected:
      break;
  }
  return ElementType::kF64;
}

}  // namespace

Status ConvertTensors(DType dtype, io::TensorFile* file) {
  for (io::Tensor& tensor : file->tensors) {
    const auto* known = std::find_if(std::begin(kKnown), std::end(kKnown),
                                     [&](const Known& k) { return tensor.name == k.name; });
    if (known == std::end(kKnown)) return Bad("a tensor has a name that no case has");
    if (tensor.shape.size() > 4) return Bad("tensor '" + tensor.name + "' has more than 4 axes");
    std::int64_t count = 1;
    for (const std::int64_t size : tensor.shape) {
      if (size > kLargestSize || (count *= std::max<std::int64_t>(size, 1)) > kLargestCount) {
        return Bad("tensor '" + tensor.name + "' has the shape " + ShapeText(tensor.shape) +
                   ", too large for a case: an axis has at most 2^20, a tensor 2^40");
      }
    }
    const ElementType type = TypeFor(known->kind, dtype);
    if (tensor.type == type) continue;
    if (type == ElementType::kBool) return Bad("tensor '" + tensor.name + "' must be BOOL");
    if (known->kind != Known::Kind::kIndex && !io::IsFloat(tensor.type)) {
      return Bad("tensor '" + tensor.name + "' must be of floating point");
    }
    Result<io::Tensor> converted = io::Convert(tensor, type);
    if (!converted) return converted.status();
    tensor = std::move(*converted);
  }
  return {};
}

}  // namespace heed::verify
