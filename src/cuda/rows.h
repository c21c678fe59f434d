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
  q.key_head = int(c.packed ? item.h : int(item.h) / c.group);
  q.head = int(c.packed ? item.h * c.group : item.h);
  q.first = int(item.rows.first);
  q.count = int(Max(Min(item.rows.last, q.entry.sees.sq * q.group) - item.rows.first, 0));
  return q;
}

// Steps that a tile's rows may be reached by in 32 bits.
HEED_DEVICE bool FitsTile(std::int64_t step, int* narrow) {
  *narrow = int(step);
  return *narrow == step;
}

// As sources of a TileLoad.
template <class T>
struct QuerySource {
  const Rows& tensor;  // q, or what lies like it: dout
  const QueryRows& rows;

  HEED_DEVICE bool Exists(int r) const { return r < rows.count; }
  HEED_DEVICE const T* At(int r) const { return Of(rows.Head(r), rows.Query(r)); }
  HEED_DEVICE int First() const { return rows.first; }
  HEED_DEVICE const T* Start() const { return Of(rows.head, 0); }
  HEED_DEVICE bool Even(int* step) const {
    return FitsTile(tensor.steps.row, step) && rows.group == 1;
  }

 private:
  HEED_DEVICE const T* Of(int head, int query) const {
    return static_cast<const T*>(tensor.data) + QueryAt(tensor.steps, rows.entry, head, query);
  }
};

// Where the keys of one entry and kv head lie, in as few registers as will do. Not paged: key j is row
// first + j behind k; paged: row first + j of the entry, in whose page it is a row behind k.
template <class T>
struct KeyRows {
  const T *k, *v;
  const std::int32_t* table;
  int first, end;  // end: keys of the entry
};

template <class T>
HEED_DEVICE KeyRows<T> KeyRowsOf(const ForwardCall& c, const QueryRows& rows) {
  const Entry& e = rows.entry;
  const auto start = [&](const Rows& tensor) {
    return static_cast<const T*>(tensor.data) + rows.key_head * tensor.steps.head +
           (e.table ? 0 : e.key_batch * tensor.steps.batch);
  };
  return {start(c.k), start(c.v), e.table, int(e.key_row), int(e.sees.sk)};
}

template <class T>
struct KeySource {
  const ForwardCall& call;
  const KeyRows<T>& keys;
  const Rows& tensor;  // call.k or call.v
  const T* start;      // keys.k or keys.v
  int key;             // of row 0

  HEED_DEVICE bool Exists(int r) const { return key + r < keys.end; }
  HEED_DEVICE int First() const { return keys.first + key; }
  HEED_DEVICE const T* Start() const { return start; }
  HEED_DEVICE const T* At(int r) const {
    return start + RowOf(call.cache, keys.table, tensor.steps, First() + r);
  }
  HEED_DEVICE bool Even(int* step) const {
    return FitsTile(tensor.steps.row, step) && keys.table == nullptr;
  }
};

// Tiles of kKeys keys that somebody of the queries may see, ascending: first those of the prefix, then
// those of the band; of them the ones in `piece`, which begins at a tile. Empty ones of TileKinds are
// left out.
template <int kKeys>
class KeyWalk {
 public:
  HEED_DEVICE KeyWalk(const ForwardCall& c, const QueryRows& rows, Interval piece) {
    const Visibility& sees = rows.entry.sees;
    const Interval queries = rows.Queries();
    const Interval low = Band(sees, queries.first), high = Band(sees, queries.last - 1);
    prefix_ = int(PrefixKeys(sees).last);
    // Where either sees nothing, to <= from: no tile lies within.
    full_from_ = int(high.first);
    full_to_ = int(low.last);

    const int begin = int(piece.first), end = int(piece.last);
    const int first = int(Max(low.first, begin)), last = int(Min(high.last, end));
    at_ = begin / kKeys;
    prefix_end_ = int(Max((Min(prefix_, end) + kKeys - 1) / kKeys, at_));
    band_ = first >= last ? prefix_end_ : int(Max(first / kKeys, prefix_end_));
    end_ = first >= last ? prefix_end_ : int(Max((last + kKeys - 1) / kKeys, prefix_end_));
    if (c.kinds.kinds) {
      kinds_ = c.kinds.kinds + c.kinds.At(rows.b, rows.head, rows.first / c.kinds.tile_rows);
    }
    if (at_ == prefix_end_) at_ = band_;
    SkipEmpty();
  }

  HEED_DEVICE bool Done() const { return at_ >= end_; }
  HEED_DEVICE int Key() const { return at_ * kKeys; }
  HEED_DEVICE int Prefix() const { return prefix_; }
  HEED_DEVICE void Next() {
    Step();
    SkipEmpty();
  }

  // Whether every query of the tile sees every key of it by position: Classify says kFull of it.
  HEED_DEVICE bool AllByPosition() const {
    const int last = Key() + kKeys, from = Key() > prefix_ ? Key() : prefix_;
    return from >= last || (full_from_ <= from && full_to_ >= last);
  }
  // Whether no mask and no block map hides any.
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

  int prefix_, full_from_, full_to_;
  int at_, prefix_end_, band_, end_;
  const std::uint8_t* kinds_ = nullptr;
  std::uint8_t kind_ = 0;
};

// Keys [first, last) of piece n of an entry that has sk of them.
HEED_DEVICE Interval PieceOf(std::int64_t sk, std::int64_t n) {
  const std::int64_t keys = PieceLength(sk);
  return {Min(n * keys, sk), Min((n + 1) * keys, sk)};
}

}  // namespace heed::cuda
