// decode.h: a piece of a decode: up to kDecodeRows query rows of one entry (all of which share its
// keys: the heads of a group, times a few queries) against a run of keys. Not here: products
// (decode_tiles.h), joining the pieces (pieces.h), bias, masks, dropout (softmax.h).
#pragma once

#include "cpu/decode_tiles.h"
#include "cpu/exp2.h"
#include "cpu/keys.h"
#include "cpu/pieces.h"
#include "cpu/rows.h"
#include "cpu/score_lanes.h"

namespace heed::cpu::HEED_ISA {

inline constexpr int kDecodeRows = kFewRows, kDecodeHeads = kHeadsAtOnce;

// Rows that the kernels compute for `rows`: a power of two. The others repeat the last one.
constexpr int DecodeRowsOf(int rows) {
  int live = 1;
  while (live < rows) live *= 2;
  return live;
}

// `heads` kv heads are walked together, block of keys by block, so that a cache with interleaved
// heads is read in the order of its addresses; head h has rows of its own, q[h * rows ...].
template <class E>
struct DecodeArgs {
  int dim = 0, dim_v = 0, rows = 0, heads = 1;
  KeyRows<E> keys;                      // of the first kv head
  std::int64_t k_head = 0, v_head = 0;  // elements from a kv head to the next
  const E* const* q = nullptr;
  std::int64_t first = 0, last = 0;  // the piece's keys
  std::int64_t end = 0;              // of the entry's keys: as far as the piece may ask ahead
  bool cached = false;               // K and V are in a cache: nothing is asked for ahead

  // Row r sees keys [row_first[r], row_last[r]) and those below the prefix.
  const std::int64_t *row_first = nullptr, *row_last = nullptr;
  std::int64_t prefix = 0;

  Terms<float> terms;                       // without a bias
  const float* slopes = nullptr;            // [heads * rows] or null
  const std::int64_t* positions = nullptr;  // [rows], where a term asks: query + shift

  const float* sinks =
      nullptr;  // [heads * rows], in units of log2, kHidden: none; in one piece alone

  Partial parts[kDecodeHeads];  // of each head: m (stale by at most 2^8), l, r and o of `rows` rows
};

// One lane vector of scores as an operand of the score terms.
struct VectorLanes {
  using Real = V;
  using Scalar = float;
  static HEED_INLINE V Const(float x) { return Set(x); }
  static HEED_INLINE V Add(V a, V b) { return HEED_ISA::Add(a, b); }
  static HEED_INLINE V Mul(V a, V b) { return HEED_ISA::Mul(a, b); }
  static HEED_INLINE V NegMulAdd(V a, V b, V c) { return Sub(c, HEED_ISA::Mul(a, b)); }
  static HEED_INLINE V Abs(V a) { return HEED_ISA::Abs(a); }
  static HEED_INLINE V Tanh(V a) { return HEED_ISA::Tanh(a); }
};

// The softmax of one head's rows; lanes as in RowLanes: each of a row's kSlots lanes has its own
// sum, over every kSlots-th key. The maximum is the row's.
template <int kLanes>
struct DecodeState {
  float m[kLanes];
  float limit[kLanes];  // m is raised by a score above it; kHidden until the row has seen one
  float l[kLanes], lr[kLanes];  // lr: pairs only, the sum of p as rounded
  float slope[kLanes];
};

template <class F, int kLive>
class Decode {
  using E = typename F::E;
  using X = typename F::X;
  using U = typename X::U;
  using L = RowLanes<kLive>;
  static constexpr int kPair = X::kPair, kSlots = L::kSlots, kVectors = L::kVectors;
  static constexpr int kLanes = kVectors * W;
  using State = DecodeState<kLanes>;
  static constexpr bool kInPlace = X::kDot || sizeof(E) == 4;  // K is not widened
  // Keys of a block, and how many blocks ahead of the products lines are asked for. Few rows wait
  // for memory: blocks are small, and f32 and single rows ask once more, for L1. With many rows,
  // where products take as long as memory, larger blocks load and store o less often, and what lies
  // in L2 is soon enough; lines in L1 that early would push out the block in hand (and the
  // next 8 rows alone, asked for in L1, gain nothing).
  static constexpr bool kHeavy = kLive >= 8;
  static constexpr int kBlock = (kHeavy ? 128 : 64) / static_cast<int>(sizeof(E));
  static constexpr int kNearBlocks = !kHeavy && (sizeof(E) == 4 || kLive == 1) ? 1 : 0,
                       kFarBlocks = kHeavy ? 2 : 3;
  static constexpr int kGroups = kBlock / kSlots;  // vectors of scores per kVectors
  static_assert(kBlock % L::kTile == 0 && kBlock % (kPair * kSlots) == 0);

