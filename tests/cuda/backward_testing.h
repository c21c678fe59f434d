// backward_testing.h: a kernel of the backward on small tiles in the emulator against the definition in
// float64; what other kernels do before it (rows, kinds of tiles) is found by that definition, too. Not
// here: the calls (backward_*_test.cpp), the forward's kernels (forward_testing.h).
#pragma once

#include "attention_testing.h"
#include "cuda/backward_bias.h"
#include "cuda/backward_keys.h"
#include "cuda/backward_queries.h"

namespace heed::cuda {

// What is asked of the gradients. The bias's axes: 1, or all.
struct Wishes {
  bool f32 = false, accumulate = false, bias_f32 = true;
  bool batch = false, heads = true, rows = true, cols = true;
};

// One gradient: what the kernel writes, what is right, and by how much it may be off.
template <class T>
struct GradientOf {
  std::vector<T> narrow;
  std::vector<float> f32;
  std::vector<double> want, bound;
  std::vector<bool> mine;  // elements that belong to a row of the call
  void Resize(size_t n) {
    narrow.resize(n);
    f32.resize(n);
    want.assign(n, 0);
    bound.assign(n, 0);
    mine.assign(n, false);
  }
  void Add(size_t at, double term, double error) {
    want[at] += term;
    bound[at] += error;
  }
};

template <class C>
class Backward : public Attention<typename C::Element> {
 public:
  using T = typename C::Element;
  using Base = Attention<T>;
  using Base::call;
  using Base::s;

  explicit Backward(const Shape& shape, const Wishes& wishes = {}) : Base(shape), w(wishes) {
    Values values(23);
    back.grads_f32 = w.f32 || sizeof(T) == 4;
    back.accumulate = w.accumulate;
    back.dbias_f32 = w.bias_f32;
    back.tile_rows = C::kRows;
    back.tile_keys = C::kKeys;
    back.parts = C::kParts;
    back.keys = {kBatch, kHeads, call.k_len, C::kKeys, false};
    call.schedule = {kBatch, call.q_heads, s.q_len, C::kRows, LaterRowsSeeMore(call.rule)};
    const int gap = s.wide ? 8 : 1;
    back.dout.steps = StepsOf(s.q_len, call.q_heads, s.dim_v, gap);
    back.dout.wide = s.wide;
    dout.assign(size_t(kBatch * back.dout.steps.batch), Rounded<T>(NAN));
    back.dout.data = dout.data();
    Prepare(&back.dq, &dq, s.q_len, call.q_heads, s.dim);
    Prepare(&back.dk, &dk, s.k_len, kHeads, s.dim);
    Prepare(&back.dv, &dv, s.k_len, kHeads, s.dim_v);
    call.lse_batch = s.ragged ? 0 : call.q_heads * s.q_len;
    call.lse_head = s.ragged ? call.total_q : s.q_len;
    rows.resize(size_t(kBatch * call.q_heads * s.q_len));
    back.rows = rows.data();
    if (s.bias) ShapeBias(values);
    FindKinds();
    for (int b = 0; b < kBatch; ++b) {
      for (int h = 0; h < call.q_heads; ++h) {
        for (int i = 0; i < Base::RuleOf(b).sq; ++i) AddRow(b, h, i, values);
      }
      const int keys = s.ragged ? Base::cu_k[size_t(b + 1)] - Base::cu_k[size_t(b)] : s.k_len;
      for (int h = 0; h < kHeads; ++h) {
        for (int j = 0; j < keys; ++j) {
          Own(&dk, Base::KeyIndex(back.dk.steps, b, h, j), s.dim);
          Own(&dv, Base::KeyIndex(back.dv.steps, b, h, j), s.dim_v);
        }
      }
    }
    dbias.mine.assign(dbias.mine.size(), true);
    back.forward = call;
  }

