// JoinPieces in the emulator against the definition in float64: entries of one piece, of two, of all
// 64; pieces that saw nothing, sinks, infinities and NaN, every result type.
#include "cuda/join.h"

#include "kernels_testing.h"

namespace heed::cuda {
namespace {

constexpr int kBatch = 5, kHeads = 2, kGroup = 3, kQueries = 2, kDimV = 45;
constexpr int kRows = kQueries * kGroup, kTileRows = kRows;
constexpr double kInfinity = INFINITY;

template <class T>
struct Join {
  std::vector<std::int32_t> lengths = {700, 256, 600, 400, 16384};  // 3, 1, 3, 2 and 64 pieces
  std::vector<float> part_o, part_lse, sinks, lse;
  std::vector<T> o;
  std::vector<float> o_f32;
  ForwardCall call;

  explicit Join(bool f32, bool with_sinks, bool want_lse) {
    call.batch = kBatch;
    call.q_heads = kHeads * kGroup;
    call.group = kGroup;
    call.q_len = kQueries;
    call.k_len = 16384;
    call.dim = 8;
    call.dim_v = kDimV;
    call.packed = true;
    call.out_f32 = f32;
    call.schedule = {kBatch, kHeads, kRows, kTileRows, false};
    call.split.pieces = int(PiecesOf(call.k_len));
    call.split.padded = kDimV;
    call.key_lengths = lengths.data();
    call.o_steps = StepsOf(kQueries, kHeads * kGroup, kDimV, 5);
    call.lse_batch = kHeads * kGroup * kQueries;
    call.lse_head = kQueries;
    const size_t rows = size_t(kBatch * kHeads * call.split.pieces * kTileRows);
    Values values(21);
    part_o = values.Of<float>(rows * size_t(call.split.padded));
    part_lse.resize(rows);
    for (float& x : part_lse) x = values.Below(5) == 0 ? -INFINITY : 6 * values.Normal();
    // What no piece of an entry writes may hold anything.
    for (int b = 0; b < kBatch; ++b) {
      for (int n = Pieces(b); n < call.split.pieces; ++n) {
        for (int row = 0; row < kHeads * kRows; ++row)
          LseOf(b, row / kRows, n, row % kRows) = INFINITY;
      }
    }
    sinks = values.Of<float>(kHeads * kGroup);
    sinks[1] = 80;  // above everything
    sinks[2] = -INFINITY;
    o.resize(size_t(kBatch * call.o_steps.batch));
    o_f32.resize(o.size());
    lse.resize(size_t(kBatch * call.lse_batch));
    call.o = f32 ? static_cast<void*>(o_f32.data()) : static_cast<void*>(o.data());
    call.split.o = part_o.data();
    call.split.lse = part_lse.data();
    if (want_lse) call.lse = lse.data();
    if (with_sinks) call.sinks = sinks.data();
  }

  size_t OutAt(int b, int h, int i) const {
    return size_t(b * call.o_steps.batch + i * call.o_steps.row + h * call.o_steps.head);
  }
  float& LseOf(int b, int hk, int n, int row) {
    return part_lse[size_t(((b * kHeads + hk) * call.split.pieces + n) * kTileRows + row)];
  }

  void Run(int* compared) {
    using C = SmallConfig<T>;
    RunEverySchedule<C>(
        JoinItems(call),
        [&](emu::Memory& memory) {
          memory.Shared("part o", part_o);
          memory.Shared("part lse", part_lse);
          memory.Input("lengths", lengths);
          memory.Input("sinks", sinks);
          for (int b = 0; b < kBatch; ++b) {
            if (Pieces(b) < 2) continue;  // these the forward has written
            for (int h = 0; h < kHeads * kGroup; ++h) {
              for (int i = 0; i < kQueries; ++i) {
                const size_t at = OutAt(b, h, i);
                if (call.out_f32) memory.Add("o", &o_f32[at], 4 * kDimV, emu::Use::kOutput);
                if (!call.out_f32) memory.Add("o", &o[at], sizeof(T) * kDimV, emu::Use::kOutput);
              }
            }
            if (call.lse) {
              memory.Add("lse", &lse[size_t(b * call.lse_batch)], 4 * size_t(call.lse_batch),
                         emu::Use::kOutput);
            }
          }
        },
        [&] { JoinPieces<C>(call); }, [&] { Compare(compared); });
  }
  int Pieces(int b) const { return int(PiecesOf(lengths[size_t(b)])); }

