// kernels.h: the seam between the engine's host half (cpu.cpp) and its kernels: what one call
// needs, and one table of functions per instruction set. Plain data, no SIMD. Not here: who chooses
// the set, threads, checks.
#pragma once

#include <cstdint>

#include "heed/types.h"
#include "problem/schedule.h"
#include "problem/visibility.h"
#include "score/philox.h"
#include "score/terms.h"

namespace heed::cpu {

// Strides of one tensor in elements.
struct Steps {
  std::int64_t batch = 0, row = 0, head = 0;
};

// A tensor over (b, h, i, j); a stride of 0 repeats. data null: not given.
struct Spread {
  const void* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0, col = 0;
};

// How a problem is cut into blocks. Depends on the entry's own sizes alone, and bits depend on keys
// alone.
struct Blocks {
  int tiles = 1;  // query tiles that share one pass over a block of keys
  int keys = 0;   // keys of a block, a multiple of the score tile's
};

// One piece of one (entry, kv head).
struct SplitItem {
  std::int64_t b = 0, h = 0, piece = 0;
};

// Few queries against many keys: the keys are cut into pieces, an item is one piece of one (entry,
// kv head), and a second pass joins the pieces in their order. Where the cuts are depends on the
// entry's number of keys alone (PieceOf), so that neither threads nor neighbours change a bit.
struct Split {
  int pieces = 0;               // of the longest entry there may be; 0: not split
  std::int64_t piece_keys = 0;  // a multiple of the blocks' keys
  std::int64_t rows = 0;        // queries times heads of a group
  // Per item: m, l, r [rows]; o [rows][o_step]. r is the sum that divides o.
  float* partials = nullptr;
  std::int64_t o_step = 0;
  HEED_HD std::int64_t floats() const { return (rows * (o_step + 3) + 15) / 16 * 16; }
  std::int64_t heads = 1;  // kv heads
  // At most kFewRows rows whose score needs no array but slopes: decode.h serves them.
  bool few = false;
  // Rows of several kv heads lie side by side in memory: items are numbered (entry, piece, head), and
  // neighbours are walked together. Else (entry, head, piece).
  bool interleaved = false;

  HEED_HD SplitItem At(std::int64_t n) const {
    const std::int64_t b = n / (heads * pieces), in = n % (heads * pieces);
    return interleaved ? SplitItem{b, in % heads, in / heads}
                       : SplitItem{b, in / pieces, in % pieces};
  }
  HEED_HD std::int64_t Number(const SplitItem& item) const {
    return item.b * heads * pieces +
           (interleaved ? item.piece * heads + item.h : item.h * pieces + item.piece);
  }
};
inline constexpr int kFewRows = 16, kHeadsAtOnce = 8;
HEED_HD int HeadsAtOnce(const Split& s) {
  return s.interleaved ? static_cast<int>(Min(s.heads, kHeadsAtOnce)) : 1;
}
inline constexpr int kMaxPieces = 64;  // of an entry: what they leave behind stays small beside it

// What a mask that several heads share says of every query tile and 64 keys, found once for all of
// them: a word has 2 bits per vector of queries, 0 nobody sees any key, 2 everybody sees every one, 1
// neither. Beside the mask it is small: a word for kRows x 64 bytes.
struct MaskKinds {
  std::uint16_t* words = nullptr;                           // null: not made
  std::int64_t batches = 0, heads = 0, rows = 0, cols = 0;  // the mask's shape
  std::int64_t tiles = 0, groups = 0;                       // of kRows queries, of 64 keys
  HEED_HD std::int64_t count() const { return batches * heads * tiles * groups; }
  HEED_HD std::int64_t At(std::int64_t b, std::int64_t h, std::int64_t tile) const {
    return (((batches > 1 ? b : 0) * heads + (heads > 1 ? h : 0)) * tiles + tile) * groups;
  }
};

// A key/value cache; seqlens null: there is none.
struct CacheArrays {
  const std::int32_t *seqlens = nullptr, *batch_idx = nullptr, *leftpad = nullptr;
  const std::int32_t* table = nullptr;     // null: not paged
  std::int64_t blocks = 0, page_rows = 0;  // columns of the table; rows of a page
  std::int64_t new_len = 0;
  const void *k_new = nullptr, *v_new = nullptr;
  Steps k_new_steps, v_new_steps;
  int rotary_dim = 0;         // 0: none
  bool rotary_half = false;   // else interleaved
  bool rotary_moves = false;  // query i stands at seqlens + i, else all at seqlens
  const void *cos = nullptr, *sin = nullptr;
};

// One forward call as the kernels see it. Pointers are those of entry 0, head 0, row 0.
struct ForwardCall {
  const void *q = nullptr, *k = nullptr, *v = nullptr;  // with a cache k and v are the cache's
  void* o = nullptr;
  float* lse = nullptr;   // or null
  void* probs = nullptr;  // or null; zeroed before
  Steps q_steps, k_steps, v_steps, o_steps;
  std::int64_t lse_batch = 0, lse_head = 0;
  std::int64_t q_heads = 0, group = 1;  // query heads per kv head
  std::int64_t q_len = 0, k_len = 0;    // of every entry, or the longest
  int dim = 0, dim_v = 0;
  DType dtype = DType::kF32, out_dtype = DType::kF32;

