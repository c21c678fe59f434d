// decode_tiles.h: the two products of a few query rows with a block of keys, for calls that memory
// bounds: K and V are read once, where they lie, by row pointers. Not here: softmax, the walk over
// blocks (decode.h).
#pragma once

#include "cpu/packing.h"

namespace heed::cpu::HEED_ISA {

// Where row r and key j of a block lie in its scores. A vector holds kSlots keys of kLaneRows rows;
// 8 rows and 16 lanes:
//
//   lane  0    1    2    3    4    5          14   15
//         r0j0 r0j1 r1j0 r1j1 r2j0 r2j1  ...  r7j0 r7j1    then j2, j3; and so on
//
// While a score is summed up the kSlots lanes hold partial sums of it, each over every kSlots-th
// unit of the dim: keys are read kSlots units at a time, the same for every row. So no row needs a
// horizontal sum over all lanes (measured for 8 rows of bf16, of the dot peak: 86 % for one row
// per vector and a tree over 16 lanes, 90 % for 4 rows, 99 % for 8).
template <int kLive>
struct RowLanes {
  // 4 rows of 16 lanes: two vectors of 2 rows, since a broadcast of 128 or 256 bits takes the load
  // port twice (80 against 68 % of the dot peak).
  static constexpr int kLaneRows = W == 16 && kLive == 4 ? 2 : kLive < W ? kLive : W;
  static constexpr int kSlots = W / kLaneRows;
  static constexpr int kVectors = kLive / kLaneRows;
  static constexpr int RowAt(int r) { return r / kLaneRows * W + r % kLaneRows * kSlots; }
  static constexpr int KeyAt(int j) { return j / kSlots * kVectors * W + j % kSlots; }
  // Keys whose sums are in registers at once: 8 chains hide the latency of a product.
  static constexpr int kTile = kSlots > 4 ? kSlots : kVectors == 1 ? 8 : kVectors <= 4 ? 4 : 1;
};

// Asks for the rows of a later block, line by line, in the order of their addresses: one line for
// each that is consumed, spread over both products. In bursts, or in the order of use, it is worth
// a third of that.
class Look {
 public:
  HEED_INLINE void Begin(const char* const* rows, std::int64_t offset, int count, int lines) {
    if (count == 0) return;
    rows_ = rows;
    offset_ = offset;
    rows_left_ = count - 1;
    per_row_ = lines_left_ = lines;
    p_ = rows[0] + offset;
    step_ = 64;
  }
  template <int kLines, int kLocality>
  HEED_INLINE void Touch() {
    HEED_UNROLL for (int i = 0; i < kLines; i++) {
      __builtin_prefetch(p_, 0, kLocality);
      p_ += step_;
      if (--lines_left_ == 0) Next();
    }
  }

