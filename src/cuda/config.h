// config.h: one row of kernels.def as a type: what a kernel's body is instantiated with, and the
// shared memory that follows from it. Not here: the table (kernels.def), who chooses (cuda.cpp).
#pragma once

#include <cstdint>

#include "cuda/ptx/types.h"
#include "problem/visibility.h"

namespace heed::cuda {

// The kernels of a call, in kernels.def's words.
enum class Kernel : std::uint8_t {
  forward_mma,
  forward_fma,
  append,
  classify,
  join,
  probs,
  // These take a BackwardCall.
  prepare,
  queries_mma,
  queries_fma,
  keys_mma,
  keys_fma,
  bias_mma,
  bias_fma,
  sinks
};
HEED_HD constexpr bool IsOfBackward(Kernel kernel) { return kernel >= Kernel::prepare; }

// Whether it is made of products on tensor cores: those are compiled for their own targets alone.
HEED_HD constexpr bool OnTensorCores(Kernel kernel) {
  return kernel == Kernel::forward_mma || kernel == Kernel::queries_mma ||
         kernel == Kernel::keys_mma || kernel == Kernel::bias_mma;
}

// What a kernel knows of terms, masks in arrays, dropout and probabilities: nothing, or everything,
// asked for at run time.
enum class TermKind : std::uint8_t { plain, general };

HEED_HD constexpr int BackwardParts(int dim, int element) {
  return dim > 128 && element == 2 ? 2 : 1;
}

template <class T, int kArchOf, int kDimOf, int kRowsOf, int kKeysOf, int kWarpsOf,
          TermKind kTermsOf>
struct Config {
  using Element = T;
  static constexpr int kArch = kArchOf;  // 750, 800
  static constexpr int kDim = kDimOf, kRows = kRowsOf, kKeys = kKeysOf;
  static constexpr int kWarps = kWarpsOf, kThreads = 32 * kWarps;
  static constexpr bool kGeneral = kTermsOf == TermKind::general;
  // Of the backward: blocks that share the columns of a tile of keys (backward_keys.h).
  static constexpr int kParts = BackwardParts(kDim, int(sizeof(T)));
};

// body(Constant<0>), body(Constant<1>), ...: an unrolled loop whose counter is a constant.
template <int kValue>
struct Constant {
  HEED_HD constexpr operator int() const { return kValue; }
};
template <int kCount, int kFrom = 0, class Body>
HEED_HD void ForEach(const Body& body) {
  if constexpr (kFrom < kCount) {
    body(Constant<kFrom>());
    ForEach<kCount, kFrom + 1>(body);
  }
}

// Bytes of what is known of each row (row_facts.h).
HEED_HD constexpr int FactBytes(bool general) { return general ? 56 : 8; }

// Bytes of shared memory of a forward block: the tile of queries, one of keys, one of values; f32 adds
// one of probabilities (forward_fma.h); then what is known of each row (row_facts.h).
HEED_HD constexpr std::uint32_t ForwardShared(int element, int dim, int rows, int keys,
                                              bool general) {
  return std::uint32_t(element * dim * (rows + 2 * keys) + (element == 4 ? 4 * rows * keys : 0) +
                       rows * FactBytes(general));
}

// Of a backward block: tiles of queries and of their dout, of keys and of values; f32 adds one of
// probabilities; then what is known of each row.
HEED_HD constexpr std::uint32_t BackwardShared(int element, int dim, int rows, int keys,
                                               bool general) {
  return std::uint32_t(2 * element * dim * (rows + keys) + (element == 4 ? 4 * rows * keys : 0) +
                       rows * (FactBytes(general) + 16));
}

}  // namespace heed::cuda
