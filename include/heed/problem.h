// heed/problem.h: Problem, the whole vocabulary of one attention call (the WHAT). Not here:
// pointers (Buffers), tuning (Plan).
#pragma once

#include <cstdint>
#include <optional>

#include "heed/types.h"

namespace heed {

/// Symbols used below, as in docs/semantics.md: B batch, Sq q_len, Sk k_len, Hq q_heads, Hk
/// k_heads, D dim, Dv dim_v. All sizes, strides and offsets count elements, never bytes, and are
/// 64-bit; a size is at most 2^40.

/// "Lay it out contiguously": the default of every stride. Beside strides that are given, an axis
/// steps over all that the axes inside it span: so the batch of a (B,H,S,D) tensor or of a slice of
/// a packed (B,S,3,H,D) one need not be given.
inline constexpr std::int64_t kPacked = INT64_MIN;

/// What to compute.
enum class Op : std::uint8_t {
  kForward,   ///< o, and on request lse and the probabilities
  kBackward,  ///< dq, dk, dv, and on request dbias and dsinks, from q, k, v, o, lse, dout
};

/// Where query 0 stands among the keys: the `shift` in i + shift, which causal, window, chunk and
/// ALiBi use.
enum class Align : std::uint8_t {
  kBottomRight,  ///< shift = Sk - Sq: the last query sees the last key (flash-attn >= 2.1)
  kTopLeft,      ///< shift = 0: query 0 stands at key 0 (PyTorch's is_causal)
  kOffset,       ///< shift = query_offset, one integer or one per batch entry; may be negative
};

/// Strides of a (B, S, H, D) tensor in elements; the last one is 1. Any BSHD or BHSD view or slice
/// of a packed tensor fits. Ragged (T, H, D) tensors have no batch stride. Strides of axes of size
/// 1 are ignored. 0 repeats, negative reverses (inputs only).
struct Strides {
  std::int64_t batch = kPacked;
  std::int64_t row = kPacked;
  std::int64_t head = kPacked;
};

/// A tensor of shape (B|1, Hq|1, Sq|1, Sk|1) that broadcasts over its axes of size 1; any strides.
struct Broadcast {
  bool given = false;
  std::int64_t batch = 1, heads = 1, rows = 1, cols = 1;  ///< the shape
  std::int64_t stride_batch = kPacked, stride_head = kPacked, stride_row = kPacked,
               stride_col = kPacked;
};

/// Linear bias -slope * |i + shift - j| (Press et al. 2021).
enum class Alibi : std::uint8_t {
  kNone,
  kPerHead,       ///< slopes f32 (Hq)
  kPerBatchHead,  ///< slopes f32 (B, Hq)
};

/// How rotary embedding pairs the first `rotary_dim` entries of a row (Su et al. 2021).
enum class Rotary : std::uint8_t {
  kNone,
  kInterleaved,  ///< (0,1), (2,3), ... : GPT-J
  kHalf,         ///< (0,R/2), (1,R/2+1), ... : GPT-NeoX, Llama
};

/// A key/value cache in place of k and v, as flash-attn's flash_attn_with_kvcache defines it.
/// Arrays are in Buffers: k_cache (slots, rows, Hk, D), v_cache (slots, rows, Hk, Dv), or with a
/// block table (pages, page rows, Hk, D).
struct Cache {
  bool given = false;
  std::int64_t slots = 0;   ///< size of the first axis: slots, or pages when there is a block table
  std::int64_t rows = 0;    ///< rows of one slot, or of one page (any size >= 1)
  std::int64_t blocks = 0;  ///< columns of block_table (B, blocks) int32; 0 = not paged
  std::int64_t new_len =
      0;  ///< rows of k_new, v_new (B, new_len, Hk, D|Dv), written at cache_seqlens[b] first
  bool batch_idx = false;         ///< cache_batch_idx (B) int32 names the slot; an error with pages
  bool leftpad = false;           ///< cache_leftpad (B) int32: the first valid row
  Rotary rotary = Rotary::kNone;  ///< applied to q and k_new
  std::int64_t rotary_dim = 0;    ///< R, even, <= D
  std::int64_t rotary_rows = 0;   ///< rows of rotary_cos, rotary_sin (rotary_rows, R/2)
};

/// One attention call. Plain data: fill in by designated initialisers or field by field; every
/// field has a meaning of its own and a default that means "not used". heed::Validate says in a
/// sentence what is wrong with one.
///
/// Shapes: q (B,Sq,Hq,D), k (B,Sk,Hk,D), v (B,Sk,Hk,Dv), o (B,Sq,Hq,Dv); lse (B,Hq,Sq) f32, natural
/// log. Query head h reads kv head h / (Hq/Hk). Source of the semantics: docs/semantics.md.
struct Problem {
  // ---- sizes
  std::int64_t batch = 1;
  std::int64_t q_len = 0;  ///< Sq; ragged: the longest sequence of queries (max_seqlen_q)
  std::int64_t k_len =
      0;  ///< Sk; ragged: the longest sequence of keys; with a cache: 0, it follows from the cache
  std::int64_t q_heads = 1;
  std::int64_t k_heads = 0;  ///< 0 = q_heads; else q_heads must be a multiple of it
  std::int64_t dim = 0;      ///< D of q and k, 1 to 1024
  std::int64_t dim_v = 0;    ///< Dv of v and o, 1 to 1024; 0 = dim
  DType dtype = DType::kF32;

