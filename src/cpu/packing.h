// packing.h: from tensors as they lie to the layouts the tile products read, and back. Here dtypes,
// strides and odd sizes end; what is packed is made of whole vectors and knows neither. Not here:
// products, softmax, who sees whom.
#pragma once

#include "cpu/tiles.h"
#include "heed/types.h"

namespace heed::cpu::HEED_ISA {

// How elements of one dtype enter the kernels: as floats (widened while packing where they are
// not), or as pairs.
template <DType kType>
struct Format;
template <>
struct Format<DType::kF32> {
  using E = float;
  using X = FloatUnit;
  static HEED_INLINE V Widen(const E* p) { return Load(p); }
  static HEED_INLINE V WidenN(const E* p, int n) { return LoadN(p, n); }
  static HEED_INLINE void Narrow(E* p, V x) { Store(p, x); }
  static HEED_INLINE void NarrowN(E* p, V x, int n) { StoreN(p, x, n); }
};
template <>
struct Format<DType::kF16> {
  using E = std::uint16_t;
  using X = FloatUnit;
  static HEED_INLINE V Widen(const E* p) { return LoadF16(p); }
  static HEED_INLINE V WidenN(const E* p, int n) { return LoadF16N(p, n); }
  static HEED_INLINE void Narrow(E* p, V x) { StoreF16(p, x); }
  static HEED_INLINE void NarrowN(E* p, V x, int n) { StoreF16N(p, x, n); }
};
template <>
struct Format<DType::kBF16> {
  using E = std::uint16_t;
#if defined(HEED_NATIVE_BF16)
  using X = PairUnit;
#else
  using X = FloatUnit;
#endif
  static HEED_INLINE V Widen(const E* p) { return LoadBf16(p); }
  static HEED_INLINE V WidenN(const E* p, int n) { return LoadBf16N(p, n); }
  static HEED_INLINE void Narrow(E* p, V x) { StoreBf16(p, x); }
  static HEED_INLINE void NarrowN(E* p, V x, int n) { StoreBf16N(p, x, n); }
};

// Calls op with the Format of a dtype that Supports let through.
template <class Op>
HEED_INLINE void WithFormat(DType dtype, Op op) {
  if (dtype == DType::kF32) return op(Format<DType::kF32>());
  if (dtype == DType::kBF16) return op(Format<DType::kBF16>());
  op(Format<DType::kF16>());
}

constexpr int RoundUp(int n, int to) { return (n + to - 1) / to * to; }

// Rows of a packed block are this many units apart: never a multiple of 512 bytes, where rows 1 KB
// apart would share a quarter of the L1 sets (2 to 4 points at d = 512, 1 to 2 at 256, nothing at
// 64 and 128).
constexpr int PackedStep(int units) { return units % 128 ? units : units + 16; }

// Q of one tile, transposed: qt[unit][kRows], `vectors` of its kVecs filled; q: the kRows rows.
// Floats are multiplied by `factor`; pairs stay as they are, since a factor would cost them a
// rounding.
template <class F>
HEED_NOINLINE void PackQ(const typename F::E* const* q, int vectors, int dim, float factor,
                         typename F::X::U* qt) {
  constexpr int kPair = F::X::kPair;
  const int units = (dim + kPair - 1) / kPair;
  for (int v = 0; v < vectors; v++)
    for (int u = 0; u < units; u += W) {
      V r[W];
      const int n = dim - u * kPair;  // elements left, from this unit on
      for (int i = 0; i < W; i++) {
        const typename F::E* p = q[v * W + i] + u * kPair;
        if constexpr (F::X::kDot) {
          alignas(64) typename F::E t[W * kPair] = {};
          if (n < W * kPair) {
            __builtin_memcpy(t, p, static_cast<std::size_t>(n) * sizeof *p);
            p = t;
          }
          r[i] = Load(reinterpret_cast<const float*>(p));
        } else {
          r[i] = Mul(n < W ? F::WidenN(p, n) : F::Widen(p), Set(factor));
        }
      }
      Transpose(r);
      for (int i = 0; i < W && u + i < units; i++)
        Store(reinterpret_cast<float*>(qt) + (u + i) * kRows + v * W, r[i]);
    }
}

// One row of n elements as floats, zeros up to `padded` (>= n).
template <class F>
HEED_INLINE void WidenRow(const typename F::E* p, int n, float* out, int padded) {
  int i = 0;
  for (; i + W <= n; i += W) Store(out + i, F::Widen(p + i));
  if (i < padded) StoreN(out + i, F::WidenN(p + i, n - i), padded - i);
}

// Whether K, V of a block must be packed, or are used where they lie.
template <class F>
constexpr bool PacksK(int dim, bool paged) {
  return paged || (F::X::kDot ? dim % 2 != 0 : sizeof(typename F::E) != 4);
}
template <class F>
constexpr bool PacksV(int dim_v, bool paged) {  // multiples of 256 floats: see PackedStep
  return paged || F::X::kDot || sizeof(typename F::E) != 4 || dim_v % W != 0 || dim_v % 256 == 0;
}

// `count` rows of K, PackedStep(units) units apart, then zeros up to a whole score tile.
template <class F>
HEED_NOINLINE void PackK(const typename F::E* const* rows, int count, int dim,
                         typename F::X::U* out) {
  constexpr int kPair = F::X::kPair;
  const int units = (dim + kPair - 1) / kPair, out_step = PackedStep(units);
  for (int r = 0; r < RoundUp(count, kKeys); r++, out += out_step) {
    if (r >= count) {
      __builtin_memset(out, 0, static_cast<std::size_t>(units) * 4);
    } else if constexpr (F::X::kDot) {
      // The zero behind an odd row keeps the next element, which may be NaN, from meeting the zero
      // of Q.
      out[units - 1] = 0;
      __builtin_memcpy(out, rows[r], static_cast<std::size_t>(dim) * sizeof *rows[r]);
    } else {
      WidenRow<F>(rows[r], dim, out, dim);
    }
  }
}

// `count` rows of V for AccumulateTile: floats, or rows zipped two by two into pairs (a last odd
// row with zeros); columns padded with zeros to whole vectors.
template <class F>
HEED_NOINLINE void PackV(const typename F::E* const* rows, int count, int dim_v,
                         typename F::X::U* out) {
  const int padded = RoundUp(dim_v, W), out_step = PackedStep(padded);
  if constexpr (!F::X::kDot) {
    for (int r = 0; r < count; r++)
      WidenRow<F>(rows[r], dim_v, out + static_cast<std::int64_t>(r) * out_step, padded);
  }
#if defined(HEED_NATIVE_BF16)
  if constexpr (F::X::kDot) {
    alignas(64) static constexpr std::uint16_t kZeros[1024] = {};
    for (int r = 0; r < count; r += 2, out += out_step) {
      const typename F::E *a = rows[r], *b = r + 1 < count ? rows[r + 1] : kZeros;
      int c = 0;
      for (; c + W <= dim_v; c += W) StoreP(out + c, ZipRows(a + c, b + c));
      if (c < dim_v) StoreP(out + c, ZipRowsN(a + c, b + c, dim_v - c));
    }
  }
#endif
}

// Floats to the output's dtype.
template <class F>
HEED_INLINE void WriteRow(const float* from, int n, typename F::E* out) {
  int c = 0;
  for (; c + W <= n; c += W) F::Narrow(out + c, Load(from + c));
  if (c < n) F::NarrowN(out + c, Load(from + c), n - c);
}

}  // namespace heed::cpu::HEED_ISA