 public:
  // Carves the workspace; returns its size.
  std::int64_t Carve(void* base, int dim, int dim_v, int heads) {
    padded_ = RoundUp(dim_v, W);
    units_ = (dim + kPair - 1) / kPair;
    steps_ = (units_ + kSlots - 1) / kSlots;
    std::int64_t at = 0;
    char* const p = static_cast<char*>(base);
    const auto take = [&]<class T>(T*& out, std::int64_t count) {
      out = p ? reinterpret_cast<T*>(p + at) : nullptr;
      at += (count * static_cast<std::int64_t>(sizeof(T)) + 63) / 64 * 64;
    };
    q_step_ = steps_ * kVectors * W;
    take(state_, heads);
    take(q_, static_cast<std::int64_t>(heads) * q_step_);
    take(o_, static_cast<std::int64_t>(heads) * kLive * padded_);
    take(scores_, kBlock * kLive + W);
    take(p_, kBlock * kLive + W);
    take(staged_, static_cast<std::int64_t>(kBlock) * steps_ * kSlots);
    take(row_, RoundUp(dim, 2 * W) + W);
    return at;
  }

  void Run(const DecodeArgs<E>& a, void* workspace) {
    a_ = &a;
    Carve(workspace, a.dim, a.dim_v, a.heads);
    stages_ = !kInPlace || a.dim % (kSlots * kPair) != 0;
    const Exp2Factors<float> factors = FoldExp2(a.terms);
    q_factor_ = X::kDot ? 1.f : factors.inner;
    s_factor_ = X::kDot ? factors.inner : 1.f;
    outer_ = factors.outer;
    low_ = high_ = a.row_first[0];
    all_first_ = a.row_first[0];
    all_last_ = high_ = a.row_last[0];
    for (int r = 1; r < a.rows; r++) {
      low_ = heed::Min(low_, a.row_first[r]);
      all_first_ = heed::Max(all_first_, a.row_first[r]);
      all_last_ = heed::Min(all_last_, a.row_last[r]);
      high_ = heed::Max(high_, a.row_last[r]);
    }
    last_ = heed::Min(a.last, heed::Max(high_, a.prefix));
    for (int h = 0; h < a.heads; h++) Begin(h);
    Walk(0, a.heads);
    for (int h = 0; h < a.heads; h++) {
      // A large v times p above 1, summed, may be infinite before it is divided: once more with the
      // sum in the exponent. What is infinite or NaN by right stays so.
      if (HEED_UNLIKELY(!Finish(h))) {
        Restart(h);
        Walk(h, h + 1);
        Finish(h);
      }
    }
  }

 private:
  float* RowO(int h) const { return o_ + static_cast<std::int64_t>(h) * kLive * padded_; }

