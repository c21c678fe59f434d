// forward_testing.h: a forward kernel on small tiles in the emulator, with the launches before and
// after it, against the definition in float64. Not here: calls made from a Problem (the host side).
#pragma once

#include "attention_testing.h"
#include "cuda/classify.h"
#include "cuda/join.h"

namespace heed::cuda {

// C: the row of kernels.def. kernel: its body.
template <class C>
class Forward : public Attention<typename C::Element> {
 public:
  using T = typename C::Element;
  using Base = Attention<T>;
  using Base::call;
  using Base::s;

  // packed: the heads of a group share a tile; split: so do pieces of the keys.
  explicit Forward(const Shape& shape, bool packed = false, bool split = false) : Base(shape) {
    call.packed = packed;
    const std::int64_t heads = packed ? kHeads : call.q_heads;
    call.schedule = {kBatch, heads, s.q_len * (packed ? s.group : 1), C::kRows,
                     LaterRowsSeeMore(call.rule)};
    if (split) {
      call.split.pieces = int(PiecesOf(call.k_len));
      call.split.padded = s.dim_v;
      const size_t rows = size_t(kBatch * heads * call.split.pieces * C::kRows);
      part_o.resize(rows * size_t(s.dim_v));
      part_lse.resize(rows);
      call.split.o = part_o.data();
      call.split.lse = part_lse.data();
    }
    call.o_steps = StepsOf(s.q_len, call.q_heads, s.dim_v, s.wide ? 4 : 1);
    call.out_wide = s.wide && s.dim_v % 4 == 0;
    o.resize(size_t(kBatch * call.o_steps.batch));
    o_f32.resize(o.size());
    call.o = s.out_f32 ? static_cast<void*>(o_f32.data()) : o.data();
    call.lse_batch = s.ragged ? 0 : call.q_heads * s.q_len;
    call.lse_head = s.ragged ? call.total_q : s.q_len;
    lse.resize(size_t(kBatch * call.q_heads * s.q_len));
    call.lse = lse.data();
    TileKinds& kinds_of = call.kinds;
    if ((s.mask || s.map) && !packed) {
      kinds_of = Base::TilesOf(C::kRows, C::kKeys);
      kinds.resize(size_t(kinds_of.count()));
      kinds_of.kinds = kinds.data();
    }
  }

