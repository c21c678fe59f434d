// forward.h: the walk of one forward work item over blocks of keys and tiles of queries. Not here:
// products (tiles.h), layouts (packing.h), softmax (softmax.h), threads, choices.
#pragma once

#include "cpu/ahead.h"
#include "cpu/kernels.h"
#include "cpu/packing.h"
#include "cpu/softmax.h"
#include "problem/visibility.h"
#include "score/terms.h"

namespace heed::cpu::HEED_ISA {

// The workspace of one thread. Sizes depend on the dims and the blocks, never on the sequence
// lengths.
//
//   for each of `tiles` query tiles   rows | qt [units][kRows] | o [kRows][padded dv]
//   for the block of keys             pt [key units][kRows]
//                                     where packed: k [keys][k_step], v [key units][v_step]
//   for the score tile                scores [kKeys][kRows] | tail [kKeys][units]
//                                     factor, first, last [kRows]
template <class F>
struct Work {
  using U = typename F::X::U;
  static constexpr int kPair = F::X::kPair;
  RowState* rows;
  U *qt, *k, *v, *pt, *tail;
  float *o, *scores, *factor, *first, *last;
  int units, padded, k_step, v_step;  // steps in units

  // Carves the workspace; returns its size. With base null only the size means anything.
  std::int64_t Carve(void* base, int dim, int dim_v, const Blocks& b) {
    units = (dim + kPair - 1) / kPair;
    padded = RoundUp(dim_v, W);
    k_step = PackedStep(units);
    v_step = PackedStep(padded);
    std::int64_t at = 0;
    char* const p = static_cast<char*>(base);
    const auto take = [&]<class T>(T*& out, std::int64_t count) {
      out = p ? reinterpret_cast<T*>(p + at) : nullptr;
      at += (count * static_cast<std::int64_t>(sizeof(T)) + 63) / 64 * 64;
    };
    const std::int64_t keys = b.keys, key_units = (keys + kPair - 1) / kPair, tiles = b.tiles;
    take(rows, tiles);
    take(qt, tiles * units * kRows);
    take(o, tiles * kRows * padded);
    take(pt, key_units * kRows);
    take(scores, kKeys * kRows);
    take(tail, static_cast<std::int64_t>(kKeys) * units);
    take(factor, kRows);
    take(first, kRows);
    take(last, kRows);
    take(k, PacksK<F>(dim) ? keys * k_step : 0);
    take(v, PacksV<F>(dim_v) ? key_units * v_step : 0);
    return at + 64;  // rows of W units may be read past their end
  }
};

template <class F>
class Forward {
  using E = typename F::E;
  using X = typename F::X;
  using U = typename X::U;
  static constexpr int kPair = X::kPair;
  static constexpr std::int64_t kBytes = sizeof(E);

 public:
  Forward(const ForwardCall& call, void* workspace) : c_(call) {
    w_.Carve(workspace, call.dim, call.dim_v, call.blocks);
    // Scores become powers of two here: floats while Q is packed, pairs behind their product.
    const float factor = FoldExp2(Terms<float>::Of(call.scale, 0, false, false)).inner;
    q_factor_ = X::kDot ? 1.f : factor;
    s_factor_ = X::kDot ? factor : 1.f;
  }

  void Items(std::int64_t first, std::int64_t last) {
    const std::int64_t per_head = c_.schedule.tiles();
    while (first < last) {
      const std::int64_t in_head = per_head - first % per_head;
      const int count = static_cast<int>(Min(Min(last - first, in_head), c_.blocks.tiles));
      Group(first, count);
      first += count;
    }
  }

 private:
  template <class T>
  static const T* Head(const void* p, const Steps& steps, std::int64_t b, std::int64_t h) {
    return static_cast<const T*>(p) + b * steps.batch + h * steps.head;
  }

