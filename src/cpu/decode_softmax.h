// decode_softmax.h: the scores of one block of keys become weights: terms, edges, maximum, sums. Not
// here: products (decode_tiles.h), the walk over blocks (decode.h).
#pragma once

#include "cpu/decode_rows.h"
#include "cpu/score_lanes.h"

namespace heed::cpu::HEED_ISA {

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

template <class F, int kLive>
class DecodeSoftmax : protected DecodeRows<F, kLive> {
 protected:
  using Base = DecodeRows<F, kLive>;
  using Base::a_;
  using Base::all_first_;
  using Base::all_last_;
  using Base::factors_;
  using Base::kBlock;
  using Base::kGroups;
  using Base::kGrown;
  using Base::kLanes;
  using Base::kSlots;
  using Base::kVectors;
  using Base::p_;
  using Base::padded_;
  using Base::scores_;
  using Base::state_;
  using typename Base::Block;
  using typename Base::E;
  using typename Base::L;
  using typename Base::State;
  using typename Base::U;
  using typename Base::X;

  // scores_ -> p_.
  HEED_INLINE void Softmax(int h, const Block& block) {
    State& s = state_[h];
    const bool edge = block.rows < kBlock || !SeenByAll(block.key, block.key + kBlock);
    float factor = factors_.product;
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
        if (X::kDot) x = Mul(x, Set(factors_.product));
        if (a.terms.any()) {
          At<T> place;
          place.slope = Load(s.slope + v * W);
          place.distance = Sub(Load(position + v * W), key);
          place.bias = Zero();
          x = Offset<T>(a.terms, Cap<T>(a.terms, x), place);
          x = Mul(x, Set(factors_.outer));
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
      float* const o = Base::RowO(h) + static_cast<std::int64_t>(v * L::kLaneRows + r) * padded_;
      for (int c = 0; c < padded_; c += W) Store(o + c, Mul(Load(o + c), Set(f[r * kSlots])));
    }
  }
};

}  // namespace heed::cpu::HEED_ISA
