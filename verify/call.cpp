// verify/call.cpp: see call.h. The rotary embedding and the append to a cache are here, too.
#include "verify/call.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "verify/layout.h"

namespace heed::verify {
namespace {

// Arithmetic of the rotary embedding: float64, or f32 with one rounding to the dtype.
double RotateOne(double a, double b, double cos, double sin, double sign,
                 std::optional<DType> rounding) {
  if (!rounding || *rounding == DType::kF64) return a * cos + sign * b * sin;
  const float x = static_cast<float>(a) * static_cast<float>(cos);
  const float y = static_cast<float>(b) * static_cast<float>(sin);
  return RoundTo(*rounding, sign < 0 ? x - y : x + y);
}

struct Embedding {
  Rotary kind = Rotary::kNone;
  std::int64_t width = 0;
  Array cos, sin;
  std::optional<DType> rounding;

  // Rotates row[0, width) as of `position`; sizes, if not null, take the sums of magnitudes.
  void Apply(std::int64_t position, double* row, double* sizes) const {
    const std::int64_t half = width / 2;
    for (std::int64_t n = 0; n < half; ++n) {
      const std::int64_t first = kind == Rotary::kInterleaved ? 2 * n : n;
      const std::int64_t second = kind == Rotary::kInterleaved ? 2 * n + 1 : n + half;
      const double c = cos[position * half + n], s = sin[position * half + n];
      const double a = row[first], b = row[second];
      row[first] = RotateOne(a, b, c, s, -1, rounding);
      row[second] = RotateOne(b, a, c, s, 1, rounding);
      if (sizes == nullptr) continue;
      sizes[first] = std::fabs(a * c) + std::fabs(b * s);
      sizes[second] = std::fabs(b * c) + std::fabs(a * s);
    }
  }
};

Array Magnitudes(const Array& a) {
  Array m = a;
  for (double& x : m.values) x = std::fabs(x);
  return m;
}

void CopyRow(const Array& from, std::int64_t from_row, std::int64_t width, Array* to,
             std::int64_t row) {
  std::copy_n(from.values.begin() + from_row * width, width, to->values.begin() + row * width);
}

// The row of the flattened cache that holds row `r` of entry `b`.
std::int64_t CacheRow(const Problem& p, const Buffers& x, std::int64_t b, std::int64_t r) {
  const Cache& c = p.cache;
  if (c.blocks > 0) return x.block_table[b * c.blocks + r / c.rows] * c.rows + r % c.rows;
  return (c.batch_idx ? x.cache_batch_idx[b] : b) * c.rows + r;
}

// Appends k_new, v_new, then copies the valid rows of each entry, in order, to call->k, call->v.
void FillFromCache(Call* call, const Embedding& embedding) {
  const Problem& p = call->problem;
  const Buffers& x = call->buffers;
  const Cache& c = p.cache;
  const std::int64_t k_width = p.k_heads * p.dim, v_width = p.k_heads * p.dim_v;
  call->k_cache = Gather(ViewOf(p, Role::kKCache, x.k_cache));
  call->v_cache = Gather(ViewOf(p, Role::kVCache, x.v_cache));
  Array sizes = Magnitudes(call->k_cache);
  call->k_cache_rotated = Zeros(call->k_cache.shape);
  if (c.new_len > 0) {
    Array k_new = Gather(ViewOf(p, Role::kKNew, x.k_new));
    const Array v_new = Gather(ViewOf(p, Role::kVNew, x.v_new));
    Array new_sizes = Magnitudes(k_new);
    for (std::int64_t b = 0; b < p.batch; ++b) {
      for (std::int64_t n = 0; n < c.new_len; ++n) {
        const std::int64_t row = b * c.new_len + n, at = x.cache_seqlens[b] + n;
        for (std::int64_t h = 0; embedding.kind != Rotary::kNone && h < p.k_heads; ++h) {
          const std::int64_t first = row * k_width + h * p.dim;
          embedding.Apply(at, &k_new[first], &new_sizes[first]);
        }
        const std::int64_t to = CacheRow(p, x, b, at);
        CopyRow(k_new, row, k_width, &call->k_cache, to);
        CopyRow(new_sizes, row, k_width, &sizes, to);
        if (embedding.kind != Rotary::kNone) {
          CopyRow(new_sizes, row, k_width, &call->k_cache_rotated, to);
        }
        CopyRow(v_new, row, v_width, &call->v_cache, to);
      }
    }
  }
  call->k = Zeros({call->k_rows, p.k_heads, p.dim});
  call->v = Zeros({call->k_rows, p.k_heads, p.dim_v});
  call->k_size = call->k;
  for (const Sequence& s : call->sequences) {
    const std::int64_t pad = c.leftpad ? x.cache_leftpad[s.index] : 0;
    for (std::int64_t j = 0; j < s.sk; ++j) {
      const std::int64_t from = CacheRow(p, x, s.index, pad + j);
      CopyRow(call->k_cache, from, k_width, &call->k, s.k_first + j);
      CopyRow(sizes, from, k_width, &call->k_size, s.k_first + j);
      CopyRow(call->v_cache, from, v_width, &call->v, s.k_first + j);
    }
  }
}

// q at cache_seqlens + i if causal or windowed, else all at cache_seqlens.
void RotateQueries(Call* call, const Embedding& embedding) {
  const Problem& p = call->problem;
  const bool moves = p.window_left >= 0 || p.window_right >= 0;
  call->q_size = Magnitudes(call->q);
  for (const Sequence& s : call->sequences) {
    for (std::int64_t i = 0; i < s.sq; ++i) {
      const std::int64_t at = call->buffers.cache_seqlens[s.index] + (moves ? i : 0);
      for (std::int64_t h = 0; h < p.q_heads; ++h) {
        const std::int64_t first = ((s.q_first + i) * p.q_heads + h) * p.dim;
        embedding.Apply(at, &call->q[first], &call->q_size[first]);
      }
    }
  }
}

Sequence SequenceAt(const Problem& p, const Buffers& x, std::int64_t b) {
  Sequence s{
      .index = b, .q_first = b * p.q_len, .k_first = b * p.k_len, .sq = p.q_len, .sk = p.k_len};
  if (p.ragged) {
    s.q_first = x.cu_seqlens_q[b];
    s.k_first = x.cu_seqlens_k[b];
    s.sq = x.cu_seqlens_q[b + 1] - s.q_first;
    s.sk = x.cu_seqlens_k[b + 1] - s.k_first;
  }
  if (p.cache.given) {
    s.sk = x.cache_seqlens[b] + p.cache.new_len - (p.cache.leftpad ? x.cache_leftpad[b] : 0);
  }
  if (p.key_lengths) s.sk = x.key_lengths[b];
  s.shift = p.align == Align::kBottomRight ? s.sk - s.sq
            : p.align == Align::kTopLeft   ? 0
            : p.query_offsets              ? x.query_offsets[b]
                                           : p.query_offset.value_or(0);
  return s;
}

Array RowsOf(const Problem& p, Role role, const void* data, std::int64_t rows) {
  Array a = Gather(ViewOf(p, role, data));
  const std::size_t rank = a.shape.size();
  a.shape = {rows, a.shape[rank - 2], a.shape[rank - 1]};
  return a;
}

}  // namespace

Call MakeCall(const Problem& problem, const Buffers& buffers, std::optional<DType> rounding) {
  Call call{.problem = problem, .buffers = buffers};
  Problem& p = call.problem;
  p.k_heads = KeyHeads(problem);
  p.dim_v = DimV(problem);
  p.scale = ScaleOf(problem);
  if (p.causal) p.window_right = 0;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    call.sequences.push_back(SequenceAt(p, buffers, b));
    Sequence& s = call.sequences.back();
    if (!p.cache.given) continue;
    s.k_first = call.k_rows;
    call.k_rows += s.sk;
  }
  call.q_rows = p.ragged ? p.total_q : p.batch * p.q_len;
  if (!p.cache.given) call.k_rows = p.ragged ? p.total_k : p.batch * p.k_len;

