// forward.h: the walk of one forward work item over blocks of keys and tiles of queries. Not here:
// products (tiles.h), layouts (packing.h, staging.h), who sees whom (live.h), softmax (softmax.h),
// threads, choices.
#pragma once

#include "cpu/look_ahead.h"
#include "cpu/pieces.h"
#include "cpu/rotary.h"
#include "cpu/runs.h"
#include "cpu/softmax.h"
#include "cpu/work.h"

namespace heed::cpu::HEED_ISA {

template <class F>
class Forward {
  using E = typename F::E;
  using X = typename F::X;
  using U = typename X::U;
  static constexpr int kPair = X::kPair;
  static constexpr std::int64_t kBytes = sizeof(E);

 public:
  Forward(const ForwardCall& call, void* workspace) : c_(call), look_(call) {
    w_.Carve(workspace, {call.dtype, call.dim, call.dim_v, call.blocks, call.cache.table != nullptr,
                         call.cache.rotary_dim > 0});
    packs_k_ = PacksK<F>(c_.dim, call.cache.table != nullptr);
    packs_v_ = PacksV<F>(c_.dim_v, call.cache.table != nullptr);
    // Scores become powers of two here: floats while Q is packed, pairs behind their product; with
    // terms behind the last of them.
    const Exp2Factors<float> factors = FoldExp2(c_.terms);
    q_factor_ = X::kDot ? 1.f : factors.inner;
    s_factor_ = X::kDot ? factors.inner : 1.f;
    outer_ = factors.outer;
    plain_ = !c_.terms.any() && !c_.drops;
    w_.bias->step = 0;
  }

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
  // Elements to row r of tile t in o; its place in lse.
  std::int64_t OutRow(int t, int r) const {
    const RowFacts& f = w_.facts[t];
    return QueryAt(c_.o_steps, entry_, f.head[r], f.query[r]);
  }
  float* LseOf(int t, int r) const {
    const RowFacts& f = w_.facts[t];
    return c_.lse + LseAt(c_, entry_, b_, f.head[r], f.query[r]);
  }

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
      if (HEED_UNLIKELY(c_.probs != nullptr)) WriteProbabilities(t);
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
    if (rows.keys_first >= rows.keys_last) return Complete(t);
    const E* q[kRows];
    for (int r = 0; r < kRows; r++)
      q[r] = QueryRow<F>(c_, entry_, b_, facts.head[r], facts.query[r],
                         w_.rotated + static_cast<std::int64_t>(r) * c_.dim);
    PackQ<F>(q, rows.vectors, c_.dim, q_factor_,
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
      const Columns wanted = FindLive(from, to, k0, keys);
      Pack(wanted, k0, keys);
      std::int64_t columns = 0;
      for (int t = from; t < to; t++) columns += CountBits(w_.live[t].live);
      look_.Aim({b_, w_.facts[from].head[0],
                 heed::Min(w_.facts[from].query[0], w_.facts[to - 1].query[0]), &entry_, &keys_,
                 to - from, next_, columns},
                k0, last);
      w_.bias->at = -1;
      for (int t = from; t < to; t++) Block(t, k0, keys);
    }
  }

  // Who sees what of a block; returns the columns that somebody sees.
  Columns FindLive(int from, int to, std::int64_t k0, int keys) {
    Columns wanted = 0;
    for (int t = from; t < to; t++) {
      const RowState& rows = w_.rows[t];
      Live& live = w_.live[t];
      FindLiveByInterval(rows, entry_.sees, k0, keys, &live);
      if (live.live && (c_.mask.data || c_.block_map.data))
        FindLiveByMask(c_, rows, w_.facts[t], k0, keys, &live);
      wanted |= live.live;
    }
    return wanted;
  }