  void Begin(int h) {
    const DecodeArgs<E>& a = *a_;
    State& s = state_[h];
    U* const q = q_ + static_cast<std::int64_t>(h) * q_step_;
    for (int r = 0; r < kLive; r++) {
      const int from = h * a.rows + (r < a.rows ? r : a.rows - 1);
      U* const to = q + L::RowAt(r);
      if constexpr (X::kDot) {
        row_[units_ - 1] = 0;
        __builtin_memcpy(row_, a.q[from], static_cast<std::size_t>(a.dim) * sizeof(E));
      } else {
        WidenRow<F>(a.q[from], a.dim, row_, a.dim);
        for (int c = 0; c < a.dim; c += W) Store(row_ + c, Mul(Load(row_ + c), Set(q_factor_)));
      }
      for (int c = units_; c < steps_ * kSlots; c++) row_[c] = 0;
      for (int c = 0; c < steps_; c++)
        __builtin_memcpy(to + c * kVectors * W, row_ + c * kSlots, kSlots * 4);
      const float slope = a.slopes ? a.slopes[from] : 0;
      for (int i = 0; i < kSlots; i++) s.slope[L::RowAt(r) + i] = slope;
    }
    for (int i = 0; i < kLanes; i++) {
      s.m[i] = kUnset;
      s.limit[i] = kHidden;
      s.l[i] = s.lr[i] = 0;
    }
    for (int r = 0; a.sinks && r < kLive; r++) {
      const float sink = SinkOf(h, r);
      if (sink == kHidden) continue;
      for (int i = 0; i < kSlots; i++) {
        s.m[L::RowAt(r) + i] = sink;
        s.limit[L::RowAt(r) + i] = sink + kGrown;
      }
      s.l[L::RowAt(r)] = s.lr[L::RowAt(r)] = sink * 0 + 1;  // an infinity or a NaN stays one
    }
    __builtin_memset(RowO(h), 0, static_cast<std::size_t>(kLive) * padded_ * sizeof(float));
  }

  float SinkOf(int h, int r) const {
    return a_->sinks[h * a_->rows + (r < a_->rows ? r : a_->rows - 1)];
  }

  // ------------------------------------------------------------- the walk

  // Where the rows of a block lie, for the first kv head.
  struct Block {
    std::int64_t key;
    int rows;
    const char *k[kBlock], *v[kBlock];
  };
  static constexpr int kRing = 4;  // more than kFarBlocks

  // Blocks begin at multiples of their size from the piece's first key; those between the prefix
  // and the first key that any row sees are left out.
  std::int64_t Visited(std::int64_t key) const {
    return key >= a_->prefix && key < low_ ? key + (low_ - key) / kBlock * kBlock : key;
  }
  void Fill(Block* b, std::int64_t key) const {
    const std::int64_t last = key < last_ ? last_ : a_->end;
    b->key = key;
    b->rows = static_cast<int>(Clamp(last - key, 0, kBlock));
    for (int i = 0; i < b->rows;) {
      const KeyRows<E>& keys = a_->keys;
      const int end = static_cast<int>(heed::Min(i + keys.Run(key + i), b->rows));
      const E *k = keys.K(key + i), *v = keys.V(key + i);
      for (; i < end; i++, k += keys.k_step, v += keys.v_step) {
        b->k[i] = reinterpret_cast<const char*>(k);
        b->v[i] = reinterpret_cast<const char*>(v);
      }
    }
  }