  void Queries(void (*kernel)(const BackwardCall&)) {
    Run(back.query_blocks(), kernel, {{"dq", &dq, back.grads_f32}});
  }
  void Keys(void (*kernel)(const BackwardCall&)) {
    Run(back.key_blocks(), kernel, {{"dk", &dk, back.grads_f32}, {"dv", &dv, back.grads_f32}});
  }
  // Of calls that no definition fits: nothing outside may be touched, whatever comes out.
  void Anyhow() { compares = false; }
  void Bias(void (*kernel)(const BackwardCall&)) {
    back.dbias = w.bias_f32 ? static_cast<void*>(dbias.f32.data()) : dbias.narrow.data();
    Run(back.bias_blocks(), kernel, {{"dbias", &dbias, w.bias_f32}});
  }

  Wishes w;
  bool compares = true;
  BackwardCall back;
  std::vector<T> dout;
  std::vector<RowStart> rows;
  std::vector<std::uint8_t> kinds;
  GradientOf<T> dq, dk, dv, dbias;

 private:
  static constexpr double kUnit = 0x1p-24;  // half a unit in the last place of 1 in f32
  struct Result {
    const char* name;
    GradientOf<T>* of;
    bool f32;
  };

  void Prepare(Gradient* to, GradientOf<T>* of, int length, int heads, int dim) {
    to->steps = StepsOf(length, heads, dim, s.wide ? 4 : 1);
    to->wide = s.wide && dim % 4 == 0;
    of->Resize(size_t(kBatch * to->steps.batch));
    to->data = back.grads_f32 ? static_cast<void*>(of->f32.data()) : of->narrow.data();
  }
  static void Own(GradientOf<T>* of, size_t at, int count) {
    for (int d = 0; d < count; ++d) of->mine[at + size_t(d)] = true;
  }

  // The bias in the shape that dbias is to have.
  void ShapeBias(Values& values) {
    back.bias_batch = w.batch ? kBatch : 1;
    back.bias_heads = w.heads ? call.q_heads : 1;
    back.bias_rows = w.rows ? s.q_len : 1;
    back.bias_cols = w.cols ? call.k_len : 1;
    const std::int64_t matrix = std::int64_t{back.bias_rows} * back.bias_cols;
    const std::int64_t head = w.heads ? matrix : 0, batch = w.batch ? back.bias_heads * matrix : 0;
    dbias.Resize(size_t(back.bias_batch * back.bias_heads * matrix));
    Base::bias = values.Of<float>(dbias.want.size());
    Base::bias16.clear();
    for (float x : Base::bias) Base::bias16.push_back(Rounded<T>(x));
    call.bias = {s.bias_f32 ? static_cast<void*>(Base::bias.data()) : Base::bias16.data(), batch,
                 head, w.rows ? back.bias_cols : 0, w.cols ? 1 : 0};
  }

  // What the mask and the block map leave of each tile of scores.
  void FindKinds() {
    if (!s.mask && !s.map) return;
    TileKinds& grid = call.kinds;
    grid = Base::TilesOf(C::kRows, C::kKeys);
    for (std::int64_t n = 0; n < grid.count(); ++n) {
      const std::int64_t bh = n / (grid.rows * grid.keys), b = bh / call.q_heads,
                         h = bh % call.q_heads;
      const int row = int(n / grid.keys % grid.rows) * C::kRows,
                key = int(n % grid.keys) * C::kKeys;
      bool all = true, some = false;
      for (int i = row; i < std::min(row + C::kRows, s.q_len); ++i) {
        for (int j = key; j < std::min(key + C::kKeys, call.k_len); ++j) {
          const bool shown = Shown(int(b), int(h), i, j);
          all = all && shown;
          some = some || shown;
        }
      }
      kinds.push_back(std::uint8_t(all    ? TileKind::kFull
                                   : some ? TileKind::kEdge
                                          : TileKind::kEmpty));
    }
    grid.kinds = kinds.data();
  }
  bool Shown(int b, int h, int i, int j) const {
    const auto at = [&](const Spread& t, std::int64_t r, std::int64_t c) {
      return size_t(b * t.batch + h * t.head + r * t.row + c * t.col);
    };
    return (!s.mask || Base::mask[at(call.mask, i, j)]) &&
           (!s.map || Base::map[at(call.block_map, i / call.block_rows, j / call.block_cols)]);
  }

