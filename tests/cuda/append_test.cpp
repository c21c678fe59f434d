// AppendRows in the emulator against a plain loop over rows: slots and pages, rotary embedding of both
// kinds, queries rotated, index arrays that hold nonsense.
#include "cuda/append.h"

#include "kernels_testing.h"

namespace heed::cuda {
namespace {

struct Shape {
  int dim = 20, dim_v = 13, rotary = 0;  // odd, and behind the rotated entries some more
  bool half = false, moves = true, paged = false, padded = false, wide = false;
  bool narrow_new = false, narrow_cache = false;  // of a wide call
};

std::string Name(const testing::TestParamInfo<Shape>& info) {
  const Shape& s = info.param;
  return std::string(s.paged ? "pages" : "slots") + (s.wide ? "_wide" : "") +
         (s.narrow_new     ? "_from_narrow"
          : s.narrow_cache ? "_to_narrow"
                           : "") +
         (s.rotary == 0 ? ""
          : s.half      ? "_half"
                        : "_interleaved") +
         (s.moves ? "" : "_still") + (s.padded ? "_leftpad" : "");
}

constexpr int kBatch = 3, kHeads = 2, kGroup = 3, kNew = 5, kQueries = 4, kRows = 8, kBlocks = 3;
constexpr int kLongest = kRows * kBlocks;  // of a slot, or of the pages of an entry
constexpr int kPlaces = 12;                // slots, or pages; entries use fewer

template <class T>
struct Append {
  Shape s;
  std::vector<T> k, v, k_new, v_new, q, rotated, cosines, sines;
  std::vector<std::int32_t> seqlens = {0, 17, 19}, leftpad = {2, 3, 0}, slots = {7, 0, 4};
  std::vector<std::int32_t> table = {5, 11, 2, 0, 9, 4, 3, 7, 8};
  ForwardCall call;

  explicit Append(const Shape& shape) : s(shape) {
    Values values(11);
    const bool wide = s.wide && !s.narrow_cache, wide_new = s.wide && !s.narrow_new;
    const int rows = s.paged ? kRows : kLongest, gap = wide ? 16 : 3, new_gap = wide_new ? 16 : 3;
    const Steps k_steps = StepsOf(rows, kHeads, s.dim, gap),
                q_steps = StepsOf(kQueries, kHeads * kGroup, s.dim, gap);
    const Steps v_steps = StepsOf(rows, kHeads, s.dim_v, gap);
    const Steps k_new_steps = StepsOf(kNew, kHeads, s.dim, new_gap);
    const Steps v_new_steps = StepsOf(kNew, kHeads, s.dim_v, new_gap);
    k = values.Of<T>(size_t(kPlaces * k_steps.batch));
    v = values.Of<T>(size_t(kPlaces * v_steps.batch));
    k_new = values.Of<T>(size_t(kBatch * k_new_steps.batch));
    v_new = values.Of<T>(size_t(kBatch * v_new_steps.batch));
    q = values.Of<T>(size_t(kBatch * q_steps.batch));
    rotated.resize(size_t(kBatch * kQueries * kHeads * kGroup * s.dim));
    cosines = values.Of<T>(size_t(kLongest * s.rotary / 2));
    sines = values.Of<T>(cosines.size());

    call.batch = kBatch;
    call.q_heads = kHeads * kGroup;
    call.group = kGroup;
    call.q_len = kQueries;
    call.k_len = kLongest;
    call.dim = s.dim;
    call.dim_v = s.dim_v;
    call.k = {k.data(), k_steps, wide};
    call.v = {v.data(), v_steps, wide};
    CacheArrays& c = call.cache;
    c.seqlens = seqlens.data();
    if (s.padded) c.leftpad = leftpad.data();
    if (s.paged) c.table = table.data();
    if (!s.paged) c.batch_idx = slots.data();
    c.slots = kPlaces;
    c.rows = rows;
    c.blocks = s.paged ? kBlocks : 0;
    c.new_len = kNew;
    c.k_new = {k_new.data(), k_new_steps, wide_new};
    c.v_new = {v_new.data(), v_new_steps, wide_new};
    c.rotary_dim = s.rotary;
    c.rotary_half = s.half;
    c.rotary_moves = s.moves;
    c.cos = cosines.data();
    c.sin = sines.data();
    c.rotary_rows = kLongest;
    c.q = {q.data(), q_steps, s.wide};
    c.rotated = rotated.data();
  }

