// cuda_backward.cpp: see cuda_backward.h.
#include "cuda/cuda_backward.h"

#include "cuda/grid.h"

namespace heed::cuda {
namespace {

// Rows of lse, which those of the workspace lie like.
std::int64_t LseRows(const Problem& p) {
  return p.q_heads * (p.ragged ? p.total_q : p.batch * p.q_len);
}

std::int64_t Product(std::initializer_list<std::int64_t> factors) {
  std::int64_t all = 1;
  for (const std::int64_t n : factors) {
    if (__builtin_mul_overflow(all, n, &all)) return INT64_MAX;
  }
  return all;
}

Gradient GradientOf(void* data, const Strides& s, DType dtype) {
  const std::int64_t size = SizeOf(dtype);
  return {data, StepsOf(s),
          reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(4 * size) == 0 &&
              (s.batch | s.row | s.head) % 4 == 0};
}

}  // namespace

PlannedBackward PlanBackward(const Problem& p, const Facts& facts) {
  PlannedBackward planned;
  planned.facts = &facts;
  BackwardCall& c = planned.call;
  ForwardCall& f = c.forward;
  f = CommonCall(p);
  const bool fma = p.dtype == DType::kF32, plain = IsPlain(p, f);
  const int dim = static_cast<int>(Max(p.dim, p.dim_v));
  planned.queries =
      FindTiles(facts, fma ? Kernel::queries_fma : Kernel::queries_mma, p.dtype, dim, plain, -1);
  if (planned.queries < 0) return planned;
  planned.keys = FindTiles(facts, fma ? Kernel::keys_fma : Kernel::keys_mma, p.dtype, dim, plain,
                           planned.queries);
  planned.bias = FindTiles(facts, fma ? Kernel::bias_fma : Kernel::bias_mma, p.dtype, dim, false,
                           planned.queries);
  const Instance& tile = InstanceOf(planned.queries);
  c.tile_rows = tile.rows;
  c.tile_keys = tile.keys;
  c.parts = BackwardParts(tile.dim, static_cast<int>(SizeOf(p.dtype)));
  c.grads_f32 = p.f32_grads || fma;
  c.accumulate = p.accumulate;
  c.dbias_f32 = p.f32_grads || p.bias_dtype == DType::kF32;
  if (p.want_dbias) {
    c.bias_batch = static_cast<std::int32_t>(p.bias.batch);
    c.bias_heads = static_cast<std::int32_t>(p.bias.heads);
    c.bias_rows = static_cast<std::int32_t>(p.bias.rows);
    c.bias_cols = static_cast<std::int32_t>(p.bias.cols);
  }
  f.schedule = {p.batch, p.q_heads, p.q_len, tile.rows, LaterRowsSeeMore(f.rule)};
  c.keys = {p.batch, p.k_heads, p.k_len, tile.keys, false};
  f.kinds = KindsOf(p, tile.rows, tile.keys);
  if (BackwardBlocks(p, planned) <= kMostForwardBlocks) {
    planned.kinds = {0, f.kinds.count()};
    planned.rows = {CeilDiv(planned.kinds.bytes, kAlign) * kAlign,
                    LseRows(p) * std::int64_t{sizeof(RowStart)}};
    planned.bytes = planned.rows.at + planned.rows.bytes;
  }
  return planned;
}

std::int64_t BackwardBlocks(const Problem& p, const PlannedBackward& planned) {
  const BackwardCall& c = planned.call;
  const std::int64_t queries = Product({p.batch, p.q_heads, c.forward.schedule.tiles()});
  const std::int64_t keys = Product({p.batch, p.k_heads, c.keys.tiles(), c.parts});
  const std::int64_t bias =
      p.want_dbias ? Product({p.bias.batch, p.bias.heads, c.bias_row_tiles(), c.bias_key_tiles()})
                   : 0;
  return Max(Max(queries, keys), bias);
}

std::int64_t WorkspaceBytes(const PlannedBackward& planned) {
  return planned.bytes > 0 ? planned.bytes + kAlign - 1 : 0;
}

std::string WorkspaceFormula(const PlannedBackward& planned) {
  return std::string("16 bytes for every row of lse") +
         (planned.kinds.bytes > 0 ? "; a byte for every score tile of the mask" : "") +
         "; parts at multiples of 128 bytes";
}

void SetPointers(const Problem& p, const Buffers& b, PlannedBackward* planned) {
  BackwardCall& c = planned->call;
  ForwardCall& f = c.forward;
  const std::uintptr_t start =
      (reinterpret_cast<std::uintptr_t>(b.workspace.data) + kAlign - 1) / kAlign * kAlign;
  f.q = RowsOf(b.q, p.q_strides, p.dim, p.dtype);
  f.k = RowsOf(b.k, p.k_strides, p.dim, p.dtype);
  f.v = RowsOf(b.v, p.v_strides, p.dim_v, p.dtype);
  SetCommonPointers(p, b, &f);
  f.lse = b.lse;
  if (planned->kinds.bytes > 0) {
    f.kinds.kinds =
        reinterpret_cast<std::uint8_t*>(start + static_cast<std::uintptr_t>(planned->kinds.at));
  }
  c.rows = reinterpret_cast<RowStart*>(start + static_cast<std::uintptr_t>(planned->rows.at));
  c.o = RowsOf(b.o, p.o_strides, p.dim_v, *p.out_dtype);
  c.dout = RowsOf(b.dout, p.dout_strides, p.dim_v, p.dtype);
  c.dlse = p.dlse ? b.dlse : nullptr;
  const DType grads = c.grads_f32 ? DType::kF32 : p.dtype;
  c.dq = GradientOf(b.dq, p.dq_strides, grads);
  c.dk = GradientOf(b.dk, p.dk_strides, grads);
  c.dv = GradientOf(b.dv, p.dv_strides, grads);
  c.dbias = p.want_dbias ? b.dbias : nullptr;
  c.dsinks = p.want_dsinks ? b.dsinks : nullptr;
}

int LaunchesOf(const Problem& p, const PlannedBackward& planned,
               Launch (&launches)[kMostBackwardLaunches]) {
  const BackwardCall& c = planned.call;
  int count = 0;
  const auto add = [&](int row, std::int64_t blocks) {
    if (blocks > 0) launches[count++] = {row, blocks};
  };
  const auto warps = [&](Kernel kernel, std::int64_t items) {
    const int row = FindOther(*planned.facts, kernel, p.dtype);
    add(row, BlocksFor(items, InstanceOf(row).warps));
  };
  if (planned.kinds.bytes > 0) warps(Kernel::classify, ClassifyItems(c.forward));
  warps(Kernel::prepare, PrepareItems(c));
  add(planned.queries, c.query_blocks());
  add(planned.keys, c.key_blocks());
  if (p.want_dbias) {
    add(planned.bias, c.bias_batch * c.bias_heads * c.bias_row_tiles() * c.bias_key_tiles());
  }
  if (p.want_dsinks) add(FindOther(*planned.facts, Kernel::sinks, p.dtype), p.q_heads);
  return count;
}

}  // namespace heed::cuda
