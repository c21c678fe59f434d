// forward_block.h: the forward of a block of queries: scores, online softmax, P.V, tile by tile of
// keys. Products is MmaProducts or FmaProducts. Not here: products of tiles (products_*.h), scores
// (scores.h), sums of a row (softmax.h), what is written (results.h).
#pragma once

#include "cuda/config.h"
#include "cuda/results.h"
#include "cuda/scores.h"
#include "cuda/softmax.h"
#include "cuda/tiles.h"

namespace heed::cuda {

template <class C, class Products>
class ForwardBlock {
  using T = typename C::Element;
  static constexpr int kDim = C::kDim, kRows = C::kRows, kKeys = C::kKeys;
  using QueryTile = typename Products::template Left<kDim>;
  using KeyTile = typename Products::template Right<kDim>;
  using Scores = typename Products::template Fragment<kKeys>;
  using Sums = typename Products::template Fragment<kDim>;
  using View = QueriesDown<Scores>;

 public:
  HEED_DEVICE explicit ForwardBlock(const ForwardCall& call) : c_(call), facts_(0), o_{} {
    q_.base = ptx::SharedBase();
    k_.base = q_.base + QueryTile::Bytes(kRows);
    v_.base = k_.base + KeyTile::Bytes(kKeys);
    p_ = v_.base + KeyTile::Bytes(kKeys);
    facts_ = RowFacts<C>(p_ + Products::kStage);
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
      TileLoad<C, QueryTile, kRows> q;
      q.Begin(q_, QuerySource<T>{c_.q, rows}, c_.dim, c_.q.wide);
      q.End();
    }
    TileLoad<C, KeyTile, kKeys> k, v;
    k.Begin(k_, KeySource<T>{c_, keys, c_.k, keys.k, walk.Key()}, c_.dim, c_.k.wide);
    k.End();
    while (!walk.Done()) {
      const int key = walk.Key();
      ptx::SyncThreads();
      v.Begin(v_, KeySource<T>{c_, keys, c_.v, keys.v, key}, c_.dim_v, c_.v.wide);
      Scores s{};
      Products::template Multiply<kDim, kKeys>(q_, k_, s);
      const float factor = Finish(walk, keys.end, s);
      float rescale[Scores::kRows];
      Online(factor, s, state_, rescale);
      Rescale(rescale);
      if constexpr (C::kGeneral) {
        if (c_.drops) Drop(c_, facts_, key, View{s});
      }
      v.End();
      ptx::SyncThreads();
      walk.Next();
      if (!walk.Done()) {
        k.Begin(k_, KeySource<T>{c_, keys, c_.k, keys.k, walk.Key()}, c_.dim, c_.k.wide);
      }
      Products::template Accumulate<kDim, kDim, kKeys>(s, p_, v_, o_);
      if (!walk.Done()) k.End();
    }
  }

  HEED_DEVICE void Write(const QueryRows& rows, const Share& share) {
    const float factor = C::kGeneral ? 1.f : c_.factors.inner;
    Results<C, Sums>(c_, rows, share, q_.base).Write(factor, state_, o_);
  }

 private:
  // Terms and masks; returns what turns the scores into powers of two.
  HEED_DEVICE float Finish(const KeyWalk<kKeys>& walk, int end, Scores& s) const {
    if constexpr (C::kGeneral) {
      ApplyTerms<T>(c_, facts_, walk.Key(), end, View{s});
      if (!walk.AllByArrays(c_)) HideByArrays(c_, facts_, walk.Key(), end, View{s});
    }
    if (!walk.AllByPosition()) HideByPosition(facts_, walk.Prefix(), walk.Key(), View{s});
    return C::kGeneral ? 1.f : c_.factors.inner;
  }

  HEED_DEVICE void Rescale(const float (&by)[Sums::kRows]) {
    HEED_UNROLL
    for (int r = 0; r < Sums::kRows; r++) {
      HEED_UNROLL
      for (int c = 0; c < Sums::kCols; c++) o_(r, c) *= by[r];
    }
  }

  const ForwardCall& c_;
  QueryTile q_;
  KeyTile k_, v_;
  uint32_t p_;
  RowFacts<C> facts_;
  RowState<Scores::kRows> state_;
  Sums o_;
};

// Block n of the grid.
template <class C, class Products>
HEED_DEVICE void RunForward(const ForwardCall& c) {
  ForwardBlock<C, Products> block(c);
  {
    const Task task = TaskOf(c, ptx::BlockX());
    if (task.idle) return;
    block.Walk(task.rows, task.share.keys);
  }
  // Found a second time: no register holds it all the while.
  const Task task = TaskOf(c, ptx::Forget(ptx::BlockX()));
  block.Write(task.rows, task.share);
}

}  // namespace heed::cuda
