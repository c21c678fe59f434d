// forward.h: the walk of one forward work item over blocks of keys and tiles of queries. Not here:
// products (tiles.h), layouts (packing.h, staging.h), who sees whom (live.h), a block made ready
// (forward_block.h), softmax (softmax.h), results (forward_results.h), threads, choices.
#pragma once

#include "cpu/forward_results.h"
#include "cpu/look_ahead.h"

namespace heed::cpu::HEED_ISA {

template <class F>
class Forward : ForwardResults<F> {
  using Base = ForwardResults<F>;
  using Base::b_;
  using Base::c_;
  using Base::entry_;
  using Base::factors_;
  using Base::keys_;
  using Base::kPair;
  using Base::number_;
  using Base::part_;
  using Base::plain_;
  using Base::rows_at_;
  using Base::w_;
  using typename Base::E;
  using typename Base::U;
  using typename Base::X;

 public:
  Forward(const ForwardCall& call, void* workspace) : Base(call, workspace), look_(call) {}

  void Items(std::int64_t first, std::int64_t last) {
    if (c_.split.pieces > 0) return Pieces(first, last);
    while (first < last) {
      Item items[kMaxTiles];
      int count = 0;
      std::int64_t at = first;
      for (; at < last && count < c_.blocks.tiles; at++) {
        const Item item = c_.At(at);
        if (count > 0 && (item.b != items[0].b || item.h != items[0].h)) break;
        if (!item.rows.empty()) items[count++] = item;
      }
      next_ = at;
      if (count > 0) Group(items, count);
      first = at;
    }
  }

  // Items of a split: pieces of the keys.
  void Pieces(std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; n++) {
      const SplitItem head = c_.split.At(n);
      number_ = head.piece;
      next_ = n - number_ + c_.split.pieces;
      piece_ = PieceOf(c_.split, EntryOf(c_, head.b).sees.sk, number_);
      part_ = Partial::At(c_.split, n);
      for (std::int64_t row = 0; row < c_.split.rows;) {
        Item items[kMaxTiles];
        int count = 0;
        for (; row < c_.split.rows && count < c_.blocks.tiles; row += kRows)
          items[count++] = {head.b, head.h, {row, heed::Min(row + kRows, c_.split.rows)}};
        Group(items, count);
      }
    }
  }

 private:
  // `count` neighbouring tiles of one head share each block of keys. Which tiles are grouped
  // changes no bit.
  void Group(const Item* items, int count) {
    b_ = items[0].b;
    entry_ = EntryOf(c_, b_);
    keys_ = KeyRows<E>::Of(c_, entry_, c_.packed ? items[0].h : items[0].h / c_.group);
    for (int t = 0; t < count; t++) Begin(t, items[t]);
    Sweep(0, count);
    look_.Walked(keys_.k);
    for (int t = 0; t < count; t++) {
      // p may reach 2^60 before it is divided, and a large v times that is infinite: once more then.
      if (HEED_UNLIKELY(w_.rows[t].odd)) {
        Restart(t);
        Sweep(t, t + 1);
      }
      if (HEED_UNLIKELY(c_.probs != nullptr)) Base::WriteProbabilities(t);
    }
  }

  // Q packed, state cleared, who sees which keys.
  void Begin(int t, const Item& item) {
    RowState& rows = w_.rows[t];
    RowFacts& facts = w_.facts[t];
    BeginRows(c_, entry_, item, &rows, &facts);
    rows.keys_first = heed::Max(rows.keys_first, piece_.first);
    rows.keys_last = heed::Min(rows.keys_last, piece_.last);
    rows_at_[t] = item.rows.first;
    if (!plain_ || c_.sinks || c_.mask.data || c_.block_map.data) FillFacts(c_, b_, &facts);
    ResetState(facts, c_.sinks && number_ == 0, &rows);
    if (rows.keys_first >= rows.keys_last) return Base::Complete(t);
    const E* q[kRows];
    for (int r = 0; r < kRows; r++)
      q[r] = QueryRow<F>(c_, entry_, b_, facts.head[r], facts.query[r],
                         w_.rotated + static_cast<std::int64_t>(r) * c_.dim);
    PackQ<F>(q, rows.vectors, c_.dim, factors_.q,
             w_.qt + static_cast<std::int64_t>(t) * w_.units * kRows);
  }

