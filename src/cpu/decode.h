// decode.h: a piece of a decode: up to kDecodeRows query rows of one entry (all of which share its
// keys: the heads of a group, times a few queries) walk a run of keys. Not here: products
// (decode_tiles.h), the rows (decode_rows.h), softmax (decode_softmax.h), joining the pieces
// (pieces.h), bias, masks, dropout (softmax.h).
#pragma once

#include "cpu/decode_softmax.h"

namespace heed::cpu::HEED_ISA {

template <class F, int kLive>
class Decode : DecodeSoftmax<F, kLive> {
  using Base = DecodeSoftmax<F, kLive>;
  using Base::a_;
  using Base::kBlock;
  using Base::kFarBlocks;
  using Base::kNearBlocks;
  using Base::kSlots;
  using Base::last_;
  using Base::low_;
  using Base::p_;
  using Base::padded_;
  using Base::q_;
  using Base::q_step_;
  using Base::scores_;
  using Base::staged_;
  using Base::stages_;
  using Base::steps_;
  using Base::units_;
  using typename Base::Block;
  using typename Base::E;
  using typename Base::L;
  using typename Base::U;
  using typename Base::X;

 public:
  using Base::Carve;

  void Run(const DecodeArgs<E>& a, void* workspace) {
    Base::Take(a, workspace);
    for (int h = 0; h < a.heads; h++) Base::Begin(h);
    Walk(0, a.heads);
    for (int h = 0; h < a.heads; h++) {
      // A large v times p above 1, summed, may be infinite before it is divided: once more with the
      // sum in the exponent. What is infinite or NaN by right stays so.
      if (HEED_UNLIKELY(!Base::Finish(h))) {
        Base::Restart(h);
        Walk(h, h + 1);
        Base::Finish(h);
      }
    }
  }

 private:
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
    Base::Softmax(h, block);
    Values<kAhead>(v, Base::RowO(h), v_looks);
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
