// What the backward knows of its rows before it sees a key, and the gradient of the sinks, in the emulator
// against the definition in float64: all element types, rows that see nothing, rows whose lse is too
// large to say anything.
#include "cuda/backward_prepare.h"

#include "attention_testing.h"

namespace heed::cuda {
namespace {

template <class T>
struct Prepared : Attention<T> {
  using Base = Attention<T>;
  using Base::call;
  using Base::s;
  std::vector<T> o, dout;
  std::vector<float> o_f32, dlse, lse;
  std::vector<RowStart> rows;
  std::vector<bool> mine;  // rows that exist
  BackwardCall back;

  explicit Prepared(const Shape& shape) : Base(shape) {
    Values values(29);
    back.o.steps = StepsOf(s.q_len, call.q_heads, s.dim_v, 1);
    back.dout.steps = StepsOf(s.q_len, call.q_heads, s.dim_v, 3);
    o = values.Of<T>(size_t(kBatch * back.o.steps.batch));
    for (T x : o) o_f32.push_back(Widen(x) * 1.0625f);
    dout = values.Of<T>(size_t(kBatch * back.dout.steps.batch));
    call.lse_batch = s.ragged ? 0 : call.q_heads * s.q_len;
    call.lse_head = s.ragged ? call.total_q : s.q_len;
    rows.resize(size_t(kBatch * call.q_heads * s.q_len));
    lse.resize(rows.size(), NAN);
    dlse = values.Of<float>(rows.size());
    mine.resize(rows.size());
    Each([&](int b, int h, int i) {
      lse[At(b, h, i)] = float(Base::RowOf(b, h, i).Lse());
      mine[At(b, h, i)] = true;
    });
    back.o.data = s.out_f32 ? static_cast<void*>(o_f32.data()) : o.data();
    back.dout.data = dout.data();
    back.rows = rows.data();
    call.lse = lse.data();
  }

  template <class F>
  void Each(const F& f) const {
    for (int b = 0; b < kBatch; ++b) {
      for (int h = 0; h < call.q_heads; ++h) {
        for (int i = 0; i < Base::RuleOf(b).sq; ++i) f(b, h, i);
      }
    }
  }
  size_t At(int b, int h, int i) const {
    return size_t(b * call.lse_batch + h * call.lse_head + (s.ragged ? Base::cu_q[size_t(b)] : 0) +
                  i);
  }
  size_t RowAt(const Steps& t, int b, int h, int i) const {
    return size_t((s.ragged ? (Base::cu_q[size_t(b)] + i) * t.row : b * t.batch + i * t.row) +
                  h * t.head);
  }

  void Run() {
    back.forward = call;
    using C = SmallConfig<T>;
    std::vector<bool> bytes;
    for (const bool x : mine) bytes.insert(bytes.end(), sizeof(RowStart), x);
    RunEverySchedule<C>(
        PrepareItems(back),
        [&](emu::Memory& memory) {
          Base::Inputs(memory);
          if (s.out_f32) memory.Input("o", o_f32);
          if (!s.out_f32) memory.Input("o", o);
          memory.Input("dout", dout);
          memory.Input("lse", lse);
          memory.Input("dlse", dlse);
          memory.AddOutput("rows", rows.data(), bytes.size(), bytes);
        },
        [&] { PrepareBackward<C>(back); },
        [&] { Each([&](int b, int h, int i) { Compare(b, h, i); }); });
  }