  Embedding embedding{.kind = p.cache.given ? p.cache.rotary : Rotary::kNone,
                      .width = p.cache.rotary_dim,
                      .rounding = rounding};
  if (embedding.kind != Rotary::kNone) {
    embedding.cos = Gather(ViewOf(p, Role::kRotaryCos, buffers.rotary_cos));
    embedding.sin = Gather(ViewOf(p, Role::kRotarySin, buffers.rotary_sin));
  }
  call.q = RowsOf(p, Role::kQ, buffers.q, call.q_rows);
  if (p.cache.given) {
    FillFromCache(&call, embedding);
  } else {
    call.k = RowsOf(p, Role::kK, buffers.k, call.k_rows);
    call.v = RowsOf(p, Role::kV, buffers.v, call.k_rows);
  }
  if (embedding.kind != Rotary::kNone) RotateQueries(&call, embedding);
  if (p.op == Op::kBackward) call.dout = RowsOf(p, Role::kDout, buffers.dout, call.q_rows);
  if (p.bias.given) call.bias = ViewOf(p, Role::kBias, buffers.bias);
  if (p.mask.given) call.mask = ViewOf(p, Role::kMask, buffers.mask);
  if (p.block_map.given) call.block_map = ViewOf(p, Role::kBlockMap, buffers.block_map);
  return call;
}

}  // namespace heed::verify
