// attention_testing.h: one call of attention with all its arrays, made by hand, and what its definition
// in float64 gives, row by row. What no row of it may read is NaN. Not here: launches (each test).
#pragma once

#include <functional>

#include "kernels_testing.h"
#include "score/philox.h"

namespace heed::cuda {

struct Shape {
  const char* name = "plain";
  int dim = 19, dim_v = 19, q_len = 9, k_len = 70, group = 2;
  float scale = 0.2f, softcap = 0;
  bool alibi = false, bias = false, bias_f32 = true, mask = false, map = false, sinks = false;
  bool ragged = false, paged = false, lengths = false, leftpad = false, offsets = false;
  bool out_f32 = false, top_left = false, wide = false;
  double dropout = 0;
  std::int64_t left = -1, right = -1, prefix = 0, chunk = 0;
};

inline std::string NameOf(const testing::TestParamInfo<Shape>& info) { return info.param.name; }

inline constexpr int kBatch = 2, kHeads = 2;
inline constexpr int kPage = 16, kPages = 97;  // more than any entry has blocks

// One row of the definition.
struct Row {
  std::vector<double> score;  // -infinity: there is no such pair, or it is hidden
  double m = -INFINITY, l = 0;
  double error = 0;  // of a score and of m, as f32 rounds them
  double P(int j) const {
    const double s = score[size_t(j)];
    return s > -INFINITY ? std::exp(s - m) / l : 0;
  }
  double Lse() const { return l == 0 ? -INFINITY : m + std::log(l); }
};

template <class T>
struct Attention {
  Shape s;
  int q_heads;
  std::vector<T> q, k, v, bias16;
  std::vector<float> bias, slopes, sinks;
  std::vector<std::uint8_t> mask, map;
  std::vector<std::int32_t> cu_q, cu_k, lengths, seqlens, leftpad, table, offsets;
  ForwardCall call;

  explicit Attention(const Shape& shape) : s(shape), q_heads(kHeads * s.group) {
    Values values(17);
    call.batch = kBatch;
    call.q_heads = q_heads;
    call.group = s.group;
    call.q_len = s.q_len;
    call.k_len = s.k_len;
    call.dim = s.dim;
    call.dim_v = s.dim_v;
    Layout();
    q.assign(size_t(kBatch * call.q.steps.batch), Rounded<T>(NAN));
    const int places = s.paged ? kPages : kBatch;
    k.assign(size_t(places * call.k.steps.batch), Rounded<T>(NAN));
    v.assign(size_t(places * call.v.steps.batch), Rounded<T>(NAN));
    for (int b = 0; b < kBatch; ++b) {
      const Visibility rule = RuleOf(b);
      for (int h = 0; h < q_heads; ++h) {
        for (int i = 0; i < rule.sq; ++i) Fill(&q[QueryIndex(b, h, i)], s.dim, values);
      }
      for (int h = 0; h < kHeads; ++h) {
        for (int j = 0; j < rule.sk; ++j) {
          Fill(&k[KeyIndex(call.k.steps, b, h, j)], s.dim, values);
          Fill(&v[KeyIndex(call.v.steps, b, h, j)], s.dim_v, values);
        }
      }
    }
    call.q.data = q.data();
    call.k.data = k.data();
    call.v.data = v.data();
    Score(values);
    Hide(values);
  }
  Attention(const Attention&) = delete;

  void Inputs(emu::Memory& memory) {
    memory.Input("q", q);
    memory.Input("k", k);
    memory.Input("v", v);
    memory.Input("bias", bias);
    memory.Input("bias", bias16);
    memory.Input("slopes", slopes);
    memory.Input("sinks", sinks);
    memory.Input("mask", mask);
    memory.Input("map", map);
    for (auto* x : {&cu_q, &cu_k, &lengths, &seqlens, &leftpad, &table, &offsets}) {
      memory.Input("indices", *x);
    }
  }

  // The tiles of scores, of which nothing is known yet.
  TileKinds TilesOf(int rows, int keys) const {
    return {nullptr, kBatch, q_heads, int(CeilDiv(s.q_len, rows)), int(CeilDiv(call.k_len, keys)),
            rows,    keys};
  }

