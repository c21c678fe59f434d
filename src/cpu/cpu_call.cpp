// cpu_call.cpp: Problem and Buffers -> ForwardCall.
#include "cpu/cpu_call.h"

#include <cstdlib>

#include "cpu/threads.h"
#include "problem/normal.h"

namespace heed::cpu {

Steps StepsOf(const Strides& s) { return {s.batch, s.row, s.head}; }

char* AlignedStart(const Workspace& workspace) {
  const auto at = reinterpret_cast<std::uintptr_t>(workspace.data);
  return static_cast<char*>(workspace.data) + (kAlign - at % kAlign) % kAlign;
}

namespace {

Spread SpreadOf(const Broadcast& t, const void* data) {
  if (!t.given) return {};
  return {data, t.stride_batch, t.stride_head, t.stride_row, t.stride_col};
}

}  // namespace

// Fewer queries than a tile holds: the heads of a group share the tile, and with it one pass over
// their keys. Of a ragged batch the longest sequence would decide, and no entry's bits may depend
// on another.
bool Packed(const Problem& p, const Kernels& kernels) {
  return p.q_heads > p.k_heads && !p.ragged && p.q_len < kernels.tile_rows;
}

Blocks BlocksOf(const Problem& p, const Kernels& kernels) {
  const std::int64_t rows = Packed(p, kernels) ? p.q_len * (p.q_heads / p.k_heads) : p.q_len;
  return kernels.blocks(static_cast<int>(p.dim), static_cast<int>(p.dim_v), rows, p.k_len);
}

namespace {

// Few queries, and more keys than one piece takes.
Split SplitOf(const Problem& p, const Kernels& kernels, Blocks blocks) {
  constexpr std::int64_t kPieceKeys = 1024, kMostRows = 256;
  Split s;
  s.rows = p.q_len * (p.q_heads / p.k_heads);
  s.piece_keys = blocks.keys * Max(kPieceKeys / blocks.keys, 1);
  s.o_step = kernels.sum_step(static_cast<int>(p.dim_v));
  if (p.ragged || p.want_probs || p.q_len >= kernels.tile_rows || s.rows > kMostRows || s.rows == 0)
    return s;
  const bool arrays = p.bias.given || p.mask.given || p.block_map.given || p.dropout_p > 0;
  const bool few = s.rows <= kFewRows && !arrays;
  // Whatever k_len is: entries may have fewer keys, and their bits depend on their own number.
  if (p.k_len <= (few ? 0 : s.piece_keys)) return s;
  s.few = few;
  s.heads = p.k_heads;
  s.interleaved = few && p.k_heads > 1 && std::abs(p.k_strides.head) < std::abs(p.k_strides.row);
  s.pieces = static_cast<int>(Min(CeilDiv(p.k_len, s.piece_keys), kMaxPieces));
  return s;
}

}  // namespace

ForwardCall CallOf(const Problem& p, const Kernels& kernels) {
  ForwardCall c;
  c.q_steps = StepsOf(p.q_strides);
  c.k_steps = StepsOf(p.k_strides);
  c.v_steps = StepsOf(p.v_strides);
  c.o_steps = StepsOf(p.o_strides);
  c.lse_batch = p.ragged ? 0 : p.q_heads * p.q_len;
  c.lse_head = p.ragged ? p.total_q : p.q_len;
  c.q_heads = p.q_heads;
  c.group = p.q_heads / p.k_heads;
  c.q_len = p.q_len;
  c.k_len = p.k_len;
  c.dim = static_cast<int>(p.dim);
  c.dim_v = static_cast<int>(p.dim_v);
  c.dtype = p.dtype;
  c.out_dtype = *p.out_dtype;

  c.terms = Terms<float>::Of({.scale = *p.scale,
                              .softcap = p.softcap,
                              .alibi = p.alibi != Alibi::kNone,
                              .bias = p.bias.given});
  c.slopes_batch = p.alibi == Alibi::kPerBatchHead ? p.q_heads : 0;
  c.bias_f32 = p.bias_dtype == DType::kF32;
  c.drops = p.dropout_p > 0;
  c.dropout = DropoutOf(p.seed, p.offset, p.dropout_p);
  c.keep_factor = static_cast<float>(1 / (1 - p.dropout_p));

  c.rule = VisibilityOf(p, 0, 0, p.query_offset.value_or(0));
  c.bottom_right = p.align == Align::kBottomRight;
  // A mask that is a matrix, and that more than one head reads; in tiles that lie as its rows do.
  if (p.mask.given && p.mask.rows > 1 && p.mask.cols > 1 && p.q_len >= kernels.tile_rows &&
      p.batch * p.q_heads > p.mask.batch * p.mask.heads) {
    c.kinds = {nullptr,
               p.mask.batch,
               p.mask.heads,
               p.mask.rows,
               p.mask.cols,
               CeilDiv(p.mask.rows, kernels.tile_rows),
               CeilDiv(p.mask.cols, 64)};
  }
  c.block_rows = p.block_map.given ? p.block_rows : 1;
  c.block_cols = p.block_map.given ? p.block_cols : 1;

  const Cache& cache = p.cache;
  c.cache.blocks = cache.blocks;
  c.cache.page_rows = cache.rows;
  c.cache.new_len = cache.new_len;
  c.cache.k_new_steps = StepsOf(p.k_new_strides);
  c.cache.v_new_steps = StepsOf(p.v_new_strides);
  c.cache.rotary_dim = cache.rotary == Rotary::kNone ? 0 : static_cast<int>(cache.rotary_dim);
  c.cache.rotary_half = cache.rotary == Rotary::kHalf;
  c.cache.rotary_moves = p.window_left >= 0 || p.window_right >= 0;  // causal is window_right = 0

  c.packed = Packed(p, kernels);
  const std::int64_t heads = c.packed ? p.k_heads : p.q_heads;
  const bool reverse = LaterRowsSeeMore(c.rule);
  c.dense = {p.batch, heads, c.packed ? p.q_len * c.group : p.q_len, kernels.tile_rows, reverse};
  c.ragged = {p.batch, heads, p.total_q, kernels.tile_rows, nullptr, reverse};
  c.blocks = BlocksOf(p, kernels);
  c.split = SplitOf(p, kernels, c.blocks);
  return c;
}

void SetPointers(const Problem& p, const Buffers& b, ForwardCall* c) {
  c->q = b.q;
  c->k = p.cache.given ? b.k_cache : b.k;
  c->v = p.cache.given ? b.v_cache : b.v;
  c->o = b.o;
  c->lse = p.want_lse ? b.lse : nullptr;
  c->probs = p.want_probs ? b.probs : nullptr;
  c->slopes = p.alibi != Alibi::kNone ? b.alibi_slopes : nullptr;
  c->bias = SpreadOf(p.bias, b.bias);
  c->mask = SpreadOf(p.mask, b.mask);
  c->block_map = SpreadOf(p.block_map, b.block_map);
  c->sinks = p.sinks ? b.sinks : nullptr;
  c->key_lengths = p.key_lengths ? b.key_lengths : nullptr;
  c->query_offsets = p.query_offsets ? b.query_offsets : nullptr;
  if (p.ragged) {
    c->cu_seqlens_q = c->ragged.cu_seqlens = b.cu_seqlens_q;
    c->cu_seqlens_k = b.cu_seqlens_k;
  }
  if (p.cache.given) {
    CacheArrays& cache = c->cache;
    cache.seqlens = b.cache_seqlens;
    cache.batch_idx = p.cache.batch_idx ? b.cache_batch_idx : nullptr;
    cache.leftpad = p.cache.leftpad ? b.cache_leftpad : nullptr;
    cache.table = p.cache.blocks > 0 ? b.block_table : nullptr;
    cache.k_new = b.k_new;
    cache.v_new = b.v_new;
    cache.cos = b.rotary_cos;
    cache.sin = b.rotary_sin;
  }
}

void Classify(const ForwardCall& call, const Kernels& kernels, int threads, bool wake) {
  Parallel(
      {call.kinds.batches * call.kinds.heads * call.kinds.tiles, threads, 8, wake},
      [&](std::int64_t first, std::int64_t last, int) { kernels.classify(call, first, last); });
}

WorkShape WorkShapeOf(const ForwardCall& c) {
  WorkShape s{c.dtype, c.dim, c.dim_v, c.blocks, c.cache.blocks > 0, c.cache.rotary_dim > 0};
  if (c.split.few) s.few_rows = static_cast<int>(c.split.rows);
  s.few_heads = HeadsAtOnce(c.split);
  return s;
}

}  // namespace heed::cpu
