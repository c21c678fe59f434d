// rotary.h: rotary embedding of one row, and the append of new rows to a cache. Not here: which
// rows, in which order (forward.h, cpu.cpp).
#pragma once

#include "cpu/keys.h"
#include "cpu/packing.h"

namespace heed::cpu::HEED_ISA {

inline constexpr int kMaxDim = 1024;

// row -> out (which may be row): the pairs of the first rotary_dim entries by the angles of
// `position`, (x, y) -> (x cos - y sin, x sin + y cos), in f32, each product rounded; then rounded
// to the dtype. What lies behind is copied. Written over floats: the compiler's vectors do.
template <class F>
HEED_NOINLINE void RotateRow(const CacheArrays& c, std::int64_t position, int dim,
                             const typename F::E* row, typename F::E* out) {
  using E = typename F::E;
  const int pairs = c.rotary_dim / 2;
  float x[kMaxDim + W], cos[kMaxDim / 2 + W], sin[kMaxDim / 2 + W];
  WidenRow<F>(row, c.rotary_dim, x, c.rotary_dim);
  WidenRow<F>(static_cast<const E*>(c.cos) + position * pairs, pairs, cos, pairs);
  WidenRow<F>(static_cast<const E*>(c.sin) + position * pairs, pairs, sin, pairs);
  const int step = c.rotary_half ? 1 : 2, other = c.rotary_half ? pairs : 1;
  for (int t = 0; t < pairs; t++) {
    float* const a = x + t * step;
    const float first = a[0], second = a[other];
    a[0] = first * cos[t] - second * sin[t];
    a[other] = first * sin[t] + second * cos[t];
  }
  if (out != row)
    __builtin_memcpy(out + c.rotary_dim, row + c.rotary_dim,
                     static_cast<std::size_t>(dim - c.rotary_dim) * sizeof *row);
  WriteRow<F>(x, c.rotary_dim, out);
}

// Query i of head h of entry b; rotated, and then in `out`, where the call says so.
template <class F>
HEED_INLINE const typename F::E* QueryRow(const ForwardCall& c, const Entry& e, std::int64_t b,
                                          std::int64_t h, std::int64_t i, typename F::E* out) {
  const auto* const q = static_cast<const typename F::E*>(c.q) + QueryAt(c.q_steps, e, h, i);
  if (c.cache.rotary_dim == 0) return q;
  RotateRow<F>(c.cache, c.cache.seqlens[b] + (c.cache.rotary_moves ? i : 0), c.dim, q, out);
  return out;
}

// New rows [first, last), numbered over (entry, row, kv head), to their place behind those in use.
template <class F>
HEED_NOINLINE void AppendRows(const ForwardCall& c, std::int64_t first, std::int64_t last) {
  using E = typename F::E;
  const std::int64_t heads = c.q_heads / c.group;
  for (std::int64_t n = first; n < last; n++) {
    const std::int64_t h = n % heads, t = n / heads % c.cache.new_len,
                       b = n / heads / c.cache.new_len;
    const Entry e = EntryOf(c, b);
    const KeyRows<E> rows = KeyRows<E>::Of(c, e, h);
    const std::int64_t row = c.cache.seqlens[b] + t;
    const auto from = [&](const void* p, const Steps& s) __attribute__((always_inline)) {
      return static_cast<const E*>(p) + b * s.batch + t * s.row + h * s.head;
    };
    E* const k = const_cast<E*>(rows.K(row - e.key_row));
    E* const v = const_cast<E*>(rows.V(row - e.key_row));
    const E* const k_new = from(c.cache.k_new, c.cache.k_new_steps);
    if (c.cache.rotary_dim > 0)
      RotateRow<F>(c.cache, row, c.dim, k_new, k);
    else
      __builtin_memcpy(k, k_new, static_cast<std::size_t>(c.dim) * sizeof(E));
    __builtin_memcpy(v, from(c.cache.v_new, c.cache.v_new_steps),
                     static_cast<std::size_t>(c.dim_v) * sizeof(E));
  }
}

}  // namespace heed::cpu::HEED_ISA
