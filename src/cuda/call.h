// call.h: one forward call as every CUDA kernel takes it, and how it is cut into blocks. Plain data,
// the one parameter of each kernel. Not here: how it is filled in (cuda_call.cpp), any instruction.
#pragma once

#include <cstdint>

#include "heed/types.h"
#include "problem/schedule.h"
#include "problem/visibility.h"
#include "score/philox.h"
#include "score/terms.h"

namespace heed::cuda {

// Sequences are shorter: places in them and their differences are 32-bit.
inline constexpr std::int64_t kFar = std::int64_t{1} << 30;

// Strides of one tensor in elements.
struct Steps {
  std::int64_t batch = 0, row = 0, head = 0;
};

// A tensor of rows; data is that of entry 0, head 0, row 0. `wide`: every row starts at a multiple
// of 16 bytes and its length is one, so that 16 bytes move at a time.
struct Rows {
  const void* data = nullptr;
  Steps steps;
  bool wide = false;
};

// A tensor over (b, h, i, j); a stride of 0 repeats. data null: not given.
struct Spread {
  const void* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0, col = 0;
};

// A key/value cache; seqlens null: there is none. Its rows are ForwardCall's k and v, whose batch is
// the slot or page.
struct CacheArrays {
  const std::int32_t *seqlens = nullptr, *batch_idx = nullptr, *leftpad = nullptr;  // (B)
  const std::int32_t* table = nullptr;  // (B, blocks); null: not paged
  std::int32_t slots = 0;               // or pages
  std::int32_t rows = 0, blocks = 0;    // of a slot or page; columns of the table
  std::int32_t new_len = 0;
  Rows k_new, v_new;
  std::int32_t rotary_dim = 0;  // 0: none
  bool rotary_half = false;     // else interleaved
  bool rotary_moves = false;    // query i stands at seqlens + i, else all at seqlens
  const void *cos = nullptr, *sin = nullptr;
  std::int32_t rotary_rows = 0;  // of cos and sin
  Rows q;                        // with rotary: the queries as given
  void* rotated = nullptr;       // and where they go, (B, Sq, Hq, D), which then is ForwardCall::q
};

// What mask and block map together say of every score tile of the call, a TileKind a byte, found
// once by a kernel of its own; null: neither is given, or rows are packed.
struct TileKinds {
  std::uint8_t* kinds = nullptr;
  std::int32_t batches = 1, heads = 1, rows = 0, keys = 0;  // the grid of tiles
  std::int32_t tile_rows = 0, tile_keys = 0;
  HEED_HD std::int64_t count() const { return std::int64_t{1} * batches * heads * rows * keys; }
  // Of the first tile of keys.
  HEED_HD std::int64_t At(std::int64_t b, std::int64_t h, std::int64_t row) const {
    return (((batches > 1 ? b : 0) * heads + (heads > 1 ? h : 0)) * rows + row) * keys;
  }
};

// Few queries against many keys: blocks take pieces of an entry's keys, and join.h adds them up in
// their order. Where the cuts are depends on the entry's own number of keys alone, so neighbours
// change no bit.
inline constexpr std::int32_t kPieceKeys = 256, kMostPieces = 64;
struct Split {
  std::int32_t pieces = 0;  // of the longest entry there may be; 0: not split
  // Per (entry, kv head, piece, row of the tile): o as it stands, divided by its sum [padded]; and
  // lse without sinks, -infinity where the piece sees nothing (o is then not written).
  float* o = nullptr;
  float* lse = nullptr;
  std::int32_t padded = 0;  // floats of a row of o: dim_v
};
HEED_HD constexpr std::int64_t PieceLength(std::int64_t sk) {
  const std::int64_t least = CeilDiv(sk, kMostPieces);
  return least <= kPieceKeys ? kPieceKeys : CeilDiv(least, kPieceKeys) * kPieceKeys;
}
HEED_HD constexpr std::int64_t PiecesOf(std::int64_t sk) { return CeilDiv(sk, PieceLength(sk)); }

struct ForwardCall {
  Rows q, k, v;
  void* o = nullptr;
  Steps o_steps;
  float* lse = nullptr;  // or null
  std::int64_t lse_batch = 0, lse_head = 0;
  void* probs = nullptr;                           // or null
  std::int32_t batch = 0, q_heads = 0, group = 1;  // group: query heads per kv head
  std::int32_t q_len = 0, k_len = 0;               // of every entry, or the longest
  std::int64_t total_q = 0, total_k = 0;
  std::int32_t dim = 0, dim_v = 0;
  bool out_f32 = false;   // o in f32, else in the tensors' dtype
  bool out_wide = false;  // four neighbours of o may be written at once: rows begin at such

  // The score.
  Terms<float> terms;
  Exp2Factors<float> factors;
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
  std::int64_t block_rows = 1, block_cols = 1;
  TileKinds kinds;

  // How it is cut. `packed`: a tile's rows are the queries of all heads of a group, row = query *
  // group + head; schedule.heads are then kv heads.
  bool packed = false;
  ForwardSchedule schedule;  // ragged: as if every sequence had q_len rows
  Split split;

  HEED_HD std::int64_t blocks() const { return schedule.items() * Max(split.pieces, 1); }
  // Of a split: which row of split.o and split.lse a piece's row of the tile is.
  HEED_HD std::int64_t PieceRow(std::int64_t b, std::int64_t hk, std::int64_t piece,
                                std::int64_t row) const {
    return ((b * schedule.heads + hk) * split.pieces + piece) * schedule.tile_rows + row;
  }
};

}  // namespace heed::cuda
