// decode_rows.h: the query rows of a piece of a decode: what it is asked for, packed Q, the state of
// their softmax, and what they leave behind. Not here: scores (decode_softmax.h), the walk over the
// keys (decode.h), joining the pieces (pieces.h).
#pragma once

#include "cpu/carve.h"
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
class DecodeRows {
 protected:
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
  // p reaches 2^8 before m is raised: after its first block a row rarely does it again.
  static constexpr float kGrown = 8;
  static_assert(kBlock % L::kTile == 0 && kBlock % (kPair * kSlots) == 0);

 public:
  // Carves the workspace; returns its size.
  std::int64_t Carve(void* base, int dim, int dim_v, int heads) {
    padded_ = RoundUp(dim_v, W);
    units_ = (dim + kPair - 1) / kPair;
    steps_ = (units_ + kSlots - 1) / kSlots;
    Carver take(base);
    q_step_ = steps_ * kVectors * W;
    take(state_, heads);
    take(q_, static_cast<std::int64_t>(heads) * q_step_);
    take(o_, static_cast<std::int64_t>(heads) * kLive * padded_);
    take(scores_, kBlock * kLive + W);
    take(p_, kBlock * kLive + W);
    take(staged_, static_cast<std::int64_t>(kBlock) * steps_ * kSlots);
    take(row_, RoundUp(dim, 2 * W) + W);
    return take.bytes;
  }

 protected:
  void Take(const DecodeArgs<E>& a, void* workspace) {
    a_ = &a;
    Carve(workspace, a.dim, a.dim_v, a.heads);
    stages_ = !kInPlace || a.dim % (kSlots * kPair) != 0;
    factors_ = ScoreFactors::Of<X>(a.terms);
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
  }

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
        for (int c = 0; c < a.dim; c += W) Store(row_ + c, Mul(Load(row_ + c), Set(factors_.q)));
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
  // Where the rows of a block lie, for the first kv head.
  struct Block {
    std::int64_t key;
    int rows;
    const char *k[kBlock], *v[kBlock];
  };

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
  ScoreFactors factors_;
  std::int64_t low_, high_, all_first_, all_last_, last_;
};

}  // namespace heed::cpu::HEED_ISA