  // Where row r of entry b lies in the cache.
  size_t At(const Steps& steps, int b, int r, int h) const {
    const size_t place =
        size_t(s.paged ? table[size_t(b * kBlocks + r / kRows)] : slots[size_t(b)]);
    return place * size_t(steps.batch) + size_t(s.paged ? r % kRows : r) * size_t(steps.row) +
           size_t(h) * size_t(steps.head);
  }
  static size_t Of(const Steps& steps, int b, int r, int h) {
    return size_t(b * steps.batch + r * steps.row + h * steps.head);
  }

  // f64 holds a product of two floats exactly, and rounding their sum twice gives what once gives.
  void Rotate(const T* from, int position, T* to) const {
    for (int d = 0; d < s.dim; ++d) to[d] = from[d];
    const int pairs = s.rotary / 2;
    for (int t = 0; t < pairs; ++t) {
      const int a = s.half ? t : 2 * t, b = s.half ? t + pairs : 2 * t + 1;
      const double x = Widen(from[a]), y = Widen(from[b]);
      const double c = Widen(cosines[size_t(position * pairs + t)]);
      const double n = Widen(sines[size_t(position * pairs + t)]);
      to[a] = Rounded<T>(float(double(float(x * c)) - double(float(y * n))));
      to[b] = Rounded<T>(float(double(float(x * n)) + double(float(y * c))));
    }
  }
};

template <class T>
void Check(const Shape& shape) {
  Append<T> a(shape);
  std::vector<T> want_k = a.k, want_v = a.v, want_q(a.rotated.size());
  struct Written {
    size_t k, v;
  };
  std::vector<Written> rows;
  for (int b = 0; b < kBatch; ++b) {
    for (int h = 0; h < kHeads; ++h) {
      for (int t = 0; t < kNew; ++t) {
        const int r = a.seqlens[size_t(b)] + t;
        const Written to = {a.At(a.call.k.steps, b, r, h), a.At(a.call.v.steps, b, r, h)};
        rows.push_back(to);
        a.Rotate(&a.k_new[a.Of(a.call.cache.k_new.steps, b, t, h)], r, &want_k[to.k]);
        const T* const v_new = &a.v_new[a.Of(a.call.cache.v_new.steps, b, t, h)];
        for (int d = 0; d < shape.dim_v; ++d) want_v[to.v + size_t(d)] = v_new[d];
      }
    }
    for (int i = 0; i < kQueries; ++i) {
      for (int h = 0; h < kHeads * kGroup; ++h) {
        a.Rotate(&a.q[a.Of(a.call.cache.q.steps, b, i, h)],
                 a.seqlens[size_t(b)] + (shape.moves ? i : 0),
                 &want_q[size_t(((b * kQueries + i) * kHeads * kGroup + h) * shape.dim)]);
      }
    }
  }
  RunEverySchedule<SmallConfig<T>>(
      AppendItems(a.call),
      [&](emu::Memory& memory) {
        memory.Input("k_new", a.k_new);
        memory.Input("v_new", a.v_new);
        memory.Input("q", a.q);
        memory.Input("cos", a.cosines);
        memory.Input("sin", a.sines);
        memory.Input("seqlens", a.seqlens);
        if (shape.padded) memory.Input("leftpad", a.leftpad);
        if (shape.paged) memory.Input("table", a.table);
        if (!shape.paged) memory.Input("slots", a.slots);
        // Of the cache the kernel may touch these rows alone.
        for (const Written& row : rows) {
          memory.Add("k", &a.k[row.k], size_t(shape.dim) * sizeof(T), emu::Use::kOutput);
          memory.Add("v", &a.v[row.v], size_t(shape.dim_v) * sizeof(T), emu::Use::kOutput);
        }
        if (shape.rotary > 0) memory.Output("rotated", a.rotated);
      },
      [&] { AppendRows<SmallConfig<T>>(a.call); },
      [&] {
        EXPECT_TRUE(SameBits(a.k, want_k));
        EXPECT_TRUE(SameBits(a.v, want_v));
        if (shape.rotary > 0) {
          EXPECT_TRUE(SameBits(a.rotated, want_q));
        }
      });
}

class Appends : public testing::TestWithParam<Shape> {};

TEST_P(Appends, F32) { Check<F32>(GetParam()); }
TEST_P(Appends, F16) { Check<F16>(GetParam()); }
TEST_P(Appends, Bf16) { Check<Bf16>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, Appends,
    testing::Values(Shape{}, Shape{.paged = true, .padded = true},
                    Shape{.dim = 32, .dim_v = 48, .wide = true, .narrow_new = true},
                    Shape{.dim = 32, .dim_v = 48, .wide = true, .narrow_cache = true},
                    Shape{.dim = 32, .dim_v = 48, .wide = true},
                    Shape{.dim = 16, .dim_v = 304, .paged = true, .wide = true},
                    Shape{.rotary = 14}, Shape{.rotary = 14, .half = true, .paged = true},
                    Shape{.rotary = 20, .moves = false, .padded = true},
                    Shape{.dim = 136, .dim_v = 8, .rotary = 136, .half = true, .wide = true}),
    Name);

template <class T>
struct AppendOf : testing::Test {};
TYPED_TEST_SUITE(AppendOf, Elements);

// Nobody checks arrays on a device: whatever they hold, nothing else is touched.
TYPED_TEST(AppendOf, NonsenseInIndexArraysStaysInside) {
  using T = TypeParam;
  constexpr std::int32_t kHuge = INT32_MAX, kLow = INT32_MIN;
  for (const bool paged : {false, true}) {
    Append<T> a({.rotary = 14, .paged = paged, .padded = true});
    a.seqlens = {kHuge, kLow, kLongest};
    a.leftpad = {kLow, kHuge, 1};
    a.slots = {-1, kPlaces, kHuge};
    // Fewer angles than rows of the cache.
    a.cosines.resize(size_t(10 * 7));
    a.sines.resize(a.cosines.size());
    a.call.cache.rotary_rows = 10;
    a.table = {-1, kHuge, kLow, kPlaces, -7, 1 << 30, kHuge, kLow, -1};
    RunEverySchedule<SmallConfig<T>>(
        AppendItems(a.call),
        [&](emu::Memory& memory) {
          memory.Input("k_new", a.k_new);
          memory.Input("v_new", a.v_new);
          memory.Input("q", a.q);
          memory.Input("cos", a.cosines);
          memory.Input("sin", a.sines);
          memory.Input("seqlens", a.seqlens);
          memory.Input("leftpad", a.leftpad);
          memory.Input("table", a.table);
          memory.Input("slots", a.slots);
          memory.Shared("k", a.k);
          memory.Shared("v", a.v);
          memory.Output("rotated", a.rotated);
        },
        [&] { AppendRows<SmallConfig<T>>(a.call); }, [] {});
  }
}

TEST(Grid, Items) {
  ForwardCall none;
  none.batch = 3;
  none.q_heads = none.q_len = 5;
  none.schedule = {3, 5, 5, 64};
  EXPECT_EQ(AppendItems(none), 0);
  EXPECT_EQ(JoinItems(none), 0);
  EXPECT_EQ(BlocksFor(0, 4), 0);
  EXPECT_EQ(BlocksFor(8, 4), 2);
  EXPECT_EQ(BlocksFor(9, 4), 3);
  EXPECT_EQ(BlocksFor(std::int64_t{1} << 40, 4), 1 << 26);
}

// A warp takes further items where there are fewer blocks than they fill.
TEST(Append, FewerBlocksThanItems) {
  Append<F16> a({.rotary = 14});
  emu::Config config = emu::Threads(SmallConfig<F16>::kThreads, 0, 750);
  config.grid[0] = 3;
  std::vector<F16> first = a.rotated;
  for (int round = 0; round < 2; ++round) {
    emu::Memory memory;
    for (auto* v : {&a.k_new, &a.v_new, &a.q, &a.cosines, &a.sines}) memory.Input("in", *v);
    memory.Input("seqlens", a.seqlens);
    memory.Input("slots", a.slots);
    memory.Shared("k", a.k);
    memory.Shared("v", a.v);
    memory.Output("rotated", a.rotated);
    EXPECT_EQ(emu::ErrorOf(config, memory, [&] { AppendRows<SmallConfig<F16>>(a.call); }), "");
    if (round == 0) first = a.rotated;
    config.grid[0] = int(BlocksFor(AppendItems(a.call), SmallConfig<F16>::kWarps));
  }
  EXPECT_TRUE(SameBits(a.rotated, first));
}

}  // namespace
}  // namespace heed::cuda
