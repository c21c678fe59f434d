// products_fma.h: the products of tiles in f32 by fused multiply-add, so that results are those of f32
// (tensor cores round f32 operands to tf32): rows of eight threads. The same on tensor cores:
// products_mma.h. Not here: what the tiles are.
#pragma once

#include "cuda/config.h"
#include "cuda/fragments.h"
#include "cuda/tiles.h"

namespace heed::cuda {

// For tiles of kHeight rows, kEach of them a thread's. Right tiles have kCols rows, a thread's eighth
// of which lie side by side: they share a permutation.
template <class C, int kHeight, int kCols>
struct FmaProducts {
  using T = typename C::Element;
  static constexpr int kEach = kHeight * 8 / C::kThreads, kEachCols = kCols / 8;
  static_assert(sizeof(T) == 4 && kEach * C::kThreads == kHeight * 8);
  static_assert(kEachCols == 1 || kEachCols == 2 || kEachCols == 4);

  template <int kDim>
  using Left = Tile<T, kDim, kEach>;
  template <int kDim>
  using Right = Tile<T, kDim, kEachCols>;
  template <int kWidth>
  using Fragment = FmaFragment<kEach, kWidth / 8>;
  static constexpr uint32_t kStage = 4 * kHeight * kCols;

  // s += A B'.
  template <int kDim, int kWidth>
  HEED_DEVICE static void Multiply(Left<kDim> a, Right<kDim> b, Fragment<kWidth>& s) {
    static_assert(kWidth == kCols);
    const int row = Fragment<kWidth>::Row(0), col = ptx::ThreadIndex() % 8 * kEachCols;
    HEED_NO_UNROLL
    for (int d = 0; d < kDim / 4; d++) {
      ptx::F32x4 y[kEachCols];
      HEED_UNROLL
      for (int n = 0; n < kEachCols; n++) y[n] = Load(b.At(col + n, d));
      HEED_UNROLL
      for (int r = 0; r < kEach; r++) {
        const ptx::F32x4 x = Load(a.At(row + r, d));
        HEED_UNROLL
        for (int n = 0; n < kEachCols; n++) {
          float& sum = s(r, n);
          sum = ptx::Fma(x.x, y[n].x, sum);
          sum = ptx::Fma(x.y, y[n].y, sum);
          sum = ptx::Fma(x.z, y[n].z, sum);
          sum = ptx::Fma(x.w, y[n].w, sum);
        }
      }
    }
  }

  // o += P V, of kWidth columns from where v begins. P goes through shared memory at `stage`; the
  // eight threads that read a row of it are the ones that wrote it: a barrier of the warp will do.
  template <int kDim, int kWidth, int kDepth>
  HEED_DEVICE static void Accumulate(const Fragment<kDepth>& p, uint32_t stage, Right<kDim> v,
                                     Fragment<kWidth>& o) {
    static_assert(kDepth == kCols);
    const int x = ptx::ThreadIndex() % 8, row = Fragment<kDepth>::Row(0);
    ptx::SyncWarp();
    HEED_UNROLL
    for (int r = 0; r < kEach; r++) {
      HEED_UNROLL
      for (int n = 0; n < kEachCols; n++) {
        ptx::StoreShared(stage + uint32_t(4 * ((row + r) * kCols + x * kEachCols + n)), p.at[r][n]);
      }
    }
    ptx::SyncWarp();
    HEED_NO_UNROLL
    for (int j = 0; j < kCols; j++) {
      float left[kEach];
      HEED_UNROLL
      for (int r = 0; r < kEach; r++) {
        left[r] = ptx::LoadShared<float>(stage + uint32_t(4 * ((row + r) * kCols + j)));
      }
      HEED_UNROLL
      for (int n = 0; n < kWidth / 32; n++) {
        const ptx::F32x4 y = Load(v.At(j, 8 * n + x));
        HEED_UNROLL
        for (int r = 0; r < kEach; r++) {
          o(r, 4 * n) = ptx::Fma(left[r], y.x, o(r, 4 * n));
          o(r, 4 * n + 1) = ptx::Fma(left[r], y.y, o(r, 4 * n + 1));
          o(r, 4 * n + 2) = ptx::Fma(left[r], y.z, o(r, 4 * n + 2));
          o(r, 4 * n + 3) = ptx::Fma(left[r], y.w, o(r, 4 * n + 3));
        }
      }
    }
  }

 private:
  HEED_DEVICE static ptx::F32x4 Load(uint32_t at) { return ptx::LoadShared<ptx::F32x4>(at); }
};

}  // namespace heed::cuda
