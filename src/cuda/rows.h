// rows.h: which rows a block works on: the queries of its tile, the keys of a tile of theirs, and in
// which order it walks those. Not here: what is computed (forward_*.h).
#pragma once

#include "cuda/elements.h"
#include "cuda/entry.h"

namespace heed::cuda {

// Rows of queries of one block. Row r is query first + r of one head; packed, it is query
// (first + r) / group of head (first + r) % group of a kv head.
struct QueryRows {
  Entry entry;
  std::int64_t b = 0;
  int first = 0, count = 0;  // rows of this tile that exist: [0, count)
  int head = 0, key_head = 0;
  int group = 1;  // 1 where rows are not packed

  // Of rows that do not exist: those of the last one.
  HEED_DEVICE int Number(int r) const { return first + (r < count ? r : count - 1); }
  HEED_DEVICE int Query(int r) const { return group == 1 ? Number(r) : Number(r) / group; }
  HEED_DEVICE int Head(int r) const { return group == 1 ? head : head + Number(r) % group; }
  // All queries of the tile.
  HEED_DEVICE Interval Queries() const { return {Query(0), Query(count - 1) + 1}; }
};

HEED_DEVICE QueryRows QueryRowsOf(const ForwardCall& c, const Item& item) {
  QueryRows q;
  q.b = item.b;
  q.entry = EntryOf(c, item.b);
  q.group = c.packed ? c.group : 1;
  q.key_head = int(c.packed ? item.h : item.h / c.group);
  q.head = int(c.packed ? item.h * c.group : item.h);
  q.first = int(item.rows.first);
  q.count = int(Max(Min(item.rows.last, q.entry.sees.sq * q.group) - item.rows.first, 0));
  return q;
}

// As sources of a TileLoad.
template <class T>
struct QuerySource {
  const ForwardCall& call;
  const QueryRows& rows;

  HEED_DEVICE const T* Any() const { return static_cast<const T*>(call.q.data); }
  HEED_DEVICE bool Exists(int r) const { return r < rows.count; }
  HEED_DEVICE const T* At(int r) const {
    return Any() + QueryAt(call.q.steps, rows.entry, rows.Head(r), rows.Query(r));
  }
};

template <class T>
struct KeySource {
  const ForwardCall& call;
  const Rows& tensor;  // call.k or call.v
  const QueryRows& rows;
  int first;  // key of row 0
  int end;    // of the entry

  HEED_DEVICE const T* Any() const { return static_cast<const T*>(tensor.data); }
  HEED_DEVICE bool Exists(int r) const { return first + r < end; }
  HEED_DEVICE const T* At(int r) const {
    return Any() + KeyAt(call, tensor.steps, rows.entry, rows.key_head, first + r);
  }
};

// Tiles of kKeys keys that somebody of the queries may see, ascending: first those of the prefix, then
// those of the band, of them the ones in [begin, end). Empty ones of TileKinds are left out.
template <int kKeys>
class KeyWalk {
 public:
  HEED_DEVICE KeyWalk(const ForwardCall& c, const QueryRows& rows, Interval piece) {
    const Visibility& sees = rows.entry.sees;
    const Interval queries = rows.Queries();
    low_ = Band(sees, queries.first);
    high_ = Band(sees, queries.last - 1);
    prefix_ = PrefixKeys(sees);
    const Interval band = {Max(low_.first, piece.first), Min(high_.last, piece.last)};
    at_ = int(piece.first / kKeys);
    prefix_end_ = int(CeilDiv(Min(prefix_.last, piece.last), kKeys));
    if (prefix_end_ < at_) prefix_end_ = at_;
    band_ = band.empty() ? prefix_end_ : int(Max(band.first / kKeys, prefix_end_));
    end_ = band.empty() ? prefix_end_ : int(Max(CeilDiv(band.last, kKeys), prefix_end_));
    if (c.kinds.kinds) {
      kinds_ = c.kinds.kinds + c.kinds.At(rows.b, rows.head, rows.first / c.kinds.tile_rows);
    }
    sk_ = sees.sk;
    if (at_ == prefix_end_) at_ = band_;
    SkipEmpty();
  }

  HEED_DEVICE bool Done() const { return at_ >= end_; }
  HEED_DEVICE int Key() const { return at_ * kKeys; }
  HEED_DEVICE void Next() {
    Step();
    SkipEmpty();
  }

  // Whether every query of the tile sees every key of it by position, and whether no mask and no
  // block map hides any.
  HEED_DEVICE bool AllByPosition() const {
    const std::int64_t first = Key(), last = first + kKeys;
    if (last > sk_) return false;
    const std::int64_t from = Max(first, prefix_.last);
    return from >= last ||
           (high_.first <= from && low_.last >= last && !low_.empty() && !high_.empty());
  }
  HEED_DEVICE bool AllByArrays(const ForwardCall& c) const {
    if (kinds_) return kind_ == std::uint8_t(TileKind::kFull);
    return !c.mask.data && !c.block_map.data;
  }

 private:
  HEED_DEVICE void Step() {
    at_++;
    if (at_ == prefix_end_) at_ = band_;
  }
  HEED_DEVICE void SkipEmpty() {
    if (!kinds_) return;
    for (; at_ < end_; Step()) {
      kind_ = ptx::LoadGlobal(kinds_ + at_);
      if (kind_ != std::uint8_t(TileKind::kEmpty)) return;
    }
  }

  Interval low_, high_, prefix_;
  std::int64_t sk_;
  int at_, prefix_end_, band_, end_;
  const std::uint8_t* kinds_ = nullptr;
  std::uint8_t kind_ = 0;
};

// Keys [first, last) of piece n of an entry that has sk of them; without pieces all.
HEED_DEVICE Interval PieceOf(std::int64_t sk, std::int64_t n) {
  const std::int64_t keys = PieceLength(sk);
  return {Min(n * keys, sk), Min((n + 1) * keys, sk)};
}

}  // namespace heed::cuda
