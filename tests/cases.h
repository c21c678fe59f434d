// cases.h: the one list of cases for tests and benchmarks: named problems, the kind of their data,
// how they lie in memory. Not here: checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "heed/heed.h"

namespace heed::cases {

/// What the numbers are like. Every value is exact in the case's dtype.
enum class Data : std::uint8_t {
  kNormal,    ///< N(0, 1)
  kPeaked,    ///< logits of standard deviation 25
  kGrowing,   ///< logits grow by 1/2 from key to key: every maximum is soon stale
  kFalling,   ///< the first key has the largest logit, the rest falls
  kOutlier,   ///< one key in the middle stands 30 above all others
  kEqual,     ///< every number is 1/2
  kIntegers,  ///< -2 to 2: scores are exact in f32
  kHuge,      ///< q and v about 1e30 (f16: 1e4), k the inverse
  kTiny,      ///< q and k about 1e-20 (f16: 1e-3), v about 1e-30 (f16: 1e-4)
  kDenormal,  ///< subnormals of the dtype
};

/// How the tensors lie in memory. The values do not depend on it, but for kSharedKeys.
enum class Placement : std::uint8_t {
  kDense,         ///< (B, S, H, D), strides by default
  kHeadsFirst,    ///< (B, H, S, D)
  kPackedQkv,     ///< q, k, v are slices of one tensor
  kPaddedRows,    ///< gaps behind every head, row and batch entry, of odd sizes
  kSharedKeys,    ///< k and v have batch stride 0: all entries read the first one's
  kReversedKeys,  ///< k and v lie last row first: negative row stride
};

const char* Name(Data data);
const char* Name(Placement placement);

/// How bias, mask and block map lie in memory.
enum class Spread : std::uint8_t {
  kDense,
  kPadded,      ///< gaps behind every row and matrix; nonsense for strides of axes of size 1
  kTransposed,  ///< the rows of a matrix lie side by side
  kReversed,    ///< last row first, and in a row the last column first
};

/// What a mask is like.
enum class Pattern : std::uint8_t {
  kRandom,  ///< 0.7 of all pairs
  kBlocks,  ///< blocks of 16 x 32, a quarter of them visible
  kTail,    ///< the last keys are hidden, of each entry another number
};

const char* Name(Spread spread);

struct Case {
  std::string name;
  Problem problem;  ///< strides are set by MakeSample
  Data data = Data::kNormal;
  Placement placement = Placement::kDense;
  std::uint64_t seed = 1;
  Spread spread = Spread::kDense;
  Pattern mask = Pattern::kRandom;
};

/// Memory of one tensor. `start` is element (0, 0, ...), in bytes.
struct Memory {
  std::vector<std::byte> bytes;
  std::size_t start = 0;
  const void* data() const { return bytes.data() + start; }
};

/// A case's inputs in memory. Gaps, and rows that do not exist, hold NaN; index arrays hold nonsense
/// where nobody may look.
struct Sample {
  Problem problem;                                      ///< with the strides of the placement
  std::vector<std::byte> q_memory, k_memory, v_memory;  ///< k, v: or the caches
  std::size_t q_start = 0, k_start = 0, v_start = 0;    ///< bytes
  Memory bias, mask, block_map, k_new, v_new, rotary_cos, rotary_sin;
  std::vector<float> slopes, sinks;
  std::vector<std::int32_t> key_lengths, query_offsets, cu_seqlens_q, cu_seqlens_k;
  std::vector<std::int32_t> cache_seqlens, cache_batch_idx, cache_leftpad, block_table;

  /// Caches are the sample's own memory: a caller that appends passes copies.
  Buffers Inputs() const;
};

/// Sets the strides that the case's placement and spread ask for.
void SetStrides(const Case& c, Problem* problem);

/// Entries first_entry, first_entry + 1, … of the case's batch: so an entry alone has the data it
/// has within a batch.
Sample MakeSample(const Case& c, std::int64_t first_entry = 0);

/// The number at one coordinate of tensor 0 = q, 1 = k, 2 = v, before it is rounded to the dtype.
double ValueAt(const Case& c, int tensor, std::int64_t b, std::int64_t row, std::int64_t head,
               std::int64_t d);

/// The dense forward: dtype, shapes across tile edges, alignment, grouping, scale, data, placement.
/// Named cases first, then a sample with a fixed seed in which every value of every factor occurs.
std::vector<Case> DenseForward();

/// A few of every kind, for runs under sanitizers and emulators.
std::vector<Case> DenseForwardReduced();

/// Sizes of the cases with options.
enum class Scale : std::uint8_t {
  kSmall,  ///< for sanitizers and emulators
  kTest,   ///< across the edges of tiles
  kBench,  ///< for timing
};

/// All options of the forward: each alone, every pair of their values (cases_axes.h) in one case at
/// least, and some that combine a few.
std::vector<Case> Options(Scale scale);

}  // namespace heed::cases