  Visibility RuleOf(int b) const {
    Visibility r = call.rule;
    r.sq = s.q_len;
    r.sk = s.k_len;
    const size_t n = size_t(b);
    if (s.ragged) {
      r.sq = cu_q[n + 1] - cu_q[n];
      r.sk = cu_k[n + 1] - cu_k[n];
    }
    if (s.paged) r.sk = seqlens[n] - (s.leftpad ? leftpad[n] : 0);
    if (s.lengths) r.sk = lengths[n];
    r.shift = s.offsets ? offsets[n] : s.top_left ? 0 : r.sk - r.sq;
    return r;
  }
  size_t KeyIndex(const Steps& t, int b, int hk, int j) const {
    if (s.ragged) return size_t((cu_k[size_t(b)] + j) * t.row + hk * t.head);
    if (!s.paged) return size_t(b * t.batch + j * t.row + hk * t.head);
    const int row = j + (s.leftpad ? leftpad[size_t(b)] : 0);
    const int page = table[size_t(b * call.cache.blocks + row / kPage)];
    return size_t(page * t.batch + row % kPage * t.row + hk * t.head);
  }
  size_t QueryIndex(int b, int h, int i) const {
    const Steps& t = call.q.steps;
    return size_t((s.ragged ? (cu_q[size_t(b)] + i) * t.row : b * t.batch + i * t.row) +
                  h * t.head);
  }

  Row RowOf(int b, int h, int i) const {
    using L = ScalarLanes<double>;
    const auto terms = Terms<double>::Of(
        {.scale = s.scale, .softcap = s.softcap, .alibi = s.alibi, .bias = s.bias});
    const Visibility rule = RuleOf(b);
    Row row;
    row.score.assign(size_t(call.k_len), -INFINITY);
    if (s.sinks) row.m = sinks[size_t(h)];
    for (int j = 0; j < call.k_len; ++j) {
      if (!Sees(rule, i, j)) continue;
      const auto at = [&](const Spread& t, int r, int c) {
        return size_t(b * t.batch + h * t.head + r * t.row + c * t.col);
      };
      if (s.mask && !mask[at(call.mask, i, j)]) continue;
      if (s.map && !map[at(call.block_map, i / kBlockRows, j / kBlockCols)]) continue;
      const T *const x = &q[QueryIndex(b, h, i)], *const y =
                                                      &k[KeyIndex(call.k.steps, b, h / s.group, j)];
      double product = 0, size = 0;
      for (int d = 0; d < s.dim; ++d) {
        product += double(Widen(x[d])) * Widen(y[d]);
        size += std::fabs(double(Widen(x[d])) * Widen(y[d]));
      }
      At<L> place = {s.alibi ? slopes[size_t(h)] : 0, double(i + rule.shift - j), 0};
      const size_t n = at(call.bias, i, j);
      if (s.bias) place.bias = s.bias_f32 ? double(bias[n]) : double(Widen(bias16[n]));
      const double score = Modify<L>(terms, product, place);
      row.score[size_t(j)] = score;
      row.m = std::fmax(row.m, score);
      if (!std::isfinite(score)) continue;
      // Products and their sum, every term, then the difference to m.
      row.error = std::fmax(row.error, ((s.dim + 4) * size * std::fabs(s.scale) +
                                        8 * (std::fabs(score) + std::fabs(row.m))) *
                                           0x1p-24);
    }
    if (s.sinks && sinks[size_t(h)] > -INFINITY) row.l = std::exp(sinks[size_t(h)] - row.m);
    for (double x : row.score) row.l += x > -INFINITY ? std::exp(x - row.m) : 0;
    return row;
  }
  bool Kept(int b, int h, int i, int j) const {
    return !call.drops || Keep(call.dropout, b * q_heads + h, i, j);
  }

 private:
  static constexpr int kBlockRows = 4, kBlockCols = 11;

  static void Fill(T* row, int n, Values& values) {
    for (int d = 0; d < n; ++d) row[d] = Rounded<T>(values.Normal());
  }

