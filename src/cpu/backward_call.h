// backward_call.h: what one backward call needs beyond kernels.h, and the table of its functions per
// instruction set. Plain data, no SIMD. Not here: threads, checks, who owns the workspace
// (cpu_backward.cpp).
#pragma once

#include "cpu/kernels.h"

namespace heed::cpu {

// Where the gradient of the bias goes.
struct BiasGradient {
  enum class Kind : std::uint8_t {
    kNone,
    kPairs,    // an element per query and key
    kKeys,     // summed over the queries
    kQueries,  // summed over the keys, and perhaps over the queries afterwards
  };
  Kind kind = Kind::kNone;
  // kPairs, every element made by one pair alone: `to` is the result itself, written (or, with
  // `add`, added to) as it is made. Else `to` holds f32 sums.
  bool direct = false, f32 = true, add = false;
  Spread to;
};

// Work is cut by keys: an item is some blocks of keys of a *unit* (an entry and one of its
// kv heads), with all queries that see them. It owns these keys' dk and dv; what it adds to dq goes
// to a partial sum of its own, and the partial sums are added in their order. How a unit is cut
// depends on its own lengths and the window alone (CutKeys): so neither threads nor neighbours change
// a bit.
//
// Units are walked in waves, since the partial sums of one wave are all that must be remembered:
//
//   prepare   (unit, head of the group, query tile)   what is known of each query
//   items     (chain, part) or chain                  dk, dv, partial dq
//   finish    (unit, head of the group, query tile)   dq
//
// Where a group's heads are too many to be in flight together, each has these three to itself, and the
// sums of dk and dv wait between them in memory of their own.
struct BackwardCall {
  ForwardCall in;  // with o and lse, which are read here
  const void* dout = nullptr;
  const float* dlse = nullptr;  // or null
  void *dq = nullptr, *dk = nullptr, *dv = nullptr;
  Steps dout_steps, dq_steps, dk_steps, dv_steps;
  bool grads_f32 = false;  // else the tensors' dtype
  bool accumulate = false;
  std::int64_t k_heads = 1;
  std::int64_t rows_k = 0;  // of dense tensors: rows that dk and dv have
  BiasGradient dbias;
  double* sink_sums = nullptr;  // (B, Hq), or null

  Blocks blocks;           // tiles of queries; the most keys of a block
  int key_step = 1;        // blocks have a multiple of this
  std::int64_t parts = 1;  // of the longest entry
  std::int64_t rows = 0;   // of a head: q_len, rounded up to whole tiles
  int tile_rows = 1, dq_step = 0;

  // The wave: units [first, last), numbered b * k_heads + kv head. Units whose sums share memory
  // form a chain, which one item walks in order.
  std::int64_t first = 0, last = 0;
  bool chains_batch = false, chains_heads = false;
  // A chain of entries that are cut differently: a key is in one part of one and in another of the
  // next. One item walks all parts of all its units, so that sums are added to in one order.
  bool chains_parts = false;
  // Heads of each group in flight: `heads` from g_first on, all of them or one.
  std::int64_t heads = 1, g_first = 0;
  // Where it is one of several: dk and dv of [unit][key_blocks].
  float* key_sums = nullptr;
  std::int64_t key_blocks = 0;
  // [unit][head in flight][rows], or [unit][part][head in flight][rows](..)
  float *delta = nullptr, *shift = nullptr, *weight = nullptr;
  // Queries that many blocks of keys meet are packed once, beforehand, for all of the wave: packing
  // them for each block took 4 % of the time. In a band it is two or three blocks, one after the other,
  // and reading what was packed costs as much as it saves. (PackedQueries)
  bool packs_ahead = false;
  void* packed = nullptr;
  std::int64_t wave = 1;            // units that a wave has room for
  float* dq_parts = nullptr;        // (dq_step)
  std::uint8_t* touched = nullptr;  // of each tile of rows: whether dq_parts holds anything
  float* bias_parts = nullptr;      // with BiasGradient::kQueries

  HEED_HD std::int64_t HeadRows(std::int64_t unit, std::int64_t g) const {
    return ((unit - first) * heads + g - g_first) * rows;
  }
  HEED_HD std::int64_t PartRows(std::int64_t unit, std::int64_t part, std::int64_t g) const {
    return (((unit - first) * parts + part) * heads + g - g_first) * rows;
  }
  HEED_HD std::int64_t TilesOfWave() const { return wave * heads * (rows / tile_rows); }
  HEED_HD std::int64_t TileItems() const { return (last - first) * heads * (rows / tile_rows); }

  HEED_HD std::int64_t Chains() const {
    if (chains_batch) return chains_heads ? 1 : k_heads;
    return chains_heads ? (last - 1) / k_heads - first / k_heads + 1 : last - first;
  }
  HEED_HD std::int64_t Items() const { return Chains() * (chains_parts ? 1 : parts); }

  // The units of a chain: first, first + step, .. below last.
  struct Chain {
    std::int64_t first, last, step;
  };
  HEED_HD Chain ChainAt(std::int64_t n) const {
    if (!chains_batch && !chains_heads) return {first + n, first + n + 1, 1};
    if (chains_batch && chains_heads) return {first, last, 1};
    if (chains_heads) {
      const std::int64_t b = first / k_heads + n;
      return {Max(first, b * k_heads), Min(last, (b + 1) * k_heads), 1};
    }
    const std::int64_t ahead = (n - first % k_heads + k_heads) % k_heads;
    return {first + ahead, last, k_heads};
  }
};

HEED_HD KeyCut CutOf(const BackwardCall& c, const Visibility& sees) {
  return CutKeys(sees.sk, c.blocks.keys, c.key_step, IsNarrowBand(sees));
}

struct BackwardKernels {
  int key_step;
  Blocks (*blocks)(int dim, int dim_v);
  // Bytes of workspace of one thread: a multiple of 64.
  std::int64_t (*workspace)(const BackwardCall& call);
  void (*prepare)(const BackwardCall& call, std::int64_t first, std::int64_t last, void* workspace);
  void (*items)(const BackwardCall& call, std::int64_t first, std::int64_t last, void* workspace);
  void (*finish)(const BackwardCall& call, std::int64_t first, std::int64_t last, void* workspace);
  // Bytes of the packed queries of a wave, and of its key_sums.
  std::int64_t (*packed)(const BackwardCall& call);
  std::int64_t (*key_sums)(const BackwardCall& call);
  // Elements [first, last) of the sums of the bias' gradient to the result.
  void (*store_bias)(const BackwardCall& call, std::int64_t first, std::int64_t last, void* to);
};

// Defined once per instruction set by kernels_backward.cpp.
#define HEED_DECLARE_KERNELS(isa)                \
  namespace isa {                                \
  extern const BackwardKernels kBackwardKernels; \
  }
HEED_DECLARE_KERNELS(avx512bf16)
HEED_DECLARE_KERNELS(avx512)
HEED_DECLARE_KERNELS(avx2)
HEED_DECLARE_KERNELS(neon)
HEED_DECLARE_KERNELS(scalar)
#undef HEED_DECLARE_KERNELS

}  // namespace heed::cpu