  // Lines that will be read after the block of keys at k0, to be asked for while it is computed:
  // the next block or, behind the last one, the queries and the first block of the group at next_.
  void LookAhead(std::int64_t k0, std::int64_t last, int tiles) {
    ahead_.Clear();
    const std::int64_t looks = tiles * heed::Max(c_.blocks.keys / (kStride * kKeys), 1);
    // Keys and values that were walked before and take half the L2 at most are still there.
    const bool warm = vis_.sk * (c_.dim + c_.dim_v) * kBytes <= 1 << 19;
    if (k0 + c_.blocks.keys < last) {
      if (!(warm && k_ == walked_)) AheadOfKeys(k_, v_, k0 + c_.blocks.keys, last);
    } else if (next_ < c_.schedule.items()) {
      const Item item = c_.schedule.At(next_);
      const std::int64_t hk = item.h / c_.group, first = Band(vis_, item.rows.first).first;
      const E* const q = Head<E>(c_.q, c_.q_steps, item.b, item.h);
      const std::int64_t rows = Min(vis_.sq - item.rows.first, c_.blocks.tiles * kRows);
      ahead_.Add(q + item.rows.first * c_.q_steps.row, rows, c_.q_steps.row * kBytes,
                 c_.dim * kBytes);
      const E* const k = Head<E>(c_.k, c_.k_steps, item.b, hk);
      if (!(warm && k == k_)) AheadOfKeys(k, Head<E>(c_.v, c_.v_steps, item.b, hk), first, vis_.sk);
    }
    touch_ = CeilDiv(ahead_.lines(), looks);
  }
  void AheadOfKeys(const E* k, const E* v, std::int64_t first, std::int64_t last) {
    const std::int64_t rows = Min(last - first, c_.blocks.keys);
    ahead_.Add(k + first * c_.k_steps.row, rows, c_.k_steps.row * kBytes, c_.dim * kBytes);
    ahead_.Add(v + first * c_.v_steps.row, rows, c_.v_steps.row * kBytes, c_.dim_v * kBytes);
  }

  // `count` neighbouring tiles of one head share each block of keys. Which tiles are grouped
  // changes no bit.
  void Group(std::int64_t first, int count) {
    const Item item = c_.schedule.At(first);
    const std::int64_t b = item.b, h = item.h;
    next_ = first + count;
    q_ = Head<E>(c_.q, c_.q_steps, b, h);
    k_ = Head<E>(c_.k, c_.k_steps, b, h / c_.group);
    v_ = Head<E>(c_.v, c_.v_steps, b, h / c_.group);
    o_ = b * c_.o_steps.batch + h * c_.o_steps.head;
    lse_ = c_.lse ? c_.lse + (b * c_.q_heads + h) * c_.visibility.sq : nullptr;
    vis_ = c_.visibility;
    if (c_.query_offsets) vis_.shift = c_.query_offsets[b];

    std::int64_t keys_first = vis_.sk, keys_last = 0;
    for (int t = 0; t < count; t++) {
      RowState& rows = w_.rows[t];
      Begin(t, c_.schedule.At(first + t).rows);
      if (rows.first[0] >= rows.last[kRows - 1]) continue;
      keys_first = Min(keys_first, rows.first[0]);
      keys_last = heed::Max(keys_last, rows.last[kRows - 1]);
    }
    Sweep(0, count, keys_first, keys_last);
    walked_ = k_;
    // p may reach 2^60 before it is divided, and a large v times that is infinite: once more then.
    for (int t = 0; t < count; t++)
      if (HEED_UNLIKELY(w_.rows[t].odd)) {
        Restart(w_.rows[t]);
        Sweep(t, t + 1, w_.rows[t].first[0], w_.rows[t].last[kRows - 1]);
      }
  }

  // Tiles [from, to) against keys [first, last), block by block. Blocks start at multiples of their
  // size, whoever looks: m and so the bits depend on where a block ends.
  void Sweep(int from, int to, std::int64_t first, std::int64_t last) {
    for (std::int64_t k0 = first - first % c_.blocks.keys; k0 < last; k0 += c_.blocks.keys) {
      const int keys = static_cast<int>(Min(c_.blocks.keys, vis_.sk - k0));
      const int used = static_cast<int>(Min(keys, last - k0));
      if (PacksK<F>(c_.dim)) PackK<F>(k_ + k0 * c_.k_steps.row, c_.k_steps.row, used, c_.dim, w_.k);
      if (PacksV<F>(c_.dim_v))
        PackV<F>(v_ + k0 * c_.v_steps.row, c_.v_steps.row, used, c_.dim_v, w_.v);
      LookAhead(k0, last, to - from);
      for (int t = from; t < to; t++) Block(t, k0, keys);
    }
  }

