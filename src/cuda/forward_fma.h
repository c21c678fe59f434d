// forward_fma.h: the forward of a block of queries in f32: products and sums by fused multiply-add, so
// that results are those of f32 (tensor cores round f32 operands to tf32). The walk is that of
// forward_mma.h, on sixteen rows of eight threads. Not here: scores (scores.h), sums of a row
// (softmax.h), what is written (results.h).
#pragma once

#include "cuda/config.h"
#include "cuda/results.h"
#include "cuda/scores.h"
#include "cuda/softmax.h"
#include "cuda/tiles.h"

namespace heed::cuda {

template <class C>
class ForwardFmaBlock {
  using T = typename C::Element;
  static constexpr int kDim = C::kDim, kRows = C::kRows, kKeys = C::kKeys;
  static constexpr int kEachRows = kRows / (C::kThreads / 8), kEachKeys = kKeys / 8;
  static_assert(sizeof(T) == 4 && C::kGeneral && kDim % 32 == 0);
  static_assert(kEachRows * C::kThreads / 8 == kRows && (kEachKeys == 2 || kEachKeys == 4));
  using QueryTile = Tile<T, kDim, kEachRows>;
  using KeyTile = Tile<T, kDim, kEachKeys>;
  using ValueTile = Tile<T, kDim>;
  using Scores = FmaFragment<kEachRows, kEachKeys, false>;
  using Sums = FmaFragment<kEachRows, kDim / 8, true>;

 public:
  HEED_DEVICE explicit ForwardFmaBlock(const ForwardCall& call) : c_(call), facts_(0), o_{} {
    q_.base = ptx::SharedBase();
    k_.base = q_.base + QueryTile::Bytes(kRows);
    v_.base = k_.base + KeyTile::Bytes(kKeys);
    p_ = v_.base + ValueTile::Bytes(kKeys);
    facts_ = RowFacts<C>(p_ + uint32_t(4 * kRows * kKeys));
  }

  HEED_DEVICE void Walk(const QueryRows& rows, Interval piece) {
    KeyWalk<kKeys> walk(c_, rows, piece);
    if (walk.Done()) return;
    facts_.Find(c_, rows);
    const KeyRows<T> keys = KeyRowsOf<T>(c_, rows);
    TileLoad<C, QueryTile, kRows> q;
    q.Begin(q_, QuerySource<T>{c_, rows}, c_.dim, c_.q.wide);
    q.End();
    for (; !walk.Done(); walk.Next()) {
      const int key = walk.Key();
      TileLoad<C, KeyTile, kKeys> k;
      TileLoad<C, ValueTile, kKeys> v;
      k.Begin(k_, KeySource<T>{c_, keys, c_.k, keys.k, key}, c_.dim, c_.k.wide);
      k.End();
      v.Begin(v_, KeySource<T>{c_, keys, c_.v, keys.v, key}, c_.dim_v, c_.v.wide);
      v.End();
      ptx::SyncThreads();
      Scores s{};
      Multiply(s);
      ApplyTerms<T>(c_, facts_, key, keys.end, s);
      if (!walk.AllByArrays(c_)) HideByArrays(c_, facts_, key, keys.end, s);
      if (!walk.AllByPosition()) HideByPosition(facts_, walk.Prefix(), key, s);
      float rescale[Scores::kRows];
      Online(1.f, s, state_, rescale);
      if (c_.drops) Drop(c_, facts_, key, s);
      StoreProbabilities(s);
      Accumulate(rescale);
      ptx::SyncThreads();
    }
  }

  HEED_DEVICE void Write(const QueryRows& rows, const Share& share) {
    Results<C, Sums>(c_, rows, share, q_.base).Write(1.f, state_, o_);
  }

 private:
  static HEED_DEVICE ptx::F32x4 Load(uint32_t at) { return ptx::LoadShared<ptx::F32x4>(at); }

  // s = Q K'.
  HEED_DEVICE void Multiply(Scores& s) const {
    const int row = Scores::Row(0), key = Scores::Col(0);
    for (int d = 0; d < kDim / 4; d++) {
      ptx::F32x4 k[kEachKeys];
      HEED_UNROLL
      for (int n = 0; n < kEachKeys; n++) k[n] = Load(k_.At(key + n, d));
      HEED_UNROLL
      for (int r = 0; r < kEachRows; r++) {
        const ptx::F32x4 q = Load(q_.At(row + r, d));
        HEED_UNROLL
        for (int n = 0; n < kEachKeys; n++) {
          float& x = s(r, n);
          x = q.x * k[n].x + x;
          x = q.y * k[n].y + x;
          x = q.z * k[n].z + x;
          x = q.w * k[n].w + x;
        }
      }
    }
  }

  // Rows of probabilities are read by the eight threads that wrote them: a barrier of the warp will do.
  HEED_DEVICE uint32_t ProbabilityAt(int row, int key) const {
    return p_ + uint32_t(4 * (row * kKeys + key));
  }
  HEED_DEVICE void StoreProbabilities(Scores& s) {
    HEED_UNROLL
    for (int r = 0; r < kEachRows; r++) {
      const uint32_t at = ProbabilityAt(Scores::Row(r), Scores::Col(0));
      if constexpr (kEachKeys == 4) {
        ptx::StoreShared(at, ptx::F32x4{s(r, 0), s(r, 1), s(r, 2), s(r, 3)});
      } else {
        ptx::StoreShared(at, ptx::U32x2{ptx::BitsOf(s(r, 0)), ptx::BitsOf(s(r, 1))});
      }
    }
    ptx::SyncWarp();
  }

  // o = o * rescale + P V.
  HEED_DEVICE void Accumulate(const float (&rescale)[Sums::kRows]) {
    HEED_UNROLL
    for (int r = 0; r < kEachRows; r++) {
      HEED_UNROLL
      for (int c = 0; c < Sums::kCols; c++) o_(r, c) *= rescale[r];
    }
    const int x = ptx::ThreadIndex() % 8;
    for (int j = 0; j < kKeys; j++) {
      float p[kEachRows];
      HEED_UNROLL
      for (int r = 0; r < kEachRows; r++) {
        p[r] = ptx::LoadShared<float>(ProbabilityAt(Sums::Row(r), j));
      }
      HEED_UNROLL
      for (int n = 0; n < kDim / 32; n++) {
        const ptx::F32x4 v = Load(v_.At(j, 8 * n + x));
        HEED_UNROLL
        for (int r = 0; r < kEachRows; r++) {
          o_(r, 4 * n) = p[r] * v.x + o_(r, 4 * n);
          o_(r, 4 * n + 1) = p[r] * v.y + o_(r, 4 * n + 1);
          o_(r, 4 * n + 2) = p[r] * v.z + o_(r, 4 * n + 2);
          o_(r, 4 * n + 3) = p[r] * v.w + o_(r, 4 * n + 3);
        }
      }
    }
  }

  const ForwardCall& c_;
  QueryTile q_;
  KeyTile k_;
  ValueTile v_;
  RowFacts<C> facts_;
  uint32_t p_;
  RowState<Scores::kRows> state_;
  Sums o_;
};

template <class C>
HEED_DEVICE void ForwardFma(const ForwardCall& c) {
  ForwardBlock<ForwardFmaBlock<C>>(c);
}

}  // namespace heed::cuda