  void Walk(int h0, int h1) {
    if (a_->cached) return WalkOf<LookFor::kNone>(h0, h1);
    WalkOf<kNearBlocks == 0 ? LookFor::kFar : LookFor::kBoth>(h0, h1);
  }
  template <LookFor kAhead>
  void WalkOf(int h0, int h1) {
    constexpr std::int64_t kBytes = sizeof(E);
    const int heads = h1 - h0;
    const int k_lines = static_cast<int>((a_->dim * kBytes + 63) / 64),
              v_lines = static_cast<int>((a_->dim_v * kBytes + 63) / 64);
    Block ring[kRing];
    int filled = 0;
    std::int64_t next = Visited(a_->first);
    for (int n = 0;; n++) {
      const int need = kAhead == LookFor::kNone ? n : n + (kFarBlocks + heads - 1) / heads;
      for (; filled <= need; filled++) {
        Fill(&ring[filled % kRing], next);
        next = Visited(next + kBlock);
      }
      const Block& block = ring[n % kRing];
      if (block.key >= last_) break;
      for (int h = h0; h < h1; h++) {
        // The block and head that are `by` further.
        const auto look = [&](int by, bool values) __attribute__((always_inline)) {
          Look l;
          const int unit = h - h0 + by, head = h0 + unit % heads;
          const Block& b = ring[(n + unit / heads) % kRing];
          l.Begin(values ? b.v : b.k, head * (values ? a_->v_head : a_->k_head) * kBytes, b.rows,
                  values ? v_lines : k_lines);
          return l;
        };
        Looks k_looks, v_looks;
        if constexpr (kAhead == LookFor::kBoth) {
          k_looks.near = look(kNearBlocks, false);
          v_looks.near = look(kNearBlocks, true);
        }
        if constexpr (kAhead != LookFor::kNone) {
          k_looks.far = look(kFarBlocks, false);
          v_looks.far = look(kFarBlocks, true);
        }
        Head<kAhead>(h, block, &k_looks, &v_looks);
      }
    }
  }

  // One block of one head.
  template <LookFor kAhead>
  HEED_INLINE void Head(int h, const Block& block, Looks* k_looks, Looks* v_looks) {
    alignas(64) static constexpr E kZeros[1024] = {};
    const E *k[kBlock], *v[kBlock];
    for (int i = 0; i < kBlock; i++) {
      // What does not exist is not read: p is 0 there, and a NaN behind the last row would stay.
      const bool exists = i < block.rows;
      k[i] = exists ? reinterpret_cast<const E*>(block.k[i]) + h * a_->k_head : kZeros;
      v[i] = exists ? reinterpret_cast<const E*>(block.v[i]) + h * a_->v_head : kZeros;
    }
    const void* at[kBlock];
    for (int i = 0; i < kBlock; i++) at[i] = stages_ ? Stage(i, k[i]) : k[i];
    ScoreRows<X, kLive, kBlock, kAhead>(at, q_ + static_cast<std::int64_t>(h) * q_step_, steps_,
                                        scores_, k_looks);
    Softmax(h, block);
    Values<kAhead>(v, RowO(h), v_looks);
  }

  const void* Stage(int i, const E* row) {
    U* const to = staged_ + static_cast<std::int64_t>(i) * steps_ * kSlots;
    if constexpr (X::kDot) {
      to[units_ - 1] = 0;
      __builtin_memcpy(to, row, static_cast<std::size_t>(a_->dim) * sizeof(E));
      for (int c = units_; c < steps_ * kSlots; c++) to[c] = 0;
    } else {
      WidenRow<F>(row, a_->dim, to, steps_ * kSlots);
    }
    return to;
  }

  // ------------------------------------------------------------- softmax

  // scores_ -> p_.
  HEED_INLINE void Softmax(int h, const Block& block) {
    State& s = state_[h];
    const bool edge = block.rows < kBlock || !SeenByAll(block.key, block.key + kBlock);
    float factor = s_factor_;
    if (HEED_UNLIKELY(edge || a_->terms.any())) {
      Settle(s, block, edge);
      factor = 1;
    }
    for (int v = 0; v < kVectors; v++) {
      V x[kGroups], top = Set(kHidden);
      HEED_UNROLL for (int g = 0; g < kGroups; g++) {
        x[g] = Load(scores_ + (g * kVectors + v) * W);
        // Rounded here, not fused with the subtraction of m: s - m is exactly 0 at the maximum.
        if (X::kDot) x[g] = Mul(x[g], Set(factor));
        top = Max(top, x[g]);
      }
      if (HEED_UNLIKELY(Any(Lt(Load(s.limit + v * W), top)))) Raise(h, v, top);
      const V m = Load(s.m + v * W);
      V sum = Load(s.l + v * W);
      HEED_UNROLL for (int g = 0; g < kGroups; g++) {
        x[g] = Exp2OrZero < X::kDot ? 4 : 5 > (Sub(x[g], m));
        sum = Add(sum, x[g]);
      }
      Store(s.l + v * W, sum);
      StoreWeights(v, x, s);
    }
  }