  // Some result of this tile is not finite. With m = lse every p is at most 1, and only what comes
  // from an infinite v or a NaN stays so.
  static void Restart(RowState& rows) {
    for (int lane = 0; lane < kRows; lane += W) {
      const V m = Load(rows.m + lane), l = Load(rows.l + lane);
      Store(rows.m + lane, Select(Lt(Zero(), l), Add(m, Log2(l)), m));
      Store(rows.l + lane, Zero());
      Store(rows.lr + lane, Zero());
    }
    rows.settled = 0;
    rows.begun = false;
    rows.final = true;
  }

  // Q packed, state cleared, who sees which keys. A tile that sees nothing is written here and left
  // alone afterwards.
  void Begin(int t, Interval queries) {
    RowState& rows = w_.rows[t];
    rows_at_[t] = queries.first;
    rows.rows = static_cast<int>(queries.size());
    rows.vectors = (rows.rows + W - 1) / W;
    rows.settled = 0;
    rows.begun = rows.final = rows.odd = false;
    for (int r = 0; r < kRows; r++) {
      rows.m[r] = kUnset;
      rows.l[r] = rows.lr[r] = rows.lr0[r] = 0;
    }
    if (vis_.left < 0 && vis_.right < 0 && vis_.chunk == 0) {
      for (int r = 0; r < kRows; r++) {
        rows.first[r] = 0;
        rows.last[r] = static_cast<std::int32_t>(vis_.sk);
      }
    } else {
      for (int r = 0; r < kRows; r++) {
        const Interval keys = Band(vis_, Min(queries.first + r, queries.last - 1));
        rows.first[r] = static_cast<std::int32_t>(keys.first);
        rows.last[r] = static_cast<std::int32_t>(keys.last);
      }
    }
    if (rows.first[0] >= rows.last[kRows - 1]) {
      Finish(t, nullptr);
      return;
    }
    PackQ<F>(q_ + queries.first * c_.q_steps.row, c_.q_steps.row, rows.rows, rows.vectors, c_.dim,
             q_factor_, w_.qt + static_cast<std::int64_t>(t) * w_.units * kRows);
  }

  // Tile t against the block of `keys` keys from k0 on.
  void Block(int t, std::int64_t k0, int keys) {
    RowState& rows = w_.rows[t];
    // The keys that somebody in this tile sees, within the block; the first one down to a whole
    // score tile.
    const int seen_first = static_cast<int>(heed::Max(rows.first[0] - k0, 0)) / kKeys * kKeys;
    const int seen_last = static_cast<int>(Min(rows.last[kRows - 1] - k0, keys));
    if (seen_first >= seen_last) return;
    if constexpr (X::kDot) __builtin_memcpy(rows.lr0, rows.lr, sizeof rows.lr);

    // Keys [all_first, all_last) are seen by every row of the tile.
    const int all_first = static_cast<int>(rows.first[kRows - 1] - k0),
              all_last = static_cast<int>(Min(rows.last[0] - k0, keys));
    if (all_first > seen_first || all_last < seen_last || seen_last % kKeys != 0)
      for (int r = 0; r < kRows; r++) {
        w_.first[r] = static_cast<float>(Clamp(rows.first[r] - k0, 0, keys));
        w_.last[r] = static_cast<float>(Clamp(rows.last[r] - k0, 0, keys));
      }
    ScoreArgs<X> a;
    a.units = w_.units;
    a.qt = w_.qt + static_cast<std::int64_t>(t) * w_.units * kRows;
    a.pt = w_.pt;
    a.from = seen_first;
    a.factor = s_factor_;
    a.first = w_.first;
    a.last = w_.last;
    a.scores = w_.scores;
    a.o = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded;
    a.o_step = w_.padded;
    for (int key = seen_first; key < seen_last;) {
      a.key = key;
      a.at = 0;
      KeyRows(k0, key, keys, &a);
      const bool edge = key < all_first || key + kKeys > all_last;
      int end = rows.vectors;
      if (edge) {  // only the vectors that see something are computed
        const std::int64_t j = k0 + key;
        while (a.at < end &&
               (j + kKeys <= rows.first[a.at * W] || j >= rows.last[a.at * W + W - 1]))
          a.at++;
        while (end > a.at && (j + kKeys <= rows.first[end * W - W] || j >= rows.last[end * W - 1]))
          end--;
        for (int v = 0; v < rows.vectors; v++)
          if (v < a.at || v >= end) ClearProbs(key, v);
      }
      int whole = edge ? 0 : (all_last - key) / kKeys;
      if (ahead_.lines() > 0) {
        ahead_.Touch(touch_);
        whole = whole < kStride ? whole : kStride;
      }
      key += kKeys * ScoreTiles<kVecs>(a, rows, end - a.at, whole);
    }
    const bool last = rows.last[kRows - 1] <= k0 + keys;
    if (last) Finish(t, w_.factor);
    Accumulate(t, k0, seen_first, seen_last, last);
    rows.begun = true;
  }

