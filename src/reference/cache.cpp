// cache.cpp: rows of q, k and v as attention reads them: rotary embedding, and the append to a KV
// cache. Not here: scores.
#include "reference/passes.h"

namespace heed::reference {
namespace {

// Rotates the first R entries of a row by the angles of `position`, pair by pair: (x, y) -> (x cos
// - y sin, x sin + y cos). T is the precision the contract asks for; the result still has to be
// rounded to the tensors' dtype.
template <class T>
void Rotate(const Problem& p, const Buffers& buffers, std::int64_t position, double* row) {
  const std::int64_t pairs = p.cache.rotary_dim / 2;
  const bool interleaved = p.cache.rotary == Rotary::kInterleaved;
  for (std::int64_t t = 0; t < pairs; t++) {
    double& x = row[interleaved ? 2 * t : t];
    double& y = row[interleaved ? 2 * t + 1 : t + pairs];
    const T a = static_cast<T>(x), b = static_cast<T>(y);
    const T c = static_cast<T>(Load(p.dtype, buffers.rotary_cos, position * pairs + t));
    const T s = static_cast<T>(Load(p.dtype, buffers.rotary_sin, position * pairs + t));
    const T ac = a * c, bs = b * s, as = a * s, bc = b * c;
    x = ac - bs;
    y = as + bc;
  }
}

// Rotated in f32 (f64 tensors: in f64) and rounded to the dtype.
void RotateRow(const Problem& p, const Buffers& buffers, std::int64_t position, double* row) {
  if (p.cache.rotary == Rotary::kNone) return;
  if (p.dtype == DType::kF64) return Rotate<double>(p, buffers, position, row);
  Rotate<float>(p, buffers, position, row);
  for (std::int64_t d = 0; d < p.cache.rotary_dim; d++) {
    double rounded;
    Store(p.dtype, &rounded, 0, row[d]);
    row[d] = Load(p.dtype, &rounded, 0);
  }
}

Matrix ReadRows(const Entry& entry, const Tensor& tensor, std::int64_t hk, std::int64_t n) {
  Matrix rows(entry.sk(), n);
  for (std::int64_t j = 0; j < entry.sk(); j++) tensor.ReadRow(entry.KeyAt(j), hk, n, rows[j]);
  return rows;
}

}  // namespace

void AppendToCache(const Problem& p, const Buffers& buffers) {
  const Tensor k_new = {buffers.k_new, p.dtype, p.k_new_strides};
  const Tensor v_new = {buffers.v_new, p.dtype, p.v_new_strides};
  const Output k_cache = {buffers.k_cache, p.dtype, p.k_strides};
  const Output v_cache = {buffers.v_cache, p.dtype, p.v_strides};
  std::vector<double> k(p.dim), v(p.dim_v);
  for (std::int64_t b = 0; b < p.batch; b++) {
    for (std::int64_t t = 0; t < p.cache.new_len; t++) {
      const std::int64_t row = buffers.cache_seqlens[b] + t;
      const Place at = CacheRow(p, buffers, b, row);
      for (std::int64_t hk = 0; hk < p.k_heads; hk++) {
        k_new.ReadRow({b, t}, hk, p.dim, k.data());
        v_new.ReadRow({b, t}, hk, p.dim_v, v.data());
        RotateRow(p, buffers, row, k.data());
        k_cache.WriteRow(at, hk, p.dim, k.data());
        v_cache.WriteRow(at, hk, p.dim_v, v.data());
      }
    }
  }
}

Matrix ReadQueries(const Entry& entry, std::int64_t h) {
  const Problem& p = entry.problem;
  const Tensor tensor = {entry.buffers.q, p.dtype, p.q_strides};
  const bool moving = p.causal || p.window_left >= 0 || p.window_right >= 0;
  Matrix q(entry.sq(), p.dim);
  for (std::int64_t i = 0; i < entry.sq(); i++) {
    tensor.ReadRow(entry.QueryAt(i), h, p.dim, q[i]);
    if (!p.cache.given) continue;
    RotateRow(p, entry.buffers, entry.buffers.cache_seqlens[entry.b] + (moving ? i : 0), q[i]);
  }
  return q;
}

Matrix ReadKeys(const Entry& entry, std::int64_t hk) {
  const Problem& p = entry.problem;
  const void* data = p.cache.given ? entry.buffers.k_cache : entry.buffers.k;
  return ReadRows(entry, {data, p.dtype, p.k_strides}, hk, p.dim);
}

Matrix ReadValues(const Entry& entry, std::int64_t hk) {
  const Problem& p = entry.problem;
  const void* data = p.cache.given ? entry.buffers.v_cache : entry.buffers.v;
  return ReadRows(entry, {data, p.dtype, p.v_strides}, hk, p.dim_v);
}

}  // namespace heed::reference
