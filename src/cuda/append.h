// append.h: the kernel before a forward with a cache: new rows of k and v to their places behind those
// in use, k rotated on the way; and the queries rotated to where the forward reads them. Not here: which
// rows the forward then sees (entry.h).
#pragma once

#include "cuda/elements.h"
#include "cuda/entry.h"
#include "cuda/grid.h"
#include "cuda/warps.h"

namespace heed::cuda {

// Elements from `first` on of a row, by one warp. Wide rows move 16 bytes at a time.
template <class T>
HEED_DEVICE void CopyRow(const T* from, T* to, int first, int count, bool wide) {
  if (wide && first == 0) {
    const auto* const source = reinterpret_cast<const ptx::U32x4*>(from);
    auto* const target = reinterpret_cast<ptx::U32x4*>(to);
    for (int n = Lane(); n < count / kChunk<T>; n += 32) {
      ptx::StoreGlobal(target + n, ptx::LoadReadOnly(source + n));
    }
    return;
  }
  for (int d = first + Lane(); d < count; d += 32) {
    ptx::StoreGlobal(to + d, ptx::LoadReadOnly(from + d));
  }
}

// One row by the angles of `position`, (x, y) -> (x cos - y sin, x sin + y cos) over its pairs: every
// product and sum rounded to f32, as on a CPU, then to T. What lies behind rotary_dim is copied.
template <class T>
HEED_DEVICE void RotateRow(const CacheArrays& c, std::int64_t position, int dim, const T* row,
                           T* out) {
  const int pairs = c.rotary_dim / 2;
  // It comes from an array that nobody checked.
  const std::int64_t angles = Clamp(position, 0, c.rotary_rows - 1) * pairs;
  const T* const cosines = static_cast<const T*>(c.cos) + angles;
  const T* const sines = static_cast<const T*>(c.sin) + angles;
  const int step = c.rotary_half ? 1 : 2, other = c.rotary_half ? pairs : 1;
  for (int t = Lane(); t < pairs; t += 32) {
    const float x = Widen(ptx::LoadReadOnly(row + t * step));
    const float y = Widen(ptx::LoadReadOnly(row + t * step + other));
    const float cosine = Widen(ptx::LoadReadOnly(cosines + t));
    const float sine = Widen(ptx::LoadReadOnly(sines + t));
    StoreRounded(out + t * step, ptx::Fadd(ptx::Fmul(x, cosine), -ptx::Fmul(y, sine)));
    StoreRounded(out + t * step + other, ptx::Fadd(ptx::Fmul(x, sine), ptx::Fmul(y, cosine)));
  }
  CopyRow(row, out, c.rotary_dim, dim, false);
}

template <class T>
HEED_DEVICE void AppendRow(const ForwardCall& c, std::int64_t b, std::int64_t t, std::int64_t hk) {
  const Entry e = EntryOf(c, b);
  const std::int64_t row = CacheLength(c, b) + t, j = row - e.key_row;
  const auto from = [&](const Rows& rows) {
    return static_cast<const T*>(rows.data) + b * rows.steps.batch + t * rows.steps.row +
           hk * rows.steps.head;
  };
  const auto to = [&](const Rows& rows) {
    return const_cast<T*>(static_cast<const T*>(rows.data)) + KeyAt(c, rows.steps, e, hk, j);
  };
  const CacheArrays& cache = c.cache;
  if (cache.rotary_dim > 0) {
    RotateRow<T>(cache, row, c.dim, from(cache.k_new), to(c.k));
  } else {
    CopyRow<T>(from(cache.k_new), to(c.k), 0, c.dim, c.k.wide && cache.k_new.wide);
  }
  CopyRow<T>(from(cache.v_new), to(c.v), 0, c.dim_v, c.v.wide && cache.v_new.wide);
}

template <class T>
HEED_DEVICE void RotateQuery(const ForwardCall& c, std::int64_t b, std::int64_t i, std::int64_t h) {
  const Steps& steps = c.cache.q.steps;
  const T* const from =
      static_cast<const T*>(c.cache.q.data) + b * steps.batch + i * steps.row + h * steps.head;
  T* const to = static_cast<T*>(c.cache.rotated) + ((b * c.q_len + i) * c.q_heads + h) * c.dim;
  RotateRow<T>(c.cache, CacheLength(c, b) + (c.cache.rotary_moves ? i : 0), c.dim, from, to);
}

template <class C>
HEED_DEVICE void AppendRows(const ForwardCall& c) {
  using T = typename C::Element;
  const std::int64_t items = AppendItems(c), new_rows = NewRows(c);
  for (std::int64_t n = FirstItem<C>(); n < items; n += ItemStep<C>()) {
    if (n < new_rows) {
      const std::int64_t heads = c.q_heads / c.group, bt = n / heads;
      AppendRow<T>(c, bt / c.cache.new_len, bt % c.cache.new_len, n % heads);
    } else {
      const std::int64_t q = n - new_rows, bi = q / c.q_heads;
      RotateQuery<T>(c, bi / c.q_len, bi % c.q_len, q % c.q_heads);
    }
  }
}

}  // namespace heed::cuda