  void Run(void (*kernel)(const ForwardCall&)) {
    emu::Config base = emu::Threads(
        C::kThreads, ForwardShared(sizeof(T), C::kDim, C::kRows, C::kKeys, C::kGeneral), C::kArch);
    for (const emu::Config& schedule : emu::Schedules(base, 7)) {
      SCOPED_TRACE("order " + std::to_string(int(schedule.order)));
      RunOnce(schedule, kernel);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  // Whatever comes out, nothing outside may be touched; every byte that may be written can be.
  void RunAnyhow(void (*kernel)(const ForwardCall&)) {
    emu::Config config = emu::Threads(
        C::kThreads, ForwardShared(sizeof(T), C::kDim, C::kRows, C::kKeys, C::kGeneral), C::kArch);
    config.grid[0] = int(call.blocks());
    emu::Memory memory;
    Base::Inputs(memory);
    memory.Input("kinds", kinds);
    for (auto* x : {&part_o, &part_lse, &lse, &o_f32}) memory.Shared("results", *x);
    memory.Shared("o", o);
    ASSERT_EQ(emu::ErrorOf(config, memory, [&] { kernel(call); }), "");
  }

  std::vector<T> o;
  std::vector<float> o_f32, lse, part_o, part_lse;
  std::vector<std::uint8_t> kinds;
  double largest_error = 0;

 private:
  void RunOnce(const emu::Config& schedule, void (*kernel)(const ForwardCall&)) {
    emu::Config small = schedule;
    small.threads = SmallConfig<F16>::kThreads;
    if (call.kinds.kinds) {
      small.grid[0] = int(BlocksFor(ClassifyItems(call), SmallConfig<F16>::kWarps));
      emu::Memory memory;
      Base::Inputs(memory);
      memory.Output("kinds", kinds);
      ASSERT_EQ(emu::ErrorOf(small, memory, [&] { ClassifyTiles<SmallConfig<F16>>(call); }), "");
    }
    {
      emu::Config config = schedule;
      config.grid[0] = int(call.blocks());
      part_o.assign(part_o.size(), NAN);
      part_lse.assign(part_lse.size(), NAN);
      emu::Memory memory;
      Base::Inputs(memory);
      memory.Input("kinds", kinds);
      memory.Shared("part o", part_o);
      memory.Shared("part lse", part_lse);
      Outputs(memory, false);
      emu::Stats stats;
      std::string error;
      try {
        stats = emu::Launch(config, memory, [&] { kernel(call); });
      } catch (const emu::Error& e) {
        error = e.what();
      }
      ASSERT_EQ(error, "");
      EXPECT_EQ(stats.ldmatrix_passes, stats.ldmatrix_ideal) << "ldmatrix meets bank conflicts";
    }
    if (call.split.pieces > 0) {
      small.grid[0] = int(BlocksFor(JoinItems(call), SmallConfig<T>::kWarps));
      emu::Memory memory;
      Base::Inputs(memory);
      memory.Shared("part o", part_o);
      memory.Shared("part lse", part_lse);
      Outputs(memory, true);
      ASSERT_EQ(emu::ErrorOf(small, memory, [&] { JoinPieces<SmallConfig<T>>(call); }), "");
    }
    for (int b = 0; b < kBatch; ++b) {
      for (int h = 0; h < call.q_heads; ++h) {
        for (int i = 0; i < Base::RuleOf(b).sq; ++i) {
          CompareRow(b, h, i);
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }

  bool Joined(int b) const { return call.split.pieces > 0 && PiecesOf(Base::RuleOf(b).sk) > 1; }
  size_t OutAt(int b, int h, int i) const {
    const Steps& t = call.o_steps;
    return size_t((s.ragged ? (Base::cu_q[size_t(b)] + i) * t.row : b * t.batch + i * t.row) +
                  h * t.head);
  }
  size_t LseOf(int b, int h, int i) const {
    return size_t(b * call.lse_batch + h * call.lse_head + (s.ragged ? Base::cu_q[size_t(b)] : 0) +
                  i);
  }
  // Rows of entries that JoinPieces writes, or of the others.
  void Outputs(emu::Memory& memory, bool joined) {
    for (int b = 0; b < kBatch; ++b) {
      if (Joined(b) != joined) continue;
      for (int h = 0; h < call.q_heads; ++h) {
        const int rows = int(Base::RuleOf(b).sq);
        for (int i = 0; i < rows; ++i) {
          const size_t at = OutAt(b, h, i), n = size_t(s.dim_v);
          if (s.out_f32) memory.Add("o", &o_f32[at], 4 * n, emu::Use::kOutput);
          if (!s.out_f32) memory.Add("o", &o[at], sizeof(T) * n, emu::Use::kOutput);
        }
        memory.Add("lse", &lse[LseOf(b, h, 0)], 4 * size_t(rows), emu::Use::kOutput);
      }
    }
  }

  void CompareRow(int b, int h, int i) {
    SCOPED_TRACE(testing::Message() << "entry " << b << ", head " << h << ", query " << i);
    const Row row = Base::RowOf(b, h, i);
    // p carries the errors of its score, and once rounded to T; sums of at most n of them.
    const int n = int(Base::RuleOf(b).sk);
    const double relative = 2 * (row.error + 4 * 0x1p-24) + (n + 8) * 0x1p-24;
    const double unit = std::fmax(HalfUnit<T>(false), 0x1p-24);
    std::vector<double> sums(size_t(s.dim_v)), sizes(size_t(s.dim_v));
    for (int j = 0; j < n; ++j) {
      const double p = row.P(j) * (Base::Kept(b, h, i, j) ? call.keep_factor : 0);
      if (p == 0) continue;
      const T* const value = &Base::v[Base::KeyIndex(call.v.steps, b, h / s.group, j)];
      for (size_t d = 0; d < sums.size(); ++d) {
        sums[d] += p * Widen(value[d]);
        sizes[d] += p * std::fabs(Widen(value[d]));
      }
    }
    for (size_t d = 0; d < sums.size(); ++d) {
      const size_t at = OutAt(b, h, i) + d;
      const float got = s.out_f32 ? o_f32[at] : Widen(o[at]);
      const double bound = sizes[d] * (relative + unit) +
                           (std::fabs(sums[d]) + 0x1p-14) * HalfUnit<T>(s.out_f32) + 0x1p-24;
      ASSERT_NEAR(got, sums[d], bound) << "column " << d;
    }
    const float got = lse[LseOf(b, h, i)];
    if (row.l == 0) {
      ASSERT_EQ(got, -INFINITY);
    } else {
      ASSERT_NEAR(got, row.Lse(), relative + 4 * 0x1p-24 * (1 + std::fabs(row.Lse())));
    }
  }
};

}  // namespace heed::cuda
