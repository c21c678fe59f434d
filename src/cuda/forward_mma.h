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
  HEED_DEVICE explicit ForwardMmaBlock(const ForwardCall& call) : c_(call), facts_(0), o_{} {
    q_.base = ptx::SharedBase();
    k_.base = q_.base + InShared::Bytes(kRows);
    v_.base = k_.base + InShared::Bytes(kKeys);
    facts_ = RowFacts<C>(v_.base + InShared::Bytes(kKeys));
  }

  // One K and one V tile: while one is computed with, the other one is on its way.
  //
  //   sync   K(j) is there, V is free    begin V(j)     S = Q K(j)', softmax        end V(j)
  //   sync   V(j) is there, K is free    begin K(j+1)   O = O + P V(j)              end K(j+1)
  HEED_DEVICE void Walk(const QueryRows& rows, Interval piece) {
    KeyWalk<kKeys> walk(c_, rows, piece);
    if (walk.Done()) return;
    facts_.Find(c_, rows);
    const KeyRows<T> keys = KeyRowsOf<T>(c_, rows);
    {
      TileLoad<C, InShared, kRows> q;
      q.Begin(q_, QuerySource<T>{c_, rows}, c_.dim, c_.q.wide);
      q.End();
    }
    TileLoad<C, InShared, kKeys> k, v;
    k.Begin(k_, KeySource<T>{c_, keys, c_.k, keys.k, walk.Key()}, c_.dim, c_.k.wide);
    k.End();
    while (!walk.Done()) {
      const int key = walk.Key();
      ptx::SyncThreads();
      v.Begin(v_, KeySource<T>{c_, keys, c_.v, keys.v, key}, c_.dim_v, c_.v.wide);
      Scores s{};
      Multiply(s);
      const float factor = Finish(walk, keys.end, s);
      float rescale[Scores::kRows];
      Online(factor, s, state_, rescale);
      Rescale(rescale);
      if constexpr (C::kGeneral) {
        if (c_.drops) Drop(c_, facts_, key, s);
      }
      v.End();
      ptx::SyncThreads();
      walk.Next();
      if (!walk.Done())
        k.Begin(k_, KeySource<T>{c_, keys, c_.k, keys.k, walk.Key()}, c_.dim, c_.k.wide);
      Accumulate(s);
      if (!walk.Done()) k.End();
    }
  }

  HEED_DEVICE void Write(const QueryRows& rows, const Share& share) {
    const float factor = C::kGeneral ? 1.f : c_.factors.inner;
    Results<C, Sums>(c_, rows, share, q_.base).Write(factor, state_, o_);
  }

 private:
  // s = Q K'.
  HEED_DEVICE void Multiply(Scores& s) const {
    const int thread = ptx::Forget(ptx::ThreadIndex()), lane = thread % 32;
    const uint32_t q = q_.At(thread / 32 * kTiles * 16 + lane % 16, lane / 16);
    const uint32_t k = k_.At(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    ForEach<kDim / 16>([&](auto d) {
      uint32_t a[kTiles][4];
      ForEach<kTiles>([&](auto i) {
        ptx::Ldmatrix<4, false>(a[i], InShared::template Moved<16 * i, 2 * d>(q));
      });
      ForEach<kKeys / 16>([&](auto n) {
        uint32_t b[4];
        ptx::Ldmatrix<4, false>(b, InShared::template Moved<16 * n, 2 * d>(k));
        HEED_UNROLL
        for (int i = 0; i < kTiles; i++) {
          Mma16<C>(s.at[i][2 * n], a[i], b[0], b[1]);
          Mma16<C>(s.at[i][2 * n + 1], a[i], b[2], b[3]);
        }
      });
    });
  }

  // Terms and masks; returns what turns the scores into powers of two.
  HEED_DEVICE float Finish(const KeyWalk<kKeys>& walk, int end, Scores& s) const {
    if constexpr (C::kGeneral) {
      ApplyTerms<T>(c_, facts_, walk.Key(), end, s);
      if (!walk.AllByArrays(c_)) HideByArrays(c_, facts_, walk.Key(), end, s);
    }
    if (!walk.AllByPosition()) HideByPosition(facts_, walk.Prefix(), walk.Key(), s);
    return C::kGeneral ? 1.f : c_.factors.inner;
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
    const int lane = ptx::Forget(ptx::ThreadIndex()) % 32;
    const uint32_t v = v_.At(lane % 16, lane / 16);
    ForEach<kKeys / 16>([&](auto j) {
      uint32_t a[kTiles][4];
      HEED_UNROLL
      for (int i = 0; i < kTiles; i++) {
        HEED_UNROLL
        for (int part = 0; part < 4; part++) {
          a[i][part] = ptx::Pack<T>(p.at[i][2 * j + part / 2][part % 2 * 2],
                                    p.at[i][2 * j + part / 2][part % 2 * 2 + 1]);
        }
      }
      ForEach<kDim / 16>([&](auto n) {
        uint32_t b[4];
        ptx::Ldmatrix<4, true>(b, InShared::template Moved<16 * j, 2 * n>(v));
        HEED_UNROLL
        for (int i = 0; i < kTiles; i++) {
          Mma16<C>(o_.at[i][2 * n], a[i], b[0], b[1]);
          Mma16<C>(o_.at[i][2 * n + 1], a[i], b[2], b[3]);
        }
      });
    });
  }

  const ForwardCall& c_;
  InShared q_, k_, v_;
  RowFacts<C> facts_;
  RowState<Scores::kRows> state_;
  Sums o_;
};

template <class C>
HEED_DEVICE void ForwardMma(const ForwardCall& c) {
  ForwardBlock<ForwardMmaBlock<C>>(c);
}

}  // namespace heed::cuda