  // The score.
  Terms<float> terms;
  const float* slopes = nullptr;  // of head h of entry b: slopes[b * slopes_batch + h]
  std::int64_t slopes_batch = 0;
  Spread bias;
  bool bias_f32 = true;  // else the tensors' dtype
  const float* sinks = nullptr;
  bool drops = false;
  Dropout dropout;
  float keep_factor = 1;  // 1 / (1 - p)

  // Who sees whom.
  Visibility rule;           // without sizes; shift: where align does not depend on them
  bool bottom_right = true;  // shift = Sk - Sq
  const std::int32_t *key_lengths = nullptr, *query_offsets = nullptr;  // (B)
  const std::int32_t *cu_seqlens_q = nullptr, *cu_seqlens_k = nullptr;  // (B + 1)
  CacheArrays cache;
  Spread mask, block_map;
  MaskKinds kinds;
  std::int64_t block_rows = 1, block_cols = 1;

  // How it is cut. `packed`: an item's rows are the queries of all heads of a group, row = query *
  // group + head: they share one pass over the keys.
  bool packed = false;
  ForwardSchedule dense;
  RaggedForwardSchedule ragged;  // where cu_seqlens_q is given
  Blocks blocks;
  Split split;
  const char** ran = nullptr;  // the kernel leaves its own name here

  HEED_HD std::int64_t items() const {
    return split.pieces > 0 ? dense.batch * (q_heads / group) * split.pieces
           : cu_seqlens_q   ? ragged.items()
                            : dense.items();
  }
  // Not of a split.
  HEED_HD Item At(std::int64_t n) const { return cu_seqlens_q ? ragged.At(n) : dense.At(n); }
};

// Keys [first, last) of piece n of an entry that has sk of them.
HEED_HD Interval PieceOf(const Split& split, std::int64_t sk, std::int64_t n) {
  const std::int64_t least = CeilDiv(sk, split.piece_keys);
  const std::int64_t keys = split.piece_keys * Max(1, CeilDiv(least, kMaxPieces));
  return {Min(n * keys, sk), Min((n + 1) * keys, sk)};
}

// What decides the size of a thread's workspace, beside the instruction set.
struct WorkShape {
  DType dtype = DType::kF32;
  int dim = 0, dim_v = 0;
  Blocks blocks;
  bool paged = false, rotary = false;
  int few_rows = 0, few_heads = 1;  // few_rows > 0: items of a split that decode.h serves
};

// One instruction set.
struct Kernels {
  const char* isa;
  bool native_bf16;  // bf16 inputs go through dot products of pairs; else they are widened while
                     // packing
  int tile_rows, tile_keys;
  // The largest blocks that help for these dims, not larger than the problem.
  Blocks (*blocks)(int dim, int dim_v, std::int64_t rows, std::int64_t k_len);
  // Bytes of workspace of one thread: a multiple of 64.
  std::int64_t (*workspace)(const WorkShape& shape);
  // Floats of a row of partial sums of that many columns: of o in a piece, of dq in a part.
  int (*sum_step)(int columns);
  // Joins the pieces of rows [first, last), numbered over (entry, kv head, row).
  void (*join)(const ForwardCall& call, std::int64_t first, std::int64_t last);
  // Appends new rows [first, last), numbered over (entry, row, kv head), to the cache.
  void (*append)(const ForwardCall& call, std::int64_t first, std::int64_t last);
  // Query tiles [first, last) of call.kinds, numbered over (entry, head, tile) of the mask.
  void (*classify)(const ForwardCall& call, std::int64_t first, std::int64_t last);
  // Computes items [first, last) of the schedule. workspace: 64-byte aligned, this thread's own.
  void (*forward)(const ForwardCall& call, std::int64_t first, std::int64_t last, void* workspace);
};

// Defined once per instruction set by kernels.cpp.
#define HEED_DECLARE_KERNELS(isa) \
  namespace isa {                 \
  extern const Kernels kKernels;  \
  }
HEED_DECLARE_KERNELS(avx512bf16)
HEED_DECLARE_KERNELS(avx512)
HEED_DECLARE_KERNELS(avx2)
HEED_DECLARE_KERNELS(neon)
HEED_DECLARE_KERNELS(scalar)
#undef HEED_DECLARE_KERNELS

}  // namespace heed::cpu