  void Compare(int* compared) {
    for (int b = 0; b < kBatch; ++b) {
      if (Pieces(b) < 2) continue;
      for (int h = 0; h < kHeads * kGroup; ++h) {
        for (int i = 0; i < kQueries; ++i) {
          CompareRow(b, h, i);
          ++*compared;
        }
      }
    }
  }
  void CompareRow(int b, int h, int i) {
    const int hk = h / kGroup, row = i * kGroup + h % kGroup;
    const double sink = call.sinks ? sinks[size_t(h)] : -kInfinity;
    double m = sink, l = 0, sums[kDimV] = {};
    for (int n = 0; n < Pieces(b); ++n) m = std::fmax(m, double(LseOf(b, hk, n, row)));
    if (sink > -kInfinity) l = std::exp(sink - m);
    for (int n = 0; n < Pieces(b); ++n) {
      const double x = LseOf(b, hk, n, row);
      if (x == -kInfinity) continue;
      l += std::exp(x - m);
      for (int d = 0; d < kDimV; ++d) {
        sums[d] +=
            std::exp(x - m) * part_o[size_t(call.PieceRow(b, hk, n, row) * call.split.padded + d)];
      }
    }
    SCOPED_TRACE(testing::Message() << "entry " << b << ", head " << h << ", query " << i);
    for (int d = 0; d < kDimV; ++d) {
      const size_t at = OutAt(b, h, i) + size_t(d);
      const float got = call.out_f32 ? o_f32[at] : Widen(o[at]);
      const double want = l == 0 ? 0 : sums[d] / l;
      if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(got)) << "column " << d;
        continue;
      }
      // |o| stays below 4: f32 sums of at most 64 shares, then one rounding to the result's type.
      const double unit = call.out_f32 || sizeof(T) == 4 ? 0x1p-24
                          : std::is_same_v<T, ptx::F16>  ? 0x1p-11
                                                         : 0x1p-8;
      ASSERT_NEAR(got, want, 4 * (unit + 80 * 0x1p-24)) << "column " << d;
    }
    if (!call.lse) return;
    const float got = lse[size_t(b * call.lse_batch + h * call.lse_head + i)];
    const double want = l == 0 ? -kInfinity : m + std::log(l);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got));
    } else if (std::isinf(want)) {
      ASSERT_EQ(got, float(want));
    } else {
      ASSERT_NEAR(got, want, 80 * 0x1p-24 * std::fmax(1, std::fabs(want)));
    }
  }
};

template <class T>
struct JoinOf : testing::Test {};
TYPED_TEST_SUITE(JoinOf, Elements);

TYPED_TEST(JoinOf, ADefinitionInFloat64) {
  for (const bool f32 : {false, true}) {
    for (const bool sinks : {false, true}) {
      Join<TypeParam> join(f32, sinks, f32 || sinks);
      int compared = 0;
      join.Run(&compared);
      EXPECT_EQ(compared, 3 * 4 * kHeads * kGroup * kQueries);
    }
  }
}

TYPED_TEST(JoinOf, RowsThatSawNothingAndRowsThatAreNotFinite) {
  for (const bool sinks : {false, true}) {
    Join<TypeParam> join(false, sinks, true);
    for (int n = 0; n < join.call.split.pieces; ++n) {
      for (int row = 0; row < kRows; ++row) join.LseOf(0, 1, n, row) = -INFINITY;
    }
    join.LseOf(4, 0, 40, 3) = NAN;
    join.LseOf(4, 0, 0, 4) = NAN;
    join.LseOf(4, 0, 33, 5) = INFINITY;
    join.LseOf(3, 1, 0, 0) = -3.0e38f;
    join.LseOf(3, 1, 1, 0) = 3.0e38f;
    int compared = 0;
    join.Run(&compared);
    EXPECT_GT(compared, 0);
  }
}

// What a piece left that saw nothing is never read: here it is NaN.
TEST(Join, APieceThatSawNothingHasNoPart) {
  Join<F16> join(false, false, true);
  for (int n = 0; n < 3; n += 2) join.LseOf(0, 1, n, 3) = -INFINITY;
  join.LseOf(0, 1, 1, 3) = 2;
  for (int d = 0; d < join.call.split.padded; ++d) {
    join.part_o[size_t(join.call.PieceRow(0, 1, 0, 3) * join.call.split.padded + d)] = NAN;
  }
  int compared = 0;
  join.Run(&compared);
  const size_t piece = size_t(join.call.PieceRow(0, 1, 1, 3) * join.call.split.padded);
  for (int d = 0; d < kDimV; ++d) {  // one piece alone is given as it stands
    EXPECT_EQ(Widen(join.o[join.OutAt(0, kGroup, 1) + size_t(d)]),
              Widen(Rounded<F16>(join.part_o[piece + size_t(d)])));
  }
}

TYPED_TEST(JoinOf, NonsenseInLengthsStaysInside) {
  Join<TypeParam> join(false, true, true);
  join.lengths = {INT32_MAX, INT32_MIN, -1, 16385, 16384};
  using C = SmallConfig<TypeParam>;
  RunEverySchedule<C>(
      JoinItems(join.call),
      [&](emu::Memory& memory) {
        memory.Shared("part o", join.part_o);
        memory.Shared("part lse", join.part_lse);
        memory.Input("lengths", join.lengths);
        memory.Input("sinks", join.sinks);
        memory.Shared("o", join.o);
        memory.Shared("lse", join.lse);
      },
      [&] { JoinPieces<C>(join.call); }, [] {});
}

}  // namespace
}  // namespace heed::cuda
