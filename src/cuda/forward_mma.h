// forward_mma.h: the forward of a block of queries on tensor cores (mma.sync), f16 and bf16, from sm_75
// on: scores, online softmax, P.V, tile by tile of keys. The same walk on FMAs: forward_fma.h. Not
// here: scores (scores.h), sums of a row (softmax.h), what is written (results.h).
#pragma once

#include "cuda/config.h"
#include "cuda/results.h"
#include "cuda/scores.h"
#include "cuda/softmax.h"
#include "cuda/tiles.h"

namespace heed::cuda {

// d += a b over 16 x 8 x 16. sm_75 has only the half as deep instruction; its operands are the halves.
template <class C>
HEED_DEVICE void Mma16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  using T = typename C::Element;
  if constexpr (C::kArch >= 800) {
    ptx::Mma<T, 16>(d, a, {b0, b1});
  } else {
    ptx::Mma<T, 8>(d, {a[0], a[1]}, {b0});
    ptx::Mma<T, 8>(d, {a[2], a[3]}, {b1});
  }
}

template <class C>
class ForwardMmaBlock {
  using T = typename C::Element;
  static constexpr int kDim = C::kDim, kRows = C::kRows, kKeys = C::kKeys;
  static constexpr int kTiles = kRows / (16 * C::kWarps);  // of 16 rows, of a warp
  static_assert(kRows % (16 * C::kWarps) == 0 && kKeys % 16 == 0 && kDim % 32 == 0);
  using InShared = Tile<T, kDim>;
  using Scores = MmaFragment<kTiles, kKeys>;
  using Sums = MmaFragment<kTiles, kDim>;

 public:
  HEED_DEVICE ForwardMmaBlock(const ForwardCall& call, const QueryRows& rows)
      : c_(call), rows_(rows), o_{} {
    q_.base = ptx::SharedBase();
    k_.base = q_.base + InShared::Bytes(kRows);
    v_.base = k_.base + InShared::Bytes(kKeys);
  }

  // One K and one V tile: while one is computed with, the other one is on its way.
  //
  //   sync   K(j) is there, V is free    begin V(j)     S = Q K(j)', softmax        end V(j)
  //   sync   V(j) is there, K is free    begin K(j+1)   O = O + P V(j)              end K(j+1)
  HEED_DEVICE void Walk(Interval piece) {
    KeyWalk<kKeys> walk(c_, rows_, piece);
    if (walk.Done()) return;
    {
      TileLoad<C, InShared, kRows> q;
      q.Begin(q_, QuerySource<T>{c_, rows_}, c_.dim, c_.q.wide);
      q.End();
    }
    TileLoad<C, InShared, kKeys> k, v;
    k.Begin(k_, KeysAt(c_.k, walk.Key()), c_.dim, c_.k.wide);
    k.End();
    while (!walk.Done()) {
      const int key = walk.Key();
      ptx::SyncThreads();
      v.Begin(v_, KeysAt(c_.v, key), c_.dim_v, c_.v.wide);
      Scores s{};
      Multiply(s);
      const float factor = Finish(walk, s);
      float rescale[Scores::kRows];
      Online(factor, s, state_, rescale);
      Rescale(rescale);
      if constexpr (C::kGeneral) {
        if (c_.drops) Drop(c_, rows_, key, s);
      }
      v.End();
      ptx::SyncThreads();
      walk.Next();
      if (!walk.Done()) k.Begin(k_, KeysAt(c_.k, walk.Key()), c_.dim, c_.k.wide);
      Accumulate(s);
      if (!walk.Done()) k.End();
    }
  }

  HEED_DEVICE void Write(const Destination& to) {
    const float factor = C::kGeneral ? 1.f : c_.factors.inner;
    WriteRows<T>(c_, rows_, to, factor, state_, o_);
  }

 private:
  HEED_DEVICE KeySource<T> KeysAt(const Rows& tensor, int key) const {
    return {c_, tensor, rows_, key, int(rows_.entry.sees.sk)};
  }

  // s = Q K'.
  HEED_DEVICE void Multiply(Scores& s) const {
    const int lane = ptx::ThreadIndex() % 32, warp = ptx::ThreadIndex() / 32;
    HEED_UNROLL
    for (int d = 0; d < kDim / 16; d++) {
      uint32_t a[kTiles][4];
      HEED_UNROLL
      for (int i = 0; i < kTiles; i++) {
        ptx::Ldmatrix<4, false>(a[i],
                                q_.At((warp * kTiles + i) * 16 + lane % 16, 2 * d + lane / 16));
      }
      HEED_UNROLL
      for (int n = 0; n < kKeys / 16; n++) {
        uint32_t b[4];
        ptx::Ldmatrix<4, false>(b, k_.At(n * 16 + lane % 8 + lane / 16 * 8, 2 * d + lane / 8 % 2));
        HEED_UNROLL
        for (int i = 0; i < kTiles; i++) {
          Mma16<C>(s.at[i][2 * n], a[i], b[0], b[1]);
          Mma16<C>(s.at[i][2 * n + 1], a[i], b[2], b[3]);
        }
      }
    }
  }

  // Terms and masks; returns what turns the scores into powers of two.
  HEED_DEVICE float Finish(const KeyWalk<kKeys>& walk, Scores& s) const {
    if constexpr (C::kGeneral) {
      Score<T>(c_, rows_, walk.Key(), !walk.AllByArrays(c_), s);
      return 1;
    } else {
      if (!walk.AllByPosition()) HideByPosition(rows_, walk.Key(), s);
      return c_.factors.inner;
    }
  }

  HEED_DEVICE void Rescale(const float (&by)[Sums::kRows]) {
    HEED_UNROLL
    for (int r = 0; r < Sums::kRows; r++) {
      HEED_UNROLL
      for (int c = 0; c < Sums::kCols; c++) o_(r, c) *= by[r];
    }
  }

  // o += P V; P is rounded to T here.
  HEED_DEVICE void Accumulate(const Scores& p) {
    const int lane = ptx::ThreadIndex() % 32;
    HEED_UNROLL
    for (int j = 0; j < kKeys / 16; j++) {
      uint32_t a[kTiles][4];
      HEED_UNROLL
      for (int i = 0; i < kTiles; i++) {
        HEED_UNROLL
        for (int half = 0; half < 4; half++) {
          const float* const pair = &p.at[i][2 * j + half / 2][half % 2 * 2];
          a[i][half] = ptx::Pack<T>(pair[0], pair[1]);
        }
      }
      HEED_UNROLL
      for (int n = 0; n < kDim / 16; n++) {
        uint32_t b[4];
        ptx::Ldmatrix<4, true>(b, v_.At(j * 16 + lane % 16, 2 * n + lane / 16));
        HEED_UNROLL
        for (int i = 0; i < kTiles; i++) {
          Mma16<C>(o_.at[i][2 * n], a[i], b[0], b[1]);
          Mma16<C>(o_.at[i][2 * n + 1], a[i], b[2], b[3]);
        }
      }
    }
  }

  const ForwardCall& c_;
  const QueryRows& rows_;
  InShared q_, k_, v_;
  RowState<Scores::kRows> state_;
  Sums o_;
};

template <class C>
HEED_DEVICE void ForwardMma(const ForwardCall& c) {
  ForwardBlock<ForwardMmaBlock<C>>(c);
}

}  // namespace heed::cuda