  // Where the score tile finds keys [key, key + kKeys): packed (then padded), in place, or, where
  // the sequence ends within them, in a copy: what lies behind the last key is not ours to read.
  void KeyRows(std::int64_t k0, int key, int keys, ScoreArgs<X>* a) {
    const E* const k = k_ + (k0 + key) * c_.k_steps.row;
    if (PacksK<F>(c_.dim)) {
      a->k = w_.k + static_cast<std::int64_t>(key) * w_.k_step;
      a->k_step = w_.k_step * 4;
    } else if (key + kKeys <= keys) {
      a->k = reinterpret_cast<const U*>(k);
      a->k_step = c_.k_steps.row * static_cast<std::int64_t>(sizeof(E));
    } else {
      const std::size_t bytes = static_cast<std::size_t>(w_.units) * 4;
      for (int r = 0; r < kKeys; r++) {
        U* const to = w_.tail + static_cast<std::int64_t>(r) * w_.units;
        if (key + r < keys)
          __builtin_memcpy(to, k + r * c_.k_steps.row, bytes);
        else
          __builtin_memset(to, 0, bytes);
      }
      a->k = w_.tail;
      a->k_step = static_cast<std::int64_t>(bytes);
    }
  }

  // One tile or, of `whole` tiles that every row sees, as many as the fast way takes. Returns their
  // number, at least 1.
  template <int kCount>
  static HEED_INLINE int ScoreTiles(const ScoreArgs<X>& a, RowState& rows, int count, int whole) {
    if constexpr (kCount > 1)
      if (count < kCount) return ScoreTiles<kCount - 1>(a, rows, count, whole);
    if (count < 1) return 1;
    const unsigned vectors = ((1u << kCount) - 1) << a.at;
    if (whole > 0 && (rows.settled & vectors) == vectors)
      if (const int done = FastTiles<X, kCount>(a, whole, rows)) return done;
    GeneralTile<X, kCount>(a, rows, whole == 0);
    return 1;
  }

  void ClearProbs(int key, int v) {
    for (int r = 0; r < kKeys; r += kPair)
      Store(reinterpret_cast<float*>(w_.pt) + (key + r) / kPair * kRows + v * W, Zero());
  }

