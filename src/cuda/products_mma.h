// products_mma.h: the products of tiles on tensor cores (mma.sync): f16 from sm_75 on, bf16 from sm_80.
// The same in f32 on FMAs: products_fma.h. Not here: what the tiles are.
#pragma once

#include "cuda/config.h"
#include "cuda/fragments.h"
#include "cuda/tiles.h"

namespace heed::cuda {

// For tiles of kHeight rows; each warp has kHeight / kWarps of them.
template <class C, int kHeight>
struct MmaProducts {
  using T = typename C::Element;
  static constexpr int kTiles = kHeight / (16 * C::kWarps);  // of 16 rows, of a warp
  static_assert(kHeight % (16 * C::kWarps) == 0, "a warp has whole tiles of 16 rows");

  // Rows of the left and of the right factor in shared memory; a product in registers.
  template <int kDim>
  using Left = Tile<T, kDim>;
  template <int kDim>
  using Right = Tile<T, kDim>;
  template <int kWidth>
  using Fragment = MmaFragment<kTiles, kWidth>;
  // Shared memory that Accumulate needs for its left factor: it stays in registers.
  static constexpr uint32_t kStage = 0;

  // s += A B': kWidth rows of B.
  template <int kDim, int kWidth>
  HEED_DEVICE static void Multiply(Left<kDim> a, Right<kDim> b, Fragment<kWidth>& s) {
    const int thread = ptx::Forget(ptx::ThreadIndex()), lane = thread % 32;
    const uint32_t left = a.At(thread / 32 * kTiles * 16 + lane % 16, lane / 16);
    const uint32_t right = b.At(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    ForEach<kDim / 16>([&](auto d) {
      uint32_t x[kTiles][4];
      ForEach<kTiles>([&](auto i) {
        ptx::Ldmatrix<4, false>(x[i], Left<kDim>::template Moved<16 * i, 2 * d>(left));
      });
      ForEach<kWidth / 16>([&](auto n) {
        uint32_t y[4];
        ptx::Ldmatrix<4, false>(y, Right<kDim>::template Moved<16 * n, 2 * d>(right));
        HEED_UNROLL
        for (int i = 0; i < kTiles; i++) {
          Mma16(s.at[i][2 * n], x[i], y[0], y[1]);
          Mma16(s.at[i][2 * n + 1], x[i], y[2], y[3]);
        }
      });
    });
  }

  // o += P V, of kWidth columns from where v begins; P is rounded to T here.
  template <int kDim, int kWidth, int kDepth>
  HEED_DEVICE static void Accumulate(const Fragment<kDepth>& p, uint32_t, Right<kDim> v,
                                     Fragment<kWidth>& o) {
    const int lane = ptx::Forget(ptx::ThreadIndex()) % 32;
    const uint32_t right = v.At(lane % 16, lane / 16);
    ForEach<kDepth / 16>([&](auto j) {
      uint32_t x[kTiles][4];
      HEED_UNROLL
      for (int i = 0; i < kTiles; i++) {
        HEED_UNROLL
        for (int part = 0; part < 4; part++) {
          x[i][part] = ptx::Pack<T>(p.at[i][2 * j + part / 2][part % 2 * 2],
                                    p.at[i][2 * j + part / 2][part % 2 * 2 + 1]);
        }
      }
      ForEach<kWidth / 16>([&](auto n) {
        uint32_t y[4];
        ptx::Ldmatrix<4, true>(y, Right<kDim>::template Moved<16 * j, 2 * n>(right));
        HEED_UNROLL
        for (int i = 0; i < kTiles; i++) {
          Mma16(o.at[i][2 * n], x[i], y[0], y[1]);
          Mma16(o.at[i][2 * n + 1], x[i], y[2], y[3]);
        }
      });
    });
  }

 private:
  // d += a b over 16 x 8 x 16. sm_75 has only the half as deep instruction; its operands are the
  // halves.
  HEED_DEVICE static void Mma16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (C::kArch >= 800) {
      ptx::Mma<T, 16>(d, a, {b0, b1});
    } else {
      ptx::Mma<T, 8>(d, {a[0], a[1]}, {b0});
      ptx::Mma<T, 8>(d, {a[2], a[3]}, {b1});
    }
  }
};

}  // namespace heed::cuda
