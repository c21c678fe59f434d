// cuda_call.cpp: see cuda_call.h.
#include "cuda/cuda_call.h"

#include <cmath>

#include "cuda/grid.h"
#include "problem/normal.h"
#include "problem/words.h"

namespace heed::cuda {
namespace {

std::int32_t Narrow(std::int64_t n) { return static_cast<std::int32_t>(Min(n, INT32_MAX)); }

Spread SpreadOf(const Broadcast& t, const void* data) {
  if (!t.given) return {};
  return {data, t.stride_batch, t.stride_head, t.stride_row, t.stride_col};
}

// Few queries of a group stand in one tile, so that their keys are read once: the tile's rows, or 0. A
// matter of the entry's own sizes: of a ragged batch the longest sequence would decide, and that
// there are enough keys to cut is not asked either.
std::int64_t PackedRows(const Problem& p) {
  constexpr std::int64_t kMostRows = 64;
  const std::int64_t group = p.q_heads / p.k_heads;
  if (p.ragged || (group == 1 && p.want_probs) || p.q_len == 0 || p.q_len > kMostRows ||
      group > kMostRows || p.q_len * group > kMostRows) {
    return 0;
  }
  return p.q_len * group;
}

void SetScore(const Problem& p, ForwardCall* c) {
  c->terms = Terms<float>::Of({.scale = *p.scale,
                               .softcap = p.softcap,
                               .alibi = p.alibi != Alibi::kNone,
                               .bias = p.bias.given});
  c->factors = FoldExp2(c->terms);
  c->slopes_batch = p.alibi == Alibi::kPerBatchHead ? p.q_heads : 0;
  c->bias_f32 = p.bias_dtype == DType::kF32;
  c->drops = p.dropout_p > 0;
  c->dropout = DropoutOf(p.seed, p.offset, p.dropout_p);
  c->keep_factor = static_cast<float>(1 / (1 - p.dropout_p));
  c->rule = VisibilityOf(p, 0, 0, p.query_offset.value_or(0));
  c->bottom_right = p.align == Align::kBottomRight;
  c->block_rows = p.block_map.given ? p.block_rows : 1;
  c->block_cols = p.block_map.given ? p.block_cols : 1;
}

void SetCache(const Problem& p, ForwardCall* c) {
  CacheArrays& cache = c->cache;
  cache.slots = Narrow(p.cache.slots);
  cache.rows = Narrow(p.cache.rows);
  cache.blocks = Narrow(p.cache.blocks);
  cache.new_len = Narrow(p.cache.new_len);
  cache.rotary_dim = p.cache.rotary == Rotary::kNone ? 0 : Narrow(p.cache.rotary_dim);
  cache.rotary_half = p.cache.rotary == Rotary::kHalf;
  cache.rotary_moves = p.window_left >= 0 || p.window_right >= 0;  // causal is window_right = 0
  cache.rotary_rows = Narrow(p.cache.rotary_rows);
}

void SetCut(const Problem& p, const Instance& instance, std::int64_t packed, ForwardCall* c) {
  c->packed = packed > 0;
  c->schedule = {p.batch, c->packed ? p.k_heads : p.q_heads, c->packed ? packed : p.q_len,
                 instance.rows, LaterRowsSeeMore(c->rule)};
  if (c->packed && !p.want_probs && PiecesOf(p.k_len) > 1) {
    c->split.pieces = static_cast<std::int32_t>(PiecesOf(p.k_len));
    c->split.padded = static_cast<std::int32_t>(CeilDiv(p.dim_v, 4) * 4);
  }
  if (!c->packed) c->kinds = KindsOf(p, instance.rows, instance.keys);
}

Parts PartsOf(const Problem& p, const ForwardCall& c) {
  Parts parts;
  const auto add = [&](Parts::Part* part, std::int64_t bytes) {
    *part = {parts.bytes, bytes};
    parts.bytes += CeilDiv(bytes, kAlign) * kAlign;
  };
  add(&parts.kinds, c.kinds.count());
  add(&parts.rotated,
      c.cache.rotary_dim > 0 ? p.batch * p.q_len * p.q_heads * p.dim * SizeOf(p.dtype) : 0);
  const std::int64_t rows =
      c.split.pieces > 0 ? c.schedule.items() * c.split.pieces * c.schedule.tile_rows : 0;
  add(&parts.o, rows * c.split.padded * std::int64_t{sizeof(float)});
  add(&parts.o_lse, rows * std::int64_t{sizeof(float)});
  return parts;
}

}  // namespace

Steps StepsOf(const Strides& s) { return {s.batch, s.row, s.head}; }

// Whether every row starts at a multiple of 16 bytes and is one long.
Rows RowsOf(const void* data, const Strides& s, std::int64_t width, DType dtype) {
  const std::int64_t size = SizeOf(dtype);
  const auto even = [&](std::int64_t n) { return n * size % 16 == 0; };
  return {data, StepsOf(s),
          reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && even(s.batch) && even(s.row) &&
              even(s.head) && even(width)};
}

bool IsPlain(const Problem& p, const ForwardCall& c) {
  return !c.terms.any() && c.factors.inner > 0 && std::isfinite(c.factors.inner) && !p.mask.given &&
         !p.block_map.given && p.dropout_p == 0 && !p.want_probs;
}

TileKinds KindsOf(const Problem& p, std::int64_t rows, std::int64_t keys) {
  TileKinds kinds;
  if (!p.mask.given && !p.block_map.given) return kinds;
  const auto most = [&](std::int64_t Broadcast::*axis) {
    return Narrow(Max(p.mask.given ? p.mask.*axis : 1, p.block_map.given ? p.block_map.*axis : 1));
  };
  kinds.batches = most(&Broadcast::batch);
  kinds.heads = most(&Broadcast::heads);
  kinds.tile_rows = Narrow(rows);
  kinds.tile_keys = Narrow(keys);
  kinds.rows = Narrow(CeilDiv(p.q_len, rows));
  kinds.keys = Narrow(CeilDiv(p.k_len, keys));
  return kinds;
}

ForwardCall CommonCall(const Problem& p) {
  ForwardCall c;
  c.lse_batch = p.ragged ? 0 : p.q_heads * p.q_len;
  c.lse_head = p.ragged ? p.total_q : p.q_len;
  c.batch = Narrow(p.batch);
  c.q_heads = Narrow(p.q_heads);
  c.group = Narrow(p.q_heads / p.k_heads);
  c.q_len = Narrow(p.q_len);
  c.k_len = Narrow(p.k_len);
  c.total_q = p.total_q;
  c.total_k = p.total_k;
  c.dim = static_cast<std::int32_t>(p.dim);
  c.dim_v = static_cast<std::int32_t>(p.dim_v);
  c.out_f32 = *p.out_dtype == DType::kF32;
  SetScore(p, &c);
  return c;
}

void SetCommonPointers(const Problem& p, const Buffers& b, ForwardCall* call) {
  ForwardCall& c = *call;
  c.slopes = p.alibi != Alibi::kNone ? b.alibi_slopes : nullptr;
  c.bias = SpreadOf(p.bias, b.bias);
  c.mask = SpreadOf(p.mask, b.mask);
  c.block_map = SpreadOf(p.block_map, b.block_map);
  c.sinks = p.sinks ? b.sinks : nullptr;
  c.key_lengths = p.key_lengths ? b.key_lengths : nullptr;
  c.query_offsets = p.query_offsets ? b.query_offsets : nullptr;
  if (p.ragged) {
    c.cu_seqlens_q = b.cu_seqlens_q;
    c.cu_seqlens_k = b.cu_seqlens_k;
  }
}

Planned PlanCall(const Problem& p, const Facts& facts) {
  Planned planned;
  planned.facts = &facts;
  ForwardCall& c = planned.call;
  c = CommonCall(p);
  SetCache(p, &c);

  Wanted wanted = {p.dtype, static_cast<int>(Max(p.dim, p.dim_v)), IsPlain(p, c), PackedRows(p)};
  planned.row = FindForward(facts, wanted);
  if (planned.row < 0 && wanted.packed > 0) {  // more rows than any tile of this width has
    wanted.packed = 0;
    planned.row = FindForward(facts, wanted);
  }
  if (planned.row < 0) return planned;
  SetCut(p, planned.instance(), wanted.packed, &c);
  if (ForwardBlocks(p, planned) <= kMostForwardBlocks) planned.parts = PartsOf(p, c);
  return planned;
}

std::int64_t ForwardBlocks(const Problem& p, const Planned& planned) {
  const ForwardCall& c = planned.call;
  std::int64_t blocks = c.schedule.tiles();
  for (const std::int64_t n : {p.batch, c.schedule.heads, Max(c.split.pieces, 1)}) {
    if (__builtin_mul_overflow(blocks, n, &blocks)) return INT64_MAX;
  }
  return blocks;
}

std::int64_t WorkspaceBytes(const Planned& planned) {
  return planned.parts.bytes > 0 ? planned.parts.bytes + kAlign - 1 : 0;
}

std::string WorkspaceFormula(const Planned& planned) {
  const Parts& parts = planned.parts;
  std::string formula;
  const auto add = [&](const Parts::Part& part, const char* text) {
    if (part.bytes > 0) formula += (formula.empty() ? "" : "; ") + std::string(text);
  };
  add(parts.kinds, "a byte for every score tile of the mask");
  add(parts.rotated, "B x Sq x Hq x D elements");
  add(parts.o, "B x kv heads x pieces x tile rows x (Dv rounded up to 4, and 1) x 4 bytes");
  return formula.empty() ? "none" : formula + "; parts at multiples of 128 bytes";
}

void SetPointers(const Problem& p, const Buffers& b, Planned* planned) {
  ForwardCall& c = planned->call;
  const Parts& parts = planned->parts;
  const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(b.workspace.data);
  const auto part = [&](const Parts::Part& at) {
    return reinterpret_cast<void*>((start + kAlign - 1) / kAlign * kAlign +
                                   static_cast<std::uintptr_t>(at.at));
  };
  c.q = RowsOf(b.q, p.q_strides, p.dim, p.dtype);
  c.k = RowsOf(p.cache.given ? b.k_cache : b.k, p.k_strides, p.dim, p.dtype);
  c.v = RowsOf(p.cache.given ? b.v_cache : b.v, p.v_strides, p.dim_v, p.dtype);
  c.o = b.o;
  c.o_steps = StepsOf(p.o_strides);
  const std::int64_t size = SizeOf(*p.out_dtype);
  c.out_wide = reinterpret_cast<std::uintptr_t>(b.o) % static_cast<std::uintptr_t>(4 * size) == 0 &&
               (p.o_strides.batch | p.o_strides.row | p.o_strides.head) % 4 == 0;
  c.lse = p.want_lse ? b.lse : nullptr;
  c.probs = p.want_probs ? b.probs : nullptr;
  SetCommonPointers(p, b, &c);
  if (parts.kinds.bytes > 0) c.kinds.kinds = static_cast<std::uint8_t*>(part(parts.kinds));
  if (c.split.pieces > 0) {
    c.split.o = static_cast<float*>(part(parts.o));
    c.split.lse = static_cast<float*>(part(parts.o_lse));
  }
  if (!p.cache.given) return;
  CacheArrays& cache = c.cache;
  cache.seqlens = b.cache_seqlens;
  cache.batch_idx = p.cache.batch_idx ? b.cache_batch_idx : nullptr;
  cache.leftpad = p.cache.leftpad ? b.cache_leftpad : nullptr;
  cache.table = p.cache.blocks > 0 ? b.block_table : nullptr;
  cache.k_new = RowsOf(b.k_new, p.k_new_strides, p.dim, p.dtype);
  cache.v_new = RowsOf(b.v_new, p.v_new_strides, p.dim_v, p.dtype);
  if (cache.rotary_dim == 0) return;
  cache.cos = b.rotary_cos;
  cache.sin = b.rotary_sin;
  cache.q = c.q;
  cache.rotated = part(parts.rotated);
  c.q = RowsOf(cache.rotated, {p.q_len * p.q_heads * p.dim, p.q_heads * p.dim, p.dim}, p.dim,
               p.dtype);
}

int LaunchesOf(const Problem& p, const Planned& planned, Launch (&launches)[kMostLaunches]) {
  const ForwardCall& c = planned.call;
  int count = 0;
  const auto add = [&](int row, std::int64_t blocks) {
    if (blocks > 0) launches[count++] = {row, blocks};
  };
  const auto other = [&](Kernel kernel, std::int64_t items) {
    if (items == 0) return;
    const int row = FindOther(*planned.facts, kernel, p.dtype);
    add(row, BlocksFor(items, InstanceOf(row).warps));
  };
  other(Kernel::classify, ClassifyItems(c));
  other(Kernel::append, p.cache.given ? AppendItems(c) : 0);
  add(planned.row, ForwardBlocks(p, planned));
  other(Kernel::join, JoinItems(c));
  other(Kernel::probs, p.want_probs ? ProbsItems(c) : 0);
  return count;
}

}  // namespace heed::cuda