  size_t RowIndex(const Steps& t, int b, int h, int i) const {
    return size_t((s.ragged ? (Base::cu_q[size_t(b)] + i) * t.row : b * t.batch + i * t.row) +
                  h * t.head);
  }

  // dout of one row, what the kernels are told of it, and its part of all gradients.
  void AddRow(int b, int h, int i, Values& values) {
    T* const dy = &dout[RowIndex(back.dout.steps, b, h, i)];
    for (int d = 0; d < s.dim_v; ++d) dy[d] = Rounded<T>(values.Normal());
    Own(&dq, RowIndex(back.dq.steps, b, h, i), s.dim);
    const Row row = Base::RowOf(b, h, i);
    const int keys = int(Base::RuleOf(b).sk);
    std::vector<double> dp(row.score.size()), size(row.score.size());
    const double dlse = values.Normal();
    double delta = -dlse, sizes = std::fabs(dlse);
    for (int j = 0; j < keys; ++j) {
      if (row.P(j) == 0 || !Base::Kept(b, h, i, j)) continue;
      const T* const value = &Base::v[Base::KeyIndex(call.v.steps, b, h / s.group, j)];
      for (int d = 0; d < s.dim_v; ++d) {
        const double term = double(Widen(dy[d])) * Widen(value[d]) * call.keep_factor;
        dp[size_t(j)] += term;
        size[size_t(j)] += std::fabs(term);
      }
      delta += row.P(j) * dp[size_t(j)];
    }
    RowStart& start = rows[size_t(b * call.lse_batch + h * call.lse_head +
                                  (s.ragged ? Base::cu_q[size_t(b)] : 0) + i)];
    if (row.l == 0) {
      start = {INFINITY, 0, 0, 0};
      return;
    }
    // The row's own maximum and sum in the place of lse: the factor is no 1 then.
    start = {float((row.Lse() + 1) / kLn2), float(std::exp(1.0)), float(delta), 0};
    for (int j = 0; j < keys; ++j) {
      const double p = row.P(j), g = dp[size_t(j)] - delta;
      if (p == 0) continue;
      const double p_error = p * (2 * row.error + 16 * kUnit * (1 + std::fabs(row.Lse())));
      const double g_error =
          kUnit * ((s.dim_v + 8) * size[size_t(j)] + 4 * (std::fabs(delta) + sizes));
      AddPair(b, h, i, j,
              {p, p_error, g, p * g_error + p_error * (std::fabs(g) + g_error), Rate(b, h, i, j),
               row.error});
    }
  }
  double Rate(int b, int h, int i, int j) const {
    if (s.softcap == 0) return 1;
    const T *const x = &Base::q[Base::QueryIndex(b, h, i)],
                   *const y = &Base::k[Base::KeyIndex(call.k.steps, b, h / s.group, j)];
    double product = 0;
    for (int d = 0; d < s.dim; ++d) product += double(Widen(x[d])) * Widen(y[d]);
    const double t = std::tanh(product * s.scale / s.softcap);
    return 1 - t * t;
  }