  // Keys and values of these columns to where the products read them.
  void Pack(Columns wanted, std::int64_t k0, int keys) {
    if (!packs_k_ && !packs_v_) return;
    while (wanted) {
      const int c = __builtin_ctzll(wanted), n = OnesFrom(wanted, c);
      wanted &= ~BitRange(c, c + n);
      const int key = c * kKeys, count = keys - key < n * kKeys ? keys - key : n * kKeys;
      const E* rows[kMaxKeys];
      if (packs_k_) {
        for (int r = 0; r < count; r++) rows[r] = keys_.K(k0 + key + r);
        PackK<F>(rows, count, c_.dim, w_.k + static_cast<std::int64_t>(key) * w_.k_step);
      }
      if (packs_v_) {
        for (int r = 0; r < count; r++) rows[r] = keys_.V(k0 + key + r);
        PackV<F>(rows, count, c_.dim_v, w_.v + static_cast<std::int64_t>(key / kPair) * w_.v_step);
      }
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

  // What all tiles of a block have in common for the general tile.
  ScoreArgs<X> ArgsOf(int t, std::int64_t k0, int keys) {
    RowState& rows = w_.rows[t];
    RowFacts& facts = w_.facts[t];
    if (!facts.one_bias) w_.bias->at = -1;
    for (int r = 0; r < kRows; r++) {
      w_.first[r] = static_cast<float>(Clamp(rows.first[r] - k0, 0, keys));
      w_.last[r] = static_cast<float>(Clamp(rows.last[r] - k0, 0, keys));
    }
    if (c_.terms.positional())
      for (int r = 0; r < kRows; r++)
        facts.position[r] = static_cast<float>(facts.query[r] + entry_.sees.shift - k0);
    ScoreArgs<X> a;
    a.units = w_.units;
    a.qt = w_.qt + static_cast<std::int64_t>(t) * w_.units * kRows;
    a.pt = w_.pt;
    a.factor = s_factor_;
    a.scores = w_.scores;
    a.o = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded;
    a.o_step = w_.padded;
    a.live = &w_.live[t];
    a.first = w_.first;
    a.last = w_.last;
    a.call = &c_;
    a.outer = outer_;
    a.facts = &facts;
    a.bias = w_.bias->values[0];
    a.bias_step = 0;
    a.keep = w_.keep;
    return a;
  }

  // Column c for this tile: which keys, which vectors; its bias. Returns how many columns from here
  // on every row of these vectors, and of no other, sees whole.
  int Aim(int t, std::int64_t k0, int keys, int c, Columns left, ScoreArgs<X>* a, int* count) {
    const Live& live = w_.live[t];
    const RowState& rows = w_.rows[t];
    const Columns bit = Columns{1} << c;
    int at = 0, end = rows.vectors;
    while (!(live.any[at] & bit)) at++;
    while (!(live.any[end - 1] & bit)) end--;
    Columns full = left;
    for (int v = 0; v < rows.vectors; v++) full &= v >= at && v < end ? live.all[v] : ~live.any[v];
    a->key = c * kKeys;
    a->j = k0 + a->key;
    a->at = at;
    a->before = live.live & BitRange(0, c);
    *count = end - at;
    KeyRowsOf(k0, a->key, keys, a);
    if (c_.terms.bias) NeedBias(t, keys, a);
    return OnesFrom(full, c);
  }

  void NeedBias(int t, int keys, ScoreArgs<X>* a) {
    if (w_.facts[t].one_bias) return NeedBiasRow(t, keys, a);
    const int in = a->key % kStage<X>;
    const std::int64_t j = a->j - in;
    const RowFacts& facts = w_.facts[t];
    const RowState& rows = w_.rows[t];
    BiasStage& stage = *w_.bias;
    const bool staged = stage.at >= 0 && (stage.step == 0 || stage.at == j);
    if (!staged) {
      const int n = keys - (a->key - in) < kStage<X> ? keys - (a->key - in) : kStage<X>;
      if (c_.bias_f32)
        StageBias<Format<DType::kF32>>(c_.bias, facts, rows.vectors, j, n, &stage);
      else
        StageBias<F>(c_.bias, facts, rows.vectors, j, n, &stage);
    }
    LookAheadInBias(c_.bias, c_.bias_f32 ? 4 : kBytes, facts, rows.rows, j + kStage<X>, kStage<X>,
                    in / kKeys);
    a->bias_step = stage.step;
    a->bias = stage.values[0] + in * stage.step;
  }

  void NeedBiasRow(int t, int keys, ScoreArgs<X>* a) {
    const std::int64_t row = w_.facts[t].bias[0], k0 = a->j - a->key;
    BiasStage& stage = *w_.bias;
    if (stage.at != k0 || stage.step != 1 || stage.row != row) {
      if (c_.bias_f32)
        StageBiasRow<Format<DType::kF32>>(c_.bias, row, k0, keys, &stage);
      else
        StageBiasRow<F>(c_.bias, row, k0, keys, &stage);
    }
    a->bias_step = 1;
    a->bias = stage.values[0] + a->key;
  }

  // Tile t against the block of `keys` keys from k0 on.
  void Block(int t, std::int64_t k0, int keys) {
    RowState& rows = w_.rows[t];
    const Live& live = w_.live[t];
    const bool last = rows.keys_last <= k0 + keys;
    if (rows.done || (!live.live && !last)) return;
    if constexpr (X::kDot) __builtin_memcpy(rows.lr0, rows.lr, sizeof rows.lr);
    ScoreArgs<X> a = ArgsOf(t, k0, keys);
    for (Columns left = live.live; left;) {
      const int c = __builtin_ctzll(left);
      int count, whole = Aim(t, k0, keys, c, left, &a, &count);
      const bool edge = whole == 0;
      if (!plain_) whole = 0;
      whole = look_.Step(whole);
      const int done = ScoreTiles<kVecs>(a, rows, count, whole, edge);
      for (int v = 0; v < rows.vectors; v++)
        if (v < a.at || v >= a.at + count)
          for (int n = c; n < c + done; n++) ClearProbs(n * kKeys, v);
      left &= ~BitRange(c, c + done);
    }
    if (last) Finish(t);
    Accumulate(t, k0, last);
    rows.begun = true;
    rows.done = last;
  }

  // Where the score tile finds keys [key, key + kKeys): packed (then padded), in place, or, where
  // the sequence ends within them, in a copy: what lies behind the last key is not ours to read.
  void KeyRowsOf(std::int64_t k0, int key, int keys, ScoreArgs<X>* a) {
    if (packs_k_) {
      a->k = w_.k + static_cast<std::int64_t>(key) * w_.k_step;
      a->k_step = w_.k_step * 4;
      return;
    }
    const E* const k = keys_.K(k0 + key);
    if (key + kKeys <= keys) {
      a->k = reinterpret_cast<const U*>(k);
      a->k_step = keys_.k_step * kBytes;
    } else {
      const std::size_t bytes = static_cast<std::size_t>(w_.units) * 4;
      for (int r = 0; r < kKeys; r++) {
        U* const to = w_.tail + static_cast<std::int64_t>(r) * w_.units;
        if (key + r < keys)
          __builtin_memcpy(to, k + r * keys_.k_step, bytes);
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

  // P.V of tile t, columns cut into the widest tiles that registers hold: 4, 4, .. and then what is
  // left, 5 as 3 + 2.
  void Accumulate(int t, std::int64_t k0, bool last) {
    const int vectors = w_.padded / W;
    for (int v = 0; v < vectors;) {
      int take = vectors - v;
      if (take == kMaxCols + 1 && kMaxCols > 2)
        take = kMaxCols - 1;
      else if (take > kMaxCols)
        take = kMaxCols;
      AccumulateOf<kMaxCols>(t, k0, last, v, take);
      v += take;
    }
    if (last && !Direct()) Write(t);
  }
  template <int kCols>
  void AccumulateOf(int t, std::int64_t k0, bool last, int v, int take) {
    if constexpr (kCols > 1)
      if (take < kCols) return AccumulateOf<kCols - 1>(t, k0, last, v, take);
    constexpr int kStep = AccumulateRows(kCols);
    RowState& rows = w_.rows[t];
    float* const o = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded + v * W;
    const bool direct = last && Direct();
    AccumulateArgs a;
    a.x = packs_v_ ? w_.v + v * W : reinterpret_cast<const U*>(keys_.V(k0)) + v * W;
    a.x_step = packs_v_ ? w_.v_step : keys_.v_step;
    a.from_step = w_.padded;
    a.out_step = direct ? c_.o_steps.row : w_.padded;
    for (int r = 0; r < rows.rows; r += a.rows) {
      Run runs[kMostRuns];
      a.rows = kNarrow<kCols> ? RowsAlike(w_.live[t], r, kStep) : kStep;
      if (a.rows > rows.rows - r) a.rows = rows.rows - r;
      a.runs = runs;
      a.count = RunsOf<kPair>(rows, w_.live[t], r, a.rows, k0, runs);
      a.pt = w_.pt + r;
      a.from = rows.begun ? o + static_cast<std::int64_t>(r) * w_.padded : nullptr;
      a.factor = last ? w_.factor + r : nullptr;
      a.out = direct ? static_cast<float*>(c_.o) + OutRow(t, r) + v * W
                     : o + static_cast<std::int64_t>(r) * w_.padded;
      if (!Sums<kCols, kStep>(a)) rows.odd = true;
    }
  }

  // Whether there are tiles for fewer rows than registers hold: two less, four less, .. With an odd
  // number they would read behind the last row.
  template <int kCols>
  static constexpr bool kNarrow = kCols == kMaxCols&& AccumulateRows(kCols) % 2 == 0 && W % 2 == 0;
  template <int kCols, int kCount>
  static HEED_INLINE bool Sums(const AccumulateArgs& a) {
    if constexpr (kNarrow<kCols> && kCount > 2)
      if (a.rows <= kCount - 2) return Sums<kCols, kCount - 2>(a);
    return AccumulateTile<X, kCols, kRows, 1, kCount>(a);
  }

  // Whether the last accumulation may write o itself: whole vectors of floats, rows evenly spaced.
  bool Direct() const {
    return c_.out_dtype == DType::kF32 && c_.dim_v % W == 0 && !c_.packed && c_.split.pieces == 0;
  }

  // Finished sums of tile t to o, in its dtype.
  void Write(int t) {
    const float* from = w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded;
    if (c_.split.pieces > 0) {
      __builtin_memcpy(part_.o + rows_at_[t] * part_.o_step, from,
                       static_cast<std::size_t>(w_.rows[t].rows) * w_.padded * sizeof *from);
      return;
    }
    for (int r = 0; r < w_.rows[t].rows; r++, from += w_.padded) {
      if (c_.out_dtype == DType::kF32)
        WriteRow<Format<DType::kF32>>(from, c_.dim_v, static_cast<float*>(c_.o) + OutRow(t, r));
      else  // the tensors' own
        WriteRow<F>(from, c_.dim_v, static_cast<E*>(c_.o) + OutRow(t, r));
    }
  }

  // A tile that sees no key at all.
  void Complete(int t) {
    Finish(t);
    __builtin_memset(w_.o + static_cast<std::int64_t>(t) * kRows * w_.padded, 0,
                     static_cast<std::size_t>(w_.rows[t].rows) * w_.padded * sizeof *w_.o);
    Write(t);
    w_.rows[t].done = true;
  }

  // All keys seen: what o is multiplied by, and lse.
  void Finish(int t) {
    RowState& rows = w_.rows[t];
    if (c_.split.pieces > 0) return FinishPiece(t);
    for (int v = 0; v < rows.vectors; v++) {
      const int lane = v * W;
      const V l = Load(rows.l + lane);
      const M empty = Eq(l, Zero());
      V sum = l;
      if constexpr (X::kDot)
        sum = Select(Eq(l, l), Load(rows.lr + lane), l);  // rounding may lose a NaN
      Store(w_.factor + lane, Select(empty, Zero(), Div(Set(c_.keep_factor), sum)));
      if (c_.lse && !rows.final) {
        const V natural = Mul(Add(Load(rows.m + lane), Log2(l)), Set(static_cast<float>(kLn2)));
        const V lse = Select(empty, Set(kHidden), natural);
        const int left = rows.rows - lane, n = left < W ? left : W;
        if (!c_.packed) {
          StoreN(LseOf(t, lane), lse, n);
        } else {
          alignas(64) float each[W];
          Store(each, lse);
          for (int r = 0; r < n; r++) *LseOf(t, lane + r) = each[r];
        }
      }
    }
  }

  // A piece leaves its sums as they are.
  void FinishPiece(int t) {
    RowState& rows = w_.rows[t];
    for (int r = 0; r < kRows; r++) w_.factor[r] = 1;
    const std::size_t bytes = static_cast<std::size_t>(rows.rows) * sizeof(float);
    __builtin_memcpy(part_.m + rows_at_[t], rows.m, bytes);
    __builtin_memcpy(part_.l + rows_at_[t], rows.l, bytes);
    __builtin_memcpy(part_.r + rows_at_[t], X::kDot ? rows.lr : rows.l, bytes);
    for (int r = 0; X::kDot && r < rows.rows; r++)  // rounding may lose a NaN
      if (rows.l[r] != rows.l[r]) part_.r[rows_at_[t] + r] = rows.l[r];
  }

  // exp(s - lse) of every visible pair of tile t; the others are zero already.
  void WriteProbabilities(int t) {
    RowState& rows = w_.rows[t];
    if (rows.keys_first >= rows.keys_last) return;
    for (int lane = 0; lane < kRows; lane += W) {
      const V l = Load(rows.l + lane);
      Store(w_.factor + lane, Select(Eq(l, Zero()), Zero(), Div(Set(1.f), l)));
    }
    rows.final = true;
    for (std::int64_t k0 = 0; k0 < rows.keys_last; k0 += c_.blocks.keys) {
      const int keys = static_cast<int>(heed::Min(c_.blocks.keys, entry_.sees.sk - k0));
      const Columns wanted = FindLive(t, t + 1, k0, keys);
      if (!wanted) continue;
      Pack(wanted, k0, keys);
      ScoreArgs<X> a = ArgsOf(t, k0, keys);
      for (Columns left = wanted; left; left &= left - 1) {
        int count;
        const bool edge = Aim(t, k0, keys, __builtin_ctzll(left), left, &a, &count) == 0;
        ProbabilityTiles<kVecs>(a, rows, count, edge);
        const int end = keys - a.key < kKeys ? keys - a.key : kKeys;
        for (int r = a.at * W; r < rows.rows && r < (a.at + count) * W; r++)
          WriteKeys(t, r, a, end);
      }
    }
  }
  template <int kCount>
  void ProbabilityTiles(const ScoreArgs<X>& a, RowState& rows, int count, bool edge) {
    if constexpr (kCount > 1)
      if (count < kCount) return ProbabilityTiles<kCount - 1>(a, rows, count, edge);
    ProbabilityTile<X, kCount>(a, rows, edge, w_.factor);
  }
  void WriteKeys(int t, int r, const ScoreArgs<X>& a, int count) {
    const RowFacts& f = w_.facts[t];
    const std::int64_t at =
        ((b_ * c_.q_heads + f.head[r]) * c_.q_len + f.query[r]) * c_.k_len + a.j;
    float each[kKeys];
    for (int key = 0; key < count; key++) each[key] = a.scores[key * kRows + r - a.at * W];
    for (int key = 0; key < count; key++) {
      float lanes[W] = {each[key]};
      if (c_.out_dtype == DType::kF32)
        Format<DType::kF32>::NarrowN(static_cast<float*>(c_.probs) + at + key, Load(lanes), 1);
      else
        F::NarrowN(static_cast<E*>(c_.probs) + at + key, Load(lanes), 1);
    }
  }

  const ForwardCall& c_;
  LookAhead<E> look_;
  std::int64_t next_ = 0;
  Work<F> w_;
  float q_factor_, s_factor_, outer_;
  bool plain_;  // full tiles need no general tile
  bool packs_k_, packs_v_;
  // Of the current group.
  std::int64_t b_ = 0;
  Entry entry_;
  KeyRows<E> keys_;
  // Of a split: the piece, its number, and what it leaves behind.
  Interval piece_ = {0, INT64_MAX};
  std::int64_t number_ = 0;
  Partial part_ = {};
  std::int64_t rows_at_[kMaxTiles];
};

}  // namespace heed::cpu::HEED_ISA