  // Tiles [from, to) against the keys they see, block by block. Blocks start at multiples of their
  // size, whoever looks: m and so the bits depend on where a block ends.
  void Sweep(int from, int to) {
    std::int64_t first = INT64_MAX, last = 0;
    for (int t = from; t < to; t++) {
      if (w_.rows[t].keys_first >= w_.rows[t].keys_last) continue;
      first = heed::Min(first, w_.rows[t].keys_first);
      last = heed::Max(last, w_.rows[t].keys_last);
    }
    if (first >= last) return;
    for (std::int64_t k0 = first - first % c_.blocks.keys; k0 < last; k0 += c_.blocks.keys) {
      const int keys = static_cast<int>(heed::Min(c_.blocks.keys, entry_.sees.sk - k0));
      const Columns wanted = Base::FindLive(from, to, k0, keys);
      Base::Pack(wanted, k0, keys);
      std::int64_t columns = 0;
      for (int t = from; t < to; t++) columns += CountBits(w_.live[t].live);
      look_.Aim({b_, w_.facts[from].head[0],
                 heed::Min(w_.facts[from].query[0], w_.facts[to - 1].query[0]), &entry_, &keys_,
                 to - from, next_, columns},
                k0, last);
      for (int t = from; t < to; t++) Block(t, k0, keys);
    }
  }

  // Some result of this tile is not finite. With m = lse every p is at most 1, and only what comes
  // from an infinite v or a NaN stays so.
  void Restart(int t) {
    RowState& rows = w_.rows[t];
    for (int lane = 0; lane < kRows; lane += W) {
      const V l = Load(rows.l + lane);
      V m = Load(rows.m + lane), first = Zero();
      m = Select(Lt(Zero(), l), Add(m, Log2(l)), m);
      if (c_.sinks && number_ == 0) first = Exp2OrZero<5>(Sub(Load(w_.facts[t].sink + lane), m));
      Store(rows.m + lane, m);
      Store(rows.l + lane, first);
      Store(rows.lr + lane, first);
      Store(rows.lr0 + lane, first);
    }
    rows.settled = 0;
    rows.begun = rows.done = false;
    rows.final = true;
  }

  // Tile t against the block of `keys` keys from k0 on.
  void Block(int t, std::int64_t k0, int keys) {
    RowState& rows = w_.rows[t];
    const Live& live = w_.live[t];
    const bool last = rows.keys_last <= k0 + keys;
    if (rows.done || (!live.live && !last)) return;
    if constexpr (X::kDot) __builtin_memcpy(rows.lr0, rows.lr, sizeof rows.lr);
    ScoreArgs<X> a = Base::ArgsOf(t, k0, keys);
    for (Columns left = live.live; left;) {
      const int c = __builtin_ctzll(left);
      int count, whole = Base::Aim(t, k0, keys, c, left, &a, &count);
      const bool edge = whole == 0;
      if (!plain_) whole = 0;
      whole = look_.Step(whole);
      const int done = ScoreTiles<kVecs>(a, rows, count, whole, edge);
      for (int v = 0; v < rows.vectors; v++)
        if (v < a.at || v >= a.at + count)
          for (int n = c; n < c + done; n++) ClearProbs(n * kKeys, v);
      left &= ~BitRange(c, c + done);
    }
    if (last) Base::Finish(t);
    Base::Accumulate(t, k0, last);
    rows.begun = true;
    rows.done = last;
  }

  // One tile or, of `whole` tiles that every row sees, as many as the fast way takes. Returns their
  // number, at least 1.
  template <int kCount>
  static HEED_INLINE int ScoreTiles(const ScoreArgs<X>& a, RowState& rows, int count, int whole,
                                    bool edge) {
    if constexpr (kCount > 1)
      if (count < kCount) return ScoreTiles<kCount - 1>(a, rows, count, whole, edge);
    const unsigned vectors = ((1u << kCount) - 1) << a.at;
    if (whole > 0 && (rows.settled & vectors) == vectors)
      if (const int done = FastTiles<X, kCount>(a, whole, rows)) return done;
    GeneralTile<X, kCount>(a, rows, edge);
    return 1;
  }

  void ClearProbs(int key, int v) {
    for (int r = 0; r < kKeys; r += kPair)
      Store(reinterpret_cast<float*>(w_.pt) + (key + r) / kPair * kRows + v * W, Zero());
  }

  LookAhead<E> look_;
  std::int64_t next_ = 0;
  Interval piece_ = {0, INT64_MAX};  // of a split: its keys
};

}  // namespace heed::cpu::HEED_ISA