  // P.V of tile t, columns cut into the widest tiles that registers hold: 4, 4, .. and then what is
  // left, 5 as 3 + 2.
  void Accumulate(int t, std::int64_t k0, int seen_first, int seen_last, bool last) {
    const int vectors = w_.padded / W;
    for (int v = 0; v < vectors;) {
      int take = vectors - v;
      if (take == kMaxCols + 1 && kMaxCols > 2)
        take = kMaxCols - 1;
      else if (take > kMaxCols)
        take = kMaxCols;
      AccumulateOf<kMaxCols>(t, k0, seen_first, seen_last, last, v, take);
      v += take;
    }
    if (last && !Direct()) Write(t);
  }
  template <int kCols>
  void AccumulateOf(int t, std::int64_t k0, int seen_first, int seen_last, bool last, int v,
                    int take) {
    if constexpr (kCols > 1)
      if (take < kCols) return AccumulateOf<kCols - 1>(t, k0, seen_first, seen_last, last, v, take);
    constexpr int kStep = AccumulateRows(kCols);
    RowState& rows = w_.rows[t];
    float* const o = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded + v * W;
    const bool packed = PacksV<F>(c_.dim_v), direct = last && Direct();
    for (int r = 0; r < rows.rows; r += kStep) {
      // The keys that these rows see: probabilities beyond are zero where they were written at all.
      // Pairs start even.
      int x = static_cast<int>(heed::Max(rows.first[r] - k0, seen_first));
      const int y = static_cast<int>(Min(rows.last[r + kStep - 1] - k0, seen_last));
      x = x / kPair * kPair;
      AccumulateArgs a;
      a.units = x < y ? (y - x + kPair - 1) / kPair : 0;
      a.pt = w_.pt + x / kPair * kRows + r;
      a.x = packed ? w_.v + static_cast<std::int64_t>(x / kPair) * w_.v_step + v * W
                   : reinterpret_cast<const U*>(v_ + (k0 + x) * c_.v_steps.row) + v * W;
      a.x_step = packed ? w_.v_step : c_.v_steps.row;
      a.from = rows.begun ? o + static_cast<std::int64_t>(r) * w_.padded : nullptr;
      a.from_step = w_.padded;
      a.factor = last ? w_.factor + r : nullptr;
      a.rows = rows.rows - r < kStep ? rows.rows - r : kStep;
      if (direct) {
        a.out = static_cast<float*>(c_.o) + o_ + (rows_at_[t] + r) * c_.o_steps.row + v * W;
        a.out_step = c_.o_steps.row;
      } else {
        a.out = o + static_cast<std::int64_t>(r) * w_.padded;
        a.out_step = w_.padded;
      }
      if (!AccumulateTile<X, kCols>(a)) rows.odd = true;
    }
  }

  // Whether the last accumulation may write o itself: whole vectors of floats.
  bool Direct() const { return c_.out_dtype == DType::kF32 && c_.dim_v % W == 0; }

  // Finished sums of tile t to o, in its dtype.
  void Write(int t) {
    const float* const from = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded;
    const int rows = w_.rows[t].rows;
    const std::int64_t at = o_ + rows_at_[t] * c_.o_steps.row;
    if (c_.out_dtype == DType::kF32)
      WriteRows<Format<DType::kF32>>(from, w_.padded, rows, c_.dim_v,
                                     static_cast<float*>(c_.o) + at, c_.o_steps.row);
    else  // the tensors' own
      WriteRows<F>(from, w_.padded, rows, c_.dim_v, static_cast<E*>(c_.o) + at, c_.o_steps.row);
  }

  // All keys seen: what o is divided by, and lse. factor null: nobody saw anything, and o is
  // written here, too.
  void Finish(int t, float* factor) {
    RowState& rows = w_.rows[t];
    for (int v = 0; v < rows.vectors; v++) {
      const int lane = v * W;
      const V l = Load(rows.l + lane);
      const M empty = Eq(l, Zero());
      if (factor) {
        V sum = l;
        if constexpr (X::kDot)
          sum = Select(Eq(l, l), Load(rows.lr + lane), l);  // rounding may lose a NaN
        Store(factor + lane, Select(empty, Zero(), Div(Set(1.f), sum)));
      }
      if (lse_ && !rows.final) {
        const V lse = Mul(Add(Load(rows.m + lane), Log2(l)), Set(static_cast<float>(kLn2)));
        const int left = rows.rows - lane;
        StoreN(lse_ + rows_at_[t] + lane, Select(empty, Set(-__builtin_inff()), lse),
               left < W ? left : W);
      }
    }
    if (!factor) {
      float* const o = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded;
      __builtin_memset(o, 0, static_cast<std::size_t>(rows.rows) * w_.padded * sizeof *o);
      Write(t);
    }
  }

  static constexpr int kStride = 64 / kKeys;  // score tiles between two looks ahead
  const ForwardCall& c_;
  Ahead ahead_;
  std::int64_t touch_ = 0, next_ = 0;
  Work<F> w_;
  float q_factor_, s_factor_;
  // Of the current head.
  const E *q_, *k_, *v_;
  const E* walked_ = nullptr;  // keys of the group before
  std::int64_t o_;             // elements
  float* lse_;
  Visibility vis_;
  std::int64_t rows_at_[kMaxTiles];
};

}  // namespace heed::cpu::HEED_ISA