  HEED_INLINE void StoreWeights(int v, const V (&p)[kGroups], [[maybe_unused]] State& s) {
    if constexpr (!X::kDot) {
      HEED_UNROLL for (int g = 0; g < kGroups; g++) Store(p_ + (g * kVectors + v) * W, p[g]);
    }
#if defined(HEED_NATIVE_BF16)
    if constexpr (X::kDot) {
      V sum = Load(s.lr + v * W);
      HEED_UNROLL for (int g = 0; g < kGroups; g += 2) {
        const VP both = PackP(p[g], p[g + 1]);
        StoreP(p_ + (g / 2 * kVectors + v) * W, both);
        sum = Dot(both, SetP(0x3f803f80), sum);  // 1, 1
      }
      Store(s.lr + v * W, sum);
    }
#endif
  }

  bool SeenByAll(std::int64_t first, std::int64_t last) const {
    const std::int64_t from = first < a_->prefix ? heed::Min(a_->prefix, last) : first;
    return from >= last || (all_first_ <= from && last <= all_last_);
  }

  // Scores with their factor and all terms, -infinity where not seen, in place.
  HEED_NOINLINE void Settle(State& s, const Block& block, bool edge) {
    using T = VectorLanes;
    const DecodeArgs<E>& a = *a_;
    float first[kLanes], last[kLanes], position[kLanes], slot[W];
    const auto within = [&](std::int64_t j) {
      return static_cast<float>(Clamp(j - block.key, 0, block.rows));
    };
    const float prefix = within(a.prefix);
    for (int r = 0; r < kLive; r++) {
      const int from = r < a.rows ? r : a.rows - 1;
      for (int i = 0; i < kSlots; i++) {
        const int lane = L::RowAt(r) + i;
        first[lane] = within(a.row_first[from]);
        last[lane] = within(a.row_last[from]);
        position[lane] =
            a.terms.positional() ? static_cast<float>(a.positions[from] - block.key) : 0.f;
      }
    }
    for (int i = 0; i < W; i++) slot[i] = static_cast<float>(i % kSlots);
    for (int g = 0; g < kGroups; g++) {
      const V key = Add(Load(slot), Set(static_cast<float>(g * kSlots)));
      for (int v = 0; v < kVectors; v++) {
        float* const at = scores_ + (g * kVectors + v) * W;
        V x = Load(at);
        if (X::kDot) x = Mul(x, Set(s_factor_));
        if (a.terms.any()) {
          At<T> place;
          place.slope = Load(s.slope + v * W);
          place.distance = Sub(Load(position + v * W), key);
          place.bias = Zero();
          x = Offset<T>(a.terms, Cap<T>(a.terms, x), place);
          x = Mul(x, Set(outer_));
        }
        if (edge) {
          const M seen = Or(Lt(key, Set(prefix)),
                            And(Le(Load(first + v * W), key), Lt(key, Load(last + v * W))));
          x = Select(seen, x, Set(kHidden));
        }
        Store(at, x);
      }
    }
  }