  // Sizes, strides, index arrays.
  void Layout() {
    const int gap = s.wide ? 8 : 1;
    if (s.ragged) {
      cu_q = {0, s.q_len - 4, 2 * s.q_len - 4};
      cu_k = {0, s.k_len, s.k_len + 7};
      call.cu_seqlens_q = cu_q.data();
      call.cu_seqlens_k = cu_k.data();
      call.total_q = cu_q[2];
      call.total_k = cu_k[2];
    }
    call.q.steps = StepsOf(s.q_len, q_heads, s.dim, gap);
    call.k.steps = StepsOf(s.paged ? kPage : s.k_len, kHeads, s.dim, 2 * gap);
    call.v.steps = StepsOf(s.paged ? kPage : s.k_len, kHeads, s.dim_v, gap);
    call.q.wide = call.k.wide = call.v.wide = s.wide;
    if (s.paged) {
      CacheArrays& c = call.cache;
      call.k_len = int(CeilDiv(s.k_len, kPage)) * kPage;
      c.blocks = call.k_len / kPage;
      c.rows = kPage;
      c.slots = kPages;
      for (int n = 0; n < kBatch * c.blocks; ++n) table.push_back((n * 5 + 3) % kPages);
      seqlens = {s.k_len / 3, s.k_len};  // the last entry's blocks end with the table
      c.seqlens = seqlens.data();
      c.table = table.data();
      leftpad = {5, 1};
      if (s.leftpad) c.leftpad = leftpad.data();
    }
    if (s.lengths) {
      lengths = {s.k_len - 5, 0};
      call.key_lengths = lengths.data();
    }
    call.rule.left = s.left;
    call.rule.right = s.right;
    call.rule.prefix = s.prefix;
    call.rule.chunk = s.chunk;
    call.bottom_right = !s.top_left && !s.offsets;
    offsets = {-3, 30};
    if (s.offsets) call.query_offsets = offsets.data();
  }

  // What a score is made of.
  void Score(Values& values) {
    call.terms = Terms<float>::Of(
        {.scale = s.scale, .softcap = s.softcap, .alibi = s.alibi, .bias = s.bias});
    call.factors = FoldExp2(call.terms);
    for (int h = 0; h < q_heads; ++h) slopes.push_back(1 / float(1 << (h + 1)));
    if (s.alibi) call.slopes = slopes.data();
    const std::int64_t per_head = std::int64_t{s.q_len} * call.k_len;
    if (s.bias) {
      bias = values.Of<float>(size_t(q_heads * per_head));
      bias[5] = -INFINITY;
      for (float x : bias) bias16.push_back(Rounded<T>(x));
      call.bias_f32 = s.bias_f32;
      call.bias = {s.bias_f32 ? static_cast<void*>(bias.data()) : bias16.data(), 0, per_head,
                   call.k_len, 1};
    }
    for (int h = 0; h < q_heads; ++h) sinks.push_back(h == 1 ? -INFINITY : float(3 * h) - 2);
    if (s.sinks) call.sinks = sinks.data();
    call.drops = s.dropout > 0;
    call.dropout = DropoutOf(99, 5, s.dropout);
    call.keep_factor = float(1 / (1 - s.dropout));
    call.out_f32 = s.out_f32;
  }

  // Mask and block map: random, with rows and corners that are all one or the other.
  void Hide(Values& values) {
    if (s.mask) {
      const std::int64_t per_head = std::int64_t{s.q_len} * call.k_len;
      mask.resize(size_t(kBatch * per_head));
      for (size_t n = 0; n < mask.size(); ++n) {
        const std::int64_t i = std::int64_t(n) / call.k_len % s.q_len;
        const std::int64_t j = std::int64_t(n) % call.k_len;
        mask[n] = i != 1 && (j < 32 || (j < 64 ? i >= 64 : values.Below(3) > 0));
      }
      call.mask = {mask.data(), per_head, 0, call.k_len, 1};
    }
    call.block_rows = kBlockRows;
    call.block_cols = kBlockCols;
    if (s.map) {
      const std::int64_t cols = CeilDiv(call.k_len, kBlockCols),
                         rows = CeilDiv(s.q_len, kBlockRows);
      map.resize(size_t(q_heads * rows * cols));
      for (auto& x : map) x = values.Below(3) > 0;
      call.block_map = {map.data(), 0, rows * cols, cols, 1};
    }
  }
};

// Half a unit in the last place of a result of 1.
template <class T>
double HalfUnit(bool f32) {
  return f32 || sizeof(T) == 4 ? 0x1p-24 : std::is_same_v<T, F16> ? 0x1p-11 : 0x1p-8;
}

}  // namespace heed::cuda