 private:
  HEED_INLINE void Next() {
    if (rows_left_ > 0) {
      rows_left_--;
      rows_++;
      p_ = *rows_ + offset_;
      lines_left_ = per_row_;
    } else {  // stay
      p_ -= step_;
      step_ = 0;
      lines_left_ = INT32_MAX;
    }
  }
  const char* p_ = reinterpret_cast<const char*>(this);
  std::int64_t step_ = 0, offset_ = 0;
  const char* const* rows_ = nullptr;
  int lines_left_ = INT32_MAX, rows_left_ = 0, per_row_ = 0;
};
// One into L1, and one further ahead into L2.
enum class LookFor : std::uint8_t { kNone, kFar, kBoth };
struct Looks {
  Look near, far;
  template <int kLines, LookFor kAhead>
  HEED_INLINE void Touch() {
    if constexpr (kAhead == LookFor::kBoth) near.Touch<kLines, 3>();
    if constexpr (kAhead != LookFor::kNone) far.Touch<kLines, 2>();
  }
};

template <class X, int kCount>
HEED_INLINE auto RepeatUnits(const void* p) {
#if defined(HEED_NATIVE_BF16)
  if constexpr (X::kDot) return RepeatP<kCount>(p);
#endif
  if constexpr (!X::kDot) return Repeat<kCount>(static_cast<const float*>(p));
}

// Lane i of the result: the sum of the lanes i / kCount * kCount ... of r[i mod kCount].
template <int kCount, int kStep = 1>
HEED_INLINE V FoldAll(V* r) {
  if constexpr (kStep == kCount) {
    return r[0];
  } else {
    HEED_UNROLL for (int i = 0; i < kCount / kStep / 2; i++) r[i] =
        FoldPairs<kStep>(r[2 * i], r[2 * i + 1]);
    return FoldAll<kCount, 2 * kStep>(r);
  }
}

// scores[KeyAt(j) + RowAt(r)] = k[j] . q[r] for kKeys keys. q: [steps][kVectors][W] units; k: rows
// of steps * kSlots readable units.
template <class X, int kLive, int kKeys, LookFor kAhead>
HEED_NOINLINE void ScoreRows(const void* const* k, const typename X::U* q, int steps, float* scores,
                             Looks* looks) {
  using L = RowLanes<kLive>;
  constexpr int kSlots = L::kSlots, kVectors = L::kVectors, kTile = L::kTile;
  // Few rows: 4 keys at a time to their end, so that memory is read in runs.
  constexpr int kRun = kLive <= 2 && kTile > 4 ? 4 : kTile;
  constexpr int kLines = (kRun * kSlots * 4 * 2 + 63) / 64;  // of two steps
  for (int j = 0; j < kKeys; j += kTile) {
    V acc[kTile][kVectors];
    const char* p[kTile];
    HEED_UNROLL for (int x = 0; x < kTile; x++) {
      p[x] = static_cast<const char*>(k[j + x]);
      HEED_UNROLL for (int v = 0; v < kVectors; v++) acc[x][v] = Zero();
    }
    HEED_UNROLL for (int x0 = 0; x0 < kTile; x0 += kRun) {
      const auto step = [&](int c) __attribute__((always_inline)) {
        decltype(X::Ld(q)) qs[kVectors];
        HEED_UNROLL for (int v = 0; v < kVectors; v++) qs[v] = X::Ld(q + (c * kVectors + v) * W);
        HEED_UNROLL for (int x = x0; x < x0 + kRun; x++) {
          const auto b = RepeatUnits<X, kSlots>(p[x] + c * (kSlots * 4));
          HEED_UNROLL for (int v = 0; v < kVectors; v++) acc[x][v] = X::Mac(b, qs[v], acc[x][v]);
        }
      };
      int c = 0;
      for (; c + 2 <= steps; c += 2) {
        looks->Touch<kLines, kAhead>();
        step(c);
        step(c + 1);
      }
      if (c < steps) step(c);
    }
    HEED_UNROLL for (int g = 0; g < kTile / kSlots; g++)
        HEED_UNROLL for (int v = 0; v < kVectors; v++) {
      V r[kSlots];
      HEED_UNROLL for (int i = 0; i < kSlots; i++) r[i] = acc[g * kSlots + i][v];
      Store(scores + L::KeyAt(j + g * kSlots) + v * W, FoldAll<kSlots>(r));
    }
  }
}

// kCols vectors of columns of V as units: of one key as floats, or of two keys zipped; vectors 2i and
// 2i + 1 of pairs come as ZipRowsApart has them. kTail: one vector, of `tail` columns.
template <class F, int kCols, bool kTail, class Unit>
HEED_INLINE void LoadColumns(const typename F::E* a, [[maybe_unused]] const typename F::E* b,
                             [[maybe_unused]] int tail, Unit (&x)[kCols]) {
  if constexpr (!F::X::kDot) {
    HEED_UNROLL for (int v = 0; v < kCols; v++) x[v] =
        kTail ? F::WidenN(a, tail) : F::Widen(a + v * W);
  }
#if defined(HEED_NATIVE_BF16)
  if constexpr (F::X::kDot) {
    HEED_UNROLL for (int v = 0; v + 1 < kCols; v += 2)
        ZipRowsApart(a + v * W, b + v * W, x[v], x[v + 1]);
    constexpr int kLast = kCols - 1;
    if constexpr (kTail)
      x[0] = ZipRowsN(a, b, tail);
    else if constexpr (kCols % 2)
      x[kLast] = ZipRows(a + kLast * W, b + kLast * W);
  }
#endif
}

// Rows of o, `step` floats apart. Where they come from is where they go to: two names, lest the
// compiler keeps every address through the loop between, in registers that the sums need.
struct Sums {
  const float* from;
  float* to;
  std::int64_t step;
};

// o[r][:] += sum over kKeys keys of p * v, for kGroup rows and kCols vectors of columns from
// `column` on (kTail: one, of `tail` columns). p, of the first of these rows, is laid out as the
// scores are; pairs: of keys j and j + kSlots, so that two vectors of scores become one.
template <class F, int kLive, int kKeys, int kGroup, int kCols, bool kTail, LookFor kAhead>
HEED_NOINLINE void ValueRows(const typename F::E* const* values, const typename F::X::U* p,
                             int column, int tail, const Sums& o, Looks* looks) {
  using X = typename F::X;
  using L = RowLanes<kLive>;
  constexpr int kPair = X::kPair, kSlots = L::kSlots;
  constexpr int kLines =
      (2 * kCols * W * static_cast<int>(sizeof(typename F::E)) + 63) / 64;  // of two keys
  V acc[kGroup][kCols];
  HEED_UNROLL for (int r = 0; r < kGroup; r++) HEED_UNROLL for (int v = 0; v < kCols; v++)
      acc[r][v] = Load(o.from + r * o.step + column + v * W);
  const auto unit = [&](int u) __attribute__((always_inline)) {
    const int j = u / kSlots * (kSlots * kPair) + u % kSlots;
    decltype(X::Ld(p)) x[kCols];
    LoadColumns<F, kCols, kTail>(values[j] + column, values[j + (kPair - 1) * kSlots] + column,
                                 tail, x);
    HEED_UNROLL for (int r = 0; r < kGroup; r++) {
      const auto w = X::Broadcast(p + L::KeyAt(u) + L::RowAt(r));
      HEED_UNROLL for (int v = 0; v < kCols; v++) acc[r][v] = X::Mac(w, x[v], acc[r][v]);
    }
  };
  constexpr int kStride = 2 / kPair;
  for (int u = 0; u < kKeys / kPair; u += kStride) {
    looks->Touch<kLines, kAhead>();
    HEED_UNROLL for (int i = 0; i < kStride; i++) unit(u + i);
  }
  HEED_UNROLL for (int r = 0; r < kGroup; r++) HEED_UNROLL for (int v = 0; v < kCols; v++)
      Store(o.to + r * o.step + column + v * W, acc[r][v]);
}

}  // namespace heed::cpu::HEED_ISA
