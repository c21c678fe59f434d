// options.h: the values of Python's keywords: numbers, names, pairs. Not here: arrays.
#pragma once

#include <cstdint>
#include <utility>

#include "errors.h"
#include "heed/heed.h"

namespace heed::python {

double Number(nb::handle value, const char* name);
/// Whatever has __index__: also NumPy's integers and tensors of one element.
std::int64_t Integer(nb::handle value, const char* name);
/// From 0 to 2^64 - 1.
std::uint64_t Unsigned(nb::handle value, const char* name);
bool Flag(nb::handle value, const char* name);
std::pair<std::int64_t, std::int64_t> Pair(nb::handle value, const char* name);

/// backend ("cpu", "cpu:avx2", "cuda", "cuda:sm_80", "reference", None) and threads (None: as many as the process may use).
PlanOptions ReadPlanOptions(nb::handle backend, nb::handle threads);

/// The keywords of a call that a Problem and its arrays are made of, in the order in which the
/// functions of this module take them.
enum Option : int {
  kScale,
  kCausal,
  kAlign,
  kQueryOffset,
  kWindow,
  kPrefix,
  kChunk,
  kSoftcap,
  kAlibiSlopes,
  kBias,
  kMask,
  kBlockMap,
  kBlockSize,
  kSinks,
  kKeyLengths,
  kCuSeqlensQ,
  kCuSeqlensK,
  kMaxSeqlenQ,
  kMaxSeqlenK,
  kDropoutP,
  kSeed,
  kOffset,
  kBackend,
  kThreads,
  kOptions,
};
constexpr const char* kOptionNames[] = {
    "scale",        "causal",    "align",        "query_offset", "window",       "prefix",
    "chunk",        "softcap",   "alibi_slopes", "bias",         "mask",         "block_map",
    "block_size",   "sinks",     "key_lengths",  "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q",
    "max_seqlen_k", "dropout_p", "seed",         "offset",       "backend",      "threads"};
static_assert(sizeof kOptionNames / sizeof *kOptionNames == kOptions);

}  // namespace heed::python
