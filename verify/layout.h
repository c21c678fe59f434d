// verify/layout.h: where each tensor of a Problem lies: shape, strides and dtype, defaults filled
// in. Not here: values.
#pragma once

#include <cstdint>

#include "heed/heed.h"
#include "verify/array.h"

namespace heed::verify {

/// The tensors of a call that the Problem gives strides or a shape.
enum class Role : std::uint8_t {
  kQ,
  kK,
  kV,
  kO,
  kLse,
  kProbs,
  kKCache,
  kVCache,
  kKNew,
  kVNew,
  kRotaryCos,
  kRotarySin,
  kBias,
  kMask,
  kBlockMap,
  kSlopes,
  kSinks,
  kDout,
  kDlse,
  kDq,
  kDk,
  kDv,
  kDbias,
  kDsinks,
};

/// "q", "k_cache", "dbias", …
const char* Name(Role role);

std::int64_t KeyHeads(const Problem& problem);  ///< k_heads, or its default
std::int64_t DimV(const Problem& problem);      ///< dim_v, or its default
double ScaleOf(const Problem& problem);         ///< scale, or its default
DType OutDType(const Problem& problem);         ///< of o and probs
DType GradDType(const Problem& problem);        ///< of dq, dk, dv

/// Shape, strides and dtype of a tensor, at `data`. Masks and block maps are bytes: their `type`
/// means nothing. A stride that says kPacked steps over everything inside it; an axis of size 1
/// gets stride 0.
View ViewOf(const Problem& problem, Role role, const void* data = nullptr);

}  // namespace heed::verify