  // Some lane of vector v has outgrown its row's m: m becomes the largest score of the row so far.
  HEED_NOINLINE void Raise(int h, int v, V top) {
    State& s = state_[h];
    const int at = v * W;
    float t[W] = {}, f[W] = {};
    Store(t, top);
    for (int r = 0; r < L::kLaneRows; r++) {
      float most = kHidden;
      for (int i = 0; i < kSlots; i++) {
        const float x = t[r * kSlots + i];
        if (x > most) most = x;
      }
      for (int i = 0; i < kSlots; i++) t[r * kSlots + i] = most;
    }
    const V most = Load(t), limit = Load(s.limit + at), m = Load(s.m + at);
    const M grown = Lt(limit, most);
    const V raised = Select(grown, most, m);
    // Of a row that has seen nothing the sums are 0 (or NaN), and m - raised may be anything.
    const V factor = Select(Eq(limit, Set(kHidden)), Zero(), Exp2OrZero<5>(Sub(m, raised)));
    Store(s.m + at, raised);
    Store(s.limit + at, Select(grown, Add(raised, Set(kGrown)), limit));
    Store(s.l + at, Mul(Load(s.l + at), factor));
    Store(s.lr + at, Mul(Load(s.lr + at), factor));
    Store(f, factor);
    for (int r = 0; r < L::kLaneRows; r++) {
      if (f[r * kSlots] == 1.f) continue;
      float* const o = RowO(h) + static_cast<std::int64_t>(v * L::kLaneRows + r) * padded_;
      for (int c = 0; c < padded_; c += W) Store(o + c, Mul(Load(o + c), Set(f[r * kSlots])));
    }
  }
  // p reaches 2^8 before m is raised: after its first block a row rarely does it again.
  static constexpr float kGrown = 8;

  // ------------------------------------------------------------- values

  template <LookFor kAhead>
  HEED_INLINE void Values(const E* const* v, float* o, Looks* looks) {
    const int whole = a_->dim_v / W, tail = a_->dim_v % W;
    constexpr int kMost = kSums / kGroup < 8 ? kSums / kGroup : 8;
    const int passes = (whole + kMost - 1) / kMost,
              even = passes ? (whole + passes - 1) / passes : 0,
              each = X::kDot ? RoundUp(even, 2) : even;  // pairs: see ZipRowsApart
    for (int at = 0; at < whole; at += each)
      Columns<kMost, kAhead>(v, at * W, whole - at < each ? whole - at : each, o, looks);
    if (tail) Rows<1, true, kAhead>(v, whole * W, tail, o, looks);
  }
  // A pass over V: its rows x its vectors of columns. Pointers and prefetches need registers too: 24
  // sums instead of 16 lose 5 to 17 points on AVX-512.
  static constexpr int kSums = kAcc >= 16 ? 16 : 8, kGroup = kLive < 8 ? kLive : 8;
  template <int kCols, LookFor kAhead>
  HEED_INLINE void Columns(const E* const* v, int column, int count, float* o, Looks* looks) {
    if constexpr (kCols > 1)
      if (count < kCols) return Columns<kCols - 1, kAhead>(v, column, count, o, looks);
    Rows<kCols, false, kAhead>(v, column, 0, o, looks);
  }
  template <int kCols, bool kTail, LookFor kAhead>
  HEED_INLINE void Rows(const E* const* v, int column, int tail, float* o, Looks* looks) {
    ValueRows<F, kLive, kBlock, kGroup, kCols, kTail, kAhead>(v, p_, column, tail,
                                                              Sums{o, o, padded_}, looks);
    for (int r = kGroup; r < kLive; r += kGroup)
      ValueRows<F, kLive, kBlock, kGroup, kCols, kTail, LookFor::kNone>(
          v, p_ + L::RowAt(r), column, tail,
          Sums{o + static_cast<std::int64_t>(r) * padded_,
               o + static_cast<std::int64_t>(r) * padded_, padded_},
          looks);
  }

  // ------------------------------------------------------------- the end