  void Compare(int b, int h, int i) const {
    SCOPED_TRACE(testing::Message() << "entry " << b << ", head " << h << ", query " << i);
    const RowStart& got = rows[At(b, h, i)];
    const float given = lse[At(b, h, i)];
    const Row row = Base::RowOf(b, h, i);
    if (row.l == 0) {
      ASSERT_EQ(got.m, INFINITY);
      ASSERT_EQ(got.factor, 0);
      ASSERT_EQ(got.delta, 0);
      return;
    }
    if (std::fabs(given) <= 4096) {
      ASSERT_NEAR(got.m * kLn2, given, 0x1p-22 * std::fabs(given));
      ASSERT_EQ(got.factor, 1);
    } else {
      ASSERT_NEAR(got.m * kLn2, row.m, row.error + 0x1p-22 * std::fabs(row.m));
      ASSERT_NEAR(got.factor * row.l, 1, 2 * row.error + 0x1p-16);
    }
    double delta = 0, size = 0;
    for (size_t d = 0; d < size_t(s.dim_v); ++d) {
      const size_t at = RowAt(back.o.steps, b, h, i) + d;
      const double term = double(s.out_f32 ? o_f32[at] : Widen(o[at])) *
                          Widen(dout[RowAt(back.dout.steps, b, h, i) + d]);
      delta += term;
      size += std::fabs(term);
    }
    if (back.dlse) delta -= dlse[At(b, h, i)];
    ASSERT_NEAR(got.delta, delta, 0x1p-24 * (s.dim_v + 4) * (size + std::fabs(delta) + 4));
  }
};

template <class T>
struct PreparedOf : testing::Test {};
TYPED_TEST_SUITE(PreparedOf, Elements);

TYPED_TEST(PreparedOf, Rows) {
  Prepared<TypeParam> whole({.dim_v = 33, .k_len = 40, .sinks = true, .right = 0});
  whole.Run();
  whole.back.dlse = whole.dlse.data();
  whole.Run();
  Prepared<TypeParam> unseen({.q_len = 20, .k_len = 12, .out_f32 = true, .right = 0});
  unseen.Run();
  Prepared<TypeParam> ragged({.dim_v = 70, .q_len = 9, .ragged = true});
  ragged.back.dlse = ragged.dlse.data();
  ragged.Run();
}

// The row's own maximum and sum, where lse is beyond 4096 either way: not at it.
TYPED_TEST(PreparedOf, RowsOfHugeScores) {
  Prepared<TypeParam> p({.q_len = 9, .k_len = 7, .sinks = true, .right = 0});
  p.sinks[3] = 5000;  // far above every score: it is the maximum
  const float beyond = std::nextafter(4096.f, 5000.f);
  p.Each([&](int b, int h, int i) {
    float& lse = p.lse[p.At(b, h, i)];
    // Query 0 sees nothing, nor does head 1 give it a sink.
    if (lse == -INFINITY && i == 0) lse = 1e9f;
    if (h == 3) lse = 5000;
    if (i >= 5) lse = std::vector<float>{4096, -4096, beyond, -beyond}[size_t(i - 5)];
  });
  p.Run();
}

TEST(Sinks, SumOverEntriesAndQueries) {
  using C = SmallConfig<F32>;
  for (const bool ragged : {false, true}) {
    Prepared<F32> p({.q_len = 2 * C::kThreads + 3, .k_len = 8, .sinks = true, .ragged = ragged});
    Values values(31);
    for (RowStart& x : p.rows) x = {values.Normal(), 2 + values.Normal(), values.Normal(), 0};
    std::vector<float> dsinks(size_t(p.call.q_heads));
    p.back.dsinks = dsinks.data();
    p.back.forward = p.call;
    for (const bool accumulate : {false, true}) {
      p.back.accumulate = accumulate;
      emu::Config base = emu::Threads(C::kThreads, 4 * C::kWarps, C::kArch);
      base.grid[0] = p.call.q_heads;
      for (const emu::Config& schedule : emu::Schedules(base, 7)) {
        SCOPED_TRACE("order " + std::to_string(int(schedule.order)));
        emu::Memory memory;
        p.Inputs(memory);
        memory.Input("rows", p.rows);
        if (accumulate) memory.Shared("dsinks", dsinks);
        if (!accumulate) memory.Output("dsinks", dsinks);
        dsinks.assign(dsinks.size(), 3);
        ASSERT_EQ(emu::ErrorOf(schedule, memory, [&] { GradientOfSinks<C>(p.back); }), "");
        for (int h = 0; h < p.call.q_heads; ++h) {
          double want = accumulate ? 3 : 0, size = 3;
          p.Each([&](int b, int head, int i) {
            if (head != h) return;
            const RowStart& row = p.rows[p.At(b, h, i)];
            const double term =
                std::exp2(p.sinks[size_t(h)] / kLn2 - row.m) * row.factor * row.delta;
            want -= term;
            size += std::fabs(term);
          });
          ASSERT_NEAR(dsinks[size_t(h)], want, 0x1p-18 * size);
        }
      }
    }
  }
}

// Whatever the index arrays hold, nothing outside is touched.
TEST(Nonsense, InIndexArraysStaysInside) {
  Prepared<F16> p({.q_len = 9, .ragged = true});
  p.cu_q = {-4, INT32_MAX, 2};
  p.cu_k = {60, INT32_MIN, INT32_MAX};
  p.back.forward = p.call;
  using C = SmallConfig<F16>;
  RunEverySchedule<C>(
      PrepareItems(p.back),
      [&](emu::Memory& memory) {
        p.Inputs(memory);
        memory.Input("o", p.o);
        memory.Input("dout", p.dout);
        memory.Input("lse", p.lse);
        memory.Shared("rows", p.rows);
      },
      [&] { PrepareBackward<C>(p.back); }, [] {});
}

}  // namespace
}  // namespace heed::cuda