  // ---- who sees whom: key j is visible to query i iff -left <= j - (i + shift) <= right
  bool causal = false;                               ///< right = 0
  std::int64_t window_left = -1, window_right = -1;  ///< -1 = unbounded
  Align align = Align::kBottomRight;
  std::optional<std::int64_t> query_offset;  ///< the shift, with Align::kOffset
  bool query_offsets = false;  ///< or one per batch entry: Buffers::query_offsets (B) int32
  std::int64_t prefix =
      0;                   ///< keys below it are always seen, whatever causal, window and chunk say
  std::int64_t chunk = 0;  ///< > 0: only keys with floor((i+shift)/chunk) == floor(j/chunk)

  // ---- the score
  std::optional<double> scale;  ///< factor of q.k; default 1/sqrt(D); any finite value
  double softcap = 0;           ///< > 0: s <- softcap * tanh(s / softcap)
  Alibi alibi = Alibi::kNone;
  Broadcast bias;                  ///< added to s
  DType bias_dtype = DType::kF32;  ///< f32, or the tensors' dtype
  Broadcast mask;                  ///< bool, one byte, 1 = attend
  Broadcast block_map;  ///< bool (B|1, Hq|1, ceil(Sq/block_rows), ceil(Sk/block_cols)), 0 = the
                        ///< block is hidden
  std::int64_t block_rows = 0, block_cols = 0;
  bool sinks = false;  ///< per-head logits (Hq) f32 that join the sum and nothing else

  // ---- lengths, ragged batches, cache
  bool key_lengths = false;  ///< Buffers::key_lengths (B) int32: how many keys of each entry exist
  bool ragged = false;       ///< (T,H,D) tensors with cu_seqlens_q, cu_seqlens_k (B+1) int32
  std::int64_t total_q = 0, total_k = 0;  ///< T of the ragged q and k
  Cache cache;

  // ---- dropout of the probabilities: Philox4x32-10 by coordinates, see docs/semantics.md
  double dropout_p = 0;  ///< in [0, 1)
  std::uint64_t seed = 0, offset = 0;

  // ---- which results
  Op op = Op::kForward;
  bool want_lse = false;
  bool want_probs = false;  ///< P (B,Hq,Sq,Sk), sign bit set where dropout dropped, 0 where there
                            ///< is no such pair; at most 2^31 elements
  std::optional<DType> out_dtype;  ///< of o (and of probs): the tensors' dtype by default, or f32
                                   ///< (partial results, merges)
  bool dlse = false;               ///< backward: Buffers::dlse (B,Hq,Sq) is given, too
  bool want_dbias = false;  ///< backward: dbias, contiguous, in bias's shape and dtype (summed over
                            ///< its broadcast axes)
  bool want_dsinks = false;  ///< backward: dsinks (Hq) f32
  bool f32_grads = false;    ///< backward: dq, dk, dv, dbias in f32 whatever dtype is
  bool accumulate = false;   ///< backward: add to what the gradients hold

  // ---- strides (contiguous by default); cache rows use k_strides, v_strides with batch = slot or
  // page
  Strides q_strides, k_strides, v_strides, o_strides;
  Strides k_new_strides, v_new_strides;
  Strides dout_strides, dq_strides, dk_strides, dv_strides;
};

}  // namespace heed
