// merge_test.cpp: Merge: what it adds up, what it refuses, and that a whole cut into parts at random
// comes back. Not here: pieces that an engine cuts by itself.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "heed/heed.h"
#include "verify/array.h"

namespace heed {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Rows of one batch entry and head: o (rows, width), lse (rows).
struct Rows {
  std::vector<float> o, lse;
  Partial partial() const { return {o.data(), lse.data(), {}}; }
};

struct Call {
  explicit Call(std::int64_t rows, std::int64_t width)
      : o(static_cast<std::size_t>(rows * width), 77), lse(static_cast<std::size_t>(rows), 77) {
    m = {.q_len = rows, .dim_v = width, .o = o.data(), .lse = lse.data()};
  }
  Status Of(const std::vector<Partial>& parts) {
    return Merge(parts.data(), static_cast<std::int64_t>(parts.size()), m);
  }
  std::vector<float> o, lse;
  Merged m;
};

TEST(Merge, WeighsPartsByTheirSums) {
  const Rows a = {{1, 2, 3, 4}, {0, 1}}, b = {{5, 6, 7, 8}, {0, 1 + std::log(3.f)}};
  Call call(2, 2);
  ASSERT_TRUE(call.Of({a.partial(), b.partial()}).ok());
  EXPECT_EQ(call.o, (std::vector<float>{3, 4, 6, 7}));
  EXPECT_FLOAT_EQ(call.lse[0], std::log(2.f));
  EXPECT_FLOAT_EQ(call.lse[1], 1 + std::log(4.f));
}

TEST(Merge, OnePartKeepsItsBits) {
  const Rows a = {{0.1f, -3e38f, 1e-45f, -0.f}, {-3.4e38f, 88.7f}};
  const Rows nothing = {{kNaN, 1, 2, kInfinity}, {-kInfinity, -kInfinity}};
  for (const auto& parts :
       {std::vector<Partial>{a.partial()}, {nothing.partial(), a.partial(), nothing.partial()}}) {
    Call call(2, 2);
    ASSERT_TRUE(call.Of(parts).ok());
    EXPECT_EQ(std::memcmp(call.o.data(), a.o.data(), 16), 0);
    EXPECT_EQ(call.lse, a.lse);
  }
}

TEST(Merge, NothingSeenAnywhereIsNothingSeen) {
  const Rows nothing = {{kNaN, 5}, {-kInfinity, -kInfinity}};
  Call call(2, 1);
  ASSERT_TRUE(call.Of({nothing.partial(), nothing.partial()}).ok());
  EXPECT_EQ(call.o, (std::vector<float>{0, 0}));
  EXPECT_EQ(call.lse, (std::vector<float>{-kInfinity, -kInfinity}));
}

TEST(Merge, NaNStaysInItsRow) {
  const Rows a = {{1, 1, 1, 1, 1, 1}, {0, kNaN, 0}}, b = {{2, kNaN, 2, 2, 2, 2}, {0, 0, kInfinity}};
  Call call(3, 2);
  ASSERT_TRUE(call.Of({a.partial(), b.partial()}).ok());
  EXPECT_EQ(call.o[0], 1.5f);
  for (const int n : {1, 2, 3, 4, 5}) EXPECT_TRUE(std::isnan(call.o[static_cast<std::size_t>(n)]));
  EXPECT_FLOAT_EQ(call.lse[0], std::log(2.f));
  EXPECT_TRUE(std::isnan(call.lse[1]) && std::isnan(call.lse[2]));
}

TEST(Merge, HugeAndTinySumsMeet) {
  const Rows a = {{1}, {3.4e38f}}, b = {{2}, {-3.4e38f}}, c = {{3}, {3.4e38f}};
  Call call(1, 1);
  ASSERT_TRUE(call.Of({a.partial(), b.partial(), c.partial()}).ok());
  EXPECT_EQ(call.o[0], 2);
  EXPECT_EQ(call.lse[0], 3.4e38f);
}

TEST(Merge, ResultMayTakeThePlaceOfAPart) {
  Rows a = {{1, 2}, {0, 5}};
  const Rows b = {{3, 4}, {0, 5}};
  const Merged m = {.q_len = 2, .dim_v = 1, .o = a.o.data(), .lse = a.lse.data()};
  const Partial parts[] = {b.partial(), a.partial()};
  const Status status = Merge(parts, 2, m);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(a.o, (std::vector<float>{2, 3}));
  EXPECT_FLOAT_EQ(a.lse[1], 5 + std::log(2.f));
}

TEST(Merge, LseNeedNotBeWanted) {
  const Rows a = {{1}, {0}};
  Call call(1, 1);
  call.m.lse = nullptr;
  ASSERT_TRUE(call.Of({a.partial()}).ok());
  EXPECT_EQ(call.o[0], 1);
  EXPECT_EQ(call.lse[0], 77);
}

// Parts (B,H,S,D) and padded, the result (B,S,H,D) with gaps that keep what they hold.
TEST(Merge, AnyStrides) {
  const std::int64_t b = 2, s = 3, h = 2, d = 5;
  std::vector<float> x(60), y(200, kNaN), lse(12, 0.f), out(2 * 3 * 2 * 7, 77.f);
  const Strides heads_first = {h * s * d, d, s * d}, padded = {100, 24, 9}, gaps = {42, 14, 7};
  for (std::int64_t n = 0; n < 60; ++n) x[static_cast<std::size_t>(n)] = static_cast<float>(n);
  for (std::int64_t i = 0; i < b * s * h; ++i) {
    const std::int64_t bb = i / (s * h), ss = i / h % s, hh = i % h;
    std::copy_n(x.begin() + bb * heads_first.batch + ss * heads_first.row + hh * heads_first.head,
                d, y.begin() + bb * padded.batch + ss * padded.row + hh * padded.head);
  }
  const Partial parts[] = {{x.data(), lse.data(), heads_first}, {y.data(), lse.data(), padded}};
  const Merged m = {
      .batch = b, .q_len = s, .q_heads = h, .dim_v = d, .o_strides = gaps, .o = out.data()};
  const Status status = Merge(parts, 2, m);
  ASSERT_TRUE(status.ok()) << status.message();
  for (std::int64_t n = 0; n < b * s * h * 7; ++n) {
    const std::int64_t bb = n / 42, ss = n / 14 % 3, hh = n / 7 % 2, dd = n % 7;
    const auto from = static_cast<std::size_t>(bb * heads_first.batch + ss * heads_first.row +
                                               hh * heads_first.head + dd);
    EXPECT_EQ(out[static_cast<std::size_t>(n)], dd < d ? x[from] : 77.f) << n;
  }
}

// Rounded once to 16 bits, to nearest even, subnormals and overflow included: as Store of verify.
TEST(Merge, RoundsOnceToTheOutputsDtype) {
  std::vector<float> values = {0.f,      -0.f,    1.f,       1.00390625f, 1.01171875f, 65519.996f,
                               65520.f,  3.4e38f, -3.4e38f,  5.9e-8f,     2.98e-8f,    6.1e-5f,
                               9.2e-41f, 1e-45f,  kInfinity, kNaN,        -6.09e-5f,   1.17e-38f};
  for (int n = 0; n < 400; ++n)
    values.push_back(std::ldexp(1.f + 0.0024f * static_cast<float>(n), n % 60 - 30));
  const auto width = static_cast<std::int64_t>(values.size());
  const float zero = 0;
  const Partial part = {values.data(), &zero, {}};
  for (const DType type : {DType::kBF16, DType::kF16}) {
    std::vector<std::uint16_t> out(values.size());
    const Merged m = {.q_len = 1, .dim_v = width, .out_dtype = type, .o = out.data()};
    const Status status = Merge(&part, 1, m);
    ASSERT_TRUE(status.ok()) << status.message();
    for (std::int64_t n = 0; n < width; ++n) {
      const float value = values[static_cast<std::size_t>(n)];
      std::uint16_t want = 0;
      verify::Store(&want, type, 0, value);
      const double got = verify::Load(out.data(), type, n);
      if (std::isnan(value)) {
        EXPECT_TRUE(std::isnan(got));
      } else {
        EXPECT_EQ(out[static_cast<std::size_t>(n)], want) << Name(type) << " of " << value;
      }
    }
  }
}

TEST(Merge, NothingToDo) {
  const Partial none;
  for (const Merged& m :
       {Merged{.batch = 0, .q_len = 5, .dim_v = 4}, Merged{.q_len = 0, .dim_v = 4}}) {
    EXPECT_TRUE(Merge(&none, 1, m).ok());
    EXPECT_TRUE(Merge(nullptr, 1, m).ok());
  }
}

struct Wrong {
  const char* says;
  void (*break_it)(Merged*, std::vector<Partial>*);
};

TEST(Merge, RefusesInASentenceAndWritesNothing) {
  const Wrong cases[] = {
      {"count is 0: there must be 1 part or more", [](Merged*, std::vector<Partial>* p) { p->clear(); }},
      {"o is null", [](Merged* m, std::vector<Partial>*) { m->o = nullptr; }},
      {"parts[1].o is null", [](Merged*, std::vector<Partial>* p) { (*p)[1].o = nullptr; }},
      {"parts[0].lse is null", [](Merged*, std::vector<Partial>* p) { (*p)[0].lse = nullptr; }},
      {"batch is -1: it must be from 0 to", [](Merged* m, std::vector<Partial>*) { m->batch = -1; }},
      {"q_len is -5", [](Merged* m, std::vector<Partial>*) { m->q_len = -5; }},
      {"q_len is 1099511627777",
       [](Merged* m, std::vector<Partial>*) { m->q_len = (std::int64_t{1} << 40) + 1; }},
      {"q_heads is 0", [](Merged* m, std::vector<Partial>*) { m->q_heads = 0; }},
      {"dim_v is 0: it must be from 1 to 1024", [](Merged* m, std::vector<Partial>*) { m->dim_v = 0; }},
      {"dim_v is 1025", [](Merged* m, std::vector<Partial>*) { m->dim_v = 1025; }},
      {"out_dtype is f64", [](Merged* m, std::vector<Partial>*) { m->out_dtype = DType::kF64; }},
      {"out_dtype is 9", [](Merged* m, std::vector<Partial>*) { m->out_dtype = static_cast<DType>(9); }},
      {"o_strides.row is 1 and the axes inside it span 2",
       [](Merged* m, std::vector<Partial>*) { m->o_strides.row = 1; }},
      {"offset beyond 9223372036854775807 bytes",
       [](Merged* m, std::vector<Partial>*) { m->o_strides.row = INT64_MAX / 2; }},
      {"parts[0].o has an offset beyond",
       [](Merged*, std::vector<Partial>* p) { (*p)[0].o_strides.row = INT64_MAX / 2; }},
      {"bytes beyond a multiple of 4",
       [](Merged* m, std::vector<Partial>*) { m->o = reinterpret_cast<char*>(m->o) + 2; }},
      {"o is written and overlaps parts[1].o",
       [](Merged* m, std::vector<Partial>* p) { (*p)[1].o = static_cast<float*>(m->o) + 1; }},
      {"o is written and overlaps parts[0].lse",
       [](Merged* m, std::vector<Partial>* p) { (*p)[0].lse = static_cast<float*>(m->o); }},
      {"lse is written and overlaps parts[0].o",
       [](Merged* m, std::vector<Partial>* p) { (*p)[0].o = m->lse; }},
      {"lse is written and overlaps parts[1].lse",
       [](Merged* m, std::vector<Partial>* p) { (*p)[1].lse = m->lse + 1; }},
      {"o is written and overlaps lse",
       [](Merged* m, std::vector<Partial>*) { m->lse = static_cast<float*>(m->o) + 1; }},
      {"o is written and overlaps parts[0].o", [](Merged* m, std::vector<Partial>* p) {
         m->out_dtype = DType::kBF16;  // the same place, but not the same rows
         (*p)[0].o = static_cast<float*>(m->o);
       }},
  };
  for (const Wrong& wrong : cases) {
    std::vector<float> o(20, 77), lse(20, 77);
    const Rows a = {std::vector<float>(40, 1), std::vector<float>(20, 0)}, b = a;
    Merged m = {.q_len = 3, .dim_v = 2, .o = o.data(), .lse = lse.data()};
    std::vector<Partial> parts = {a.partial(), b.partial()};
    wrong.break_it(&m, &parts);
    const Status status = Merge(parts.data(), static_cast<std::int64_t>(parts.size()), m);
    EXPECT_FALSE(status.ok()) << wrong.says;
    EXPECT_NE(status.message().find(wrong.says), std::string::npos) << status.message();
    EXPECT_EQ(o, std::vector<float>(20, 77)) << wrong.says;
    EXPECT_EQ(lse, std::vector<float>(20, 77)) << wrong.says;
  }
  const Rows a = {{1}, {0}};
  Call call(1, 1);
  EXPECT_NE(Merge(nullptr, 2, call.m).message().find("parts is null and count is 2"),
            std::string::npos);
}

}  // namespace
}  // namespace heed