  // A row's sums over its lanes, and everything to where it belongs. Returns whether every sum of o is
  // finite.
  bool Finish(int h) {
    const State& s = state_[h];
    const Partial& part = a_->parts[h];
    V odd = Zero();
    for (int v = 0; v < kVectors; v++) {
      float l[W] = {}, lr[W] = {};
      Store(l, FoldOne<1>(Load(s.l + v * W)));
      Store(lr, FoldOne<1>(Load(s.lr + v * W)));
      for (int i = 0; i < L::kLaneRows; i++) {
        const int r = v * L::kLaneRows + i, lane = i * kSlots;
        if (r >= a_->rows) break;
        part.m[r] = s.m[v * W + lane];
        part.l[r] = l[lane];
        part.r[r] = X::kDot && l[lane] == l[lane] ? lr[lane] : l[lane];  // rounding may lose a NaN
        odd = Add(odd, FinishRow(RowO(h) + static_cast<std::int64_t>(r) * padded_,
                                 part.o + r * part.o_step));
      }
    }
    return AllLe(odd, odd);
  }
  // Returns NaN where something is not finite.
  V FinishRow(const float* o, float* out) const {
    V odd = Zero();
    int c = 0;
#if defined(HEED_NATIVE_BF16)
    if constexpr (X::kDot)
      for (; c + 2 * W <= a_->dim_v; c += 2 * W) {
        V x = Load(o + c), y = Load(o + c + W);
        InOrder(x, y);
        odd = Fma(x, Zero(), Fma(y, Zero(), odd));
        Store(out + c, x);
        Store(out + c + W, y);
      }
#endif
    for (; c < padded_; c += W) {
      const V x = Load(o + c);
      odd = Fma(x, Zero(), odd);
      Store(out + c, x);
    }
    return odd;
  }
  template <int kStep>
  static HEED_INLINE V FoldOne(V x) {
    if constexpr (kStep < kSlots) {
      return FoldOne<2 * kStep>(FoldPairs<kStep>(x, x));
    } else {
      return x;
    }
  }

  // Sums cleared, and m such that l becomes 1: it is final.
  void Restart(int h) {
    State& s = state_[h];
    for (int r = 0; r < kLive; r++) {
      const int from = r < a_->rows ? r : a_->rows - 1;
      const V l = Set(a_->parts[h].l[from]), m = Set(a_->parts[h].m[from]);
      const V top = Select(Lt(Zero(), l), Add(m, Log2(l)), m);
      const V first = a_->sinks ? Exp2OrZero<5>(Sub(Set(SinkOf(h, r)), top)) : Zero();
      float tops[W] = {}, firsts[W] = {};
      Store(tops, top);
      Store(firsts, first);
      for (int i = 0; i < kSlots; i++) {
        const int lane = L::RowAt(r) + i;
        s.m[lane] = tops[0];
        s.limit[lane] = -kHidden;
        s.l[lane] = s.lr[lane] = i == 0 ? firsts[0] : 0;
      }
    }
    __builtin_memset(RowO(h), 0, static_cast<std::size_t>(kLive) * padded_ * sizeof(float));
  }

  const DecodeArgs<E>* a_;
  State* state_;
  U *q_, *p_, *staged_, *row_;
  float *scores_, *o_;
  int units_, steps_, q_step_, padded_;
  bool stages_;
  float q_factor_, s_factor_, outer_;
  std::int64_t low_, high_, all_first_, all_last_, last_;
};

// Calls op with the Decode for `rows`.
template <class F, class Op>
HEED_INLINE void WithDecode(int rows, Op op) {
  if (rows <= 1) return op(Decode<F, 1>());
  if (rows <= 2) return op(Decode<F, 2>());
  if (rows <= 4) return op(Decode<F, 4>());
  if (rows <= 8) return op(Decode<F, 8>());
  op(Decode<F, 16>());
}

template <class F>
HEED_NOINLINE std::int64_t DecodeWorkspace(int dim, int dim_v, int rows, int heads) {
  std::int64_t bytes = 0;
  WithDecode<F>(rows, [&](auto decode) { bytes = decode.Carve(nullptr, dim, dim_v, heads); });
  return bytes;
}

template <class F>
HEED_NOINLINE void DecodePiece(const DecodeArgs<typename F::E>& a, void* workspace) {
  WithDecode<F>(a.rows, [&](auto decode) { decode.Run(a, workspace); });
}

}  // namespace heed::cpu::HEED_ISA