  struct Pair {
    double p, p_error, g, ds_error, rate, score_error;
  };
  void AddPair(int b, int h, int i, int j, const Pair& x) {
    const double unit = std::fmax(HalfUnit<T>(false), kUnit);  // p and ds are rounded to T
    const double least = std::is_same_v<T, F16> ? 0x1p-25 : 0x1p-126;
    const int terms = s.q_len * s.group + int(Base::RuleOf(b).sk);  // of a sum, at most
    const double ds = x.p * x.g, rate_error = s.softcap > 0 ? 4 * x.score_error + 64 * kUnit : 0;
    const double dx = ds * x.rate;
    const double error = x.ds_error * (x.rate + rate_error) + std::fabs(ds) * rate_error +
                         std::fabs(dx) * (unit + (terms + 8) * kUnit) + least;
    const T* const query = &Base::q[Base::QueryIndex(b, h, i)];
    const size_t key_at = Base::KeyIndex(call.k.steps, b, h / s.group, j);
    const size_t dq_at = RowIndex(back.dq.steps, b, h, i);
    const size_t dk_at = Base::KeyIndex(back.dk.steps, b, h / s.group, j);
    const size_t dv_at = Base::KeyIndex(back.dv.steps, b, h / s.group, j);
    for (size_t d = 0; d < size_t(s.dim); ++d) {
      const double of_key = s.scale * double(Widen(Base::k[key_at + d]));
      const double of_query = s.scale * double(Widen(query[d]));
      dq.Add(dq_at + d, dx * of_key, error * std::fabs(of_key));
      dk.Add(dk_at + d, dx * of_query, error * std::fabs(of_query));
    }
    if (Base::Kept(b, h, i, j)) {
      const T* const dy = &dout[RowIndex(back.dout.steps, b, h, i)];
      for (size_t d = 0; d < size_t(s.dim_v); ++d) {
        const double y = double(Widen(dy[d])) * call.keep_factor;
        dv.Add(dv_at + d, x.p * y,
               std::fabs(y) * (x.p_error + x.p * (unit + (terms + 8) * kUnit) + least));
      }
    }
    if (s.bias) {
      const Spread& t = call.bias;
      dbias.Add(size_t(b * t.batch + h * t.head + i * t.row + j * t.col), ds,
                x.ds_error + std::fabs(ds) * 8 * kUnit * terms);
    }
  }

  void Run(std::int64_t blocks, void (*kernel)(const BackwardCall&),
           const std::vector<Result>& results) {
    back.forward = call;
    emu::Config base = emu::Threads(
        C::kThreads, BackwardShared(sizeof(T), C::kDim, C::kRows, C::kKeys, C::kGeneral), C::kArch);
    base.grid[0] = int(blocks);
    for (const emu::Config& schedule : emu::Schedules(base, 7)) {
      SCOPED_TRACE("order " + std::to_string(int(schedule.order)));
      emu::Memory memory;
      Base::Inputs(memory);
      memory.Input("dout", dout);
      memory.Input("rows", rows);
      memory.Input("kinds", kinds);
      for (const Result& r : results) {
        const size_t size = r.f32 ? 4 : sizeof(T);
        void* const data = r.f32 ? static_cast<void*>(r.of->f32.data()) : r.of->narrow.data();
        std::vector<bool> bytes(r.of->mine.size() * size);
        for (size_t n = 0; n < bytes.size(); ++n) bytes[n] = r.of->mine[n / size];
        memory.AddOutput(r.name, data, r.of->mine.size() * size, bytes,
                         w.accumulate || !compares ? emu::Use::kShared : emu::Use::kOutput);
        for (size_t n = 0; n < r.of->mine.size(); ++n) {
          r.of->f32[n] = Old(n);
          r.of->narrow[n] = Rounded<T>(Old(n));
        }
      }
      std::string error;
      try {
        const emu::Stats stats = emu::Launch(schedule, memory, [&] { kernel(back); });
        EXPECT_EQ(stats.ldmatrix_passes, stats.ldmatrix_ideal) << "ldmatrix meets bank conflicts";
      } catch (const emu::Error& e) {
        error = e.what();
      }
      ASSERT_EQ(error, "");
      for (const Result& r : results) {
        if (compares) Compare(r);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }

  // What is there before.
  static float Old(size_t n) { return float(int(n % 17) - 8) / 4; }

  void Compare(const Result& r) const {
    for (size_t n = 0; n < r.of->mine.size(); ++n) {
      if (!r.of->mine[n]) continue;
      const double got = r.f32 ? r.of->f32[n] : Widen(r.of->narrow[n]);
      const double want = r.of->want[n] + (w.accumulate ? Old(n) : 0);
      const double bound =
          r.of->bound[n] + std::fabs(want) * HalfUnit<T>(r.f32) + (r.f32 ? 0x1p-100 : 0x1p-25);
      ASSERT_NEAR(got, want, bound) << r.name << ", element " << n;
    }
  }
};

}  // namespace heed::cuda
