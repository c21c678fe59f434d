// cache_test.cpp: calls over a KV cache against plain calls on the rows that are in use, the
// append, and rotary embedding.
#include <cmath>
#include <limits>

#include "run.h"

namespace heed {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kHq = 4, kHk = 2, kD = 4;
constexpr std::int64_t kRow = kHk * kD;  // elements of one cache row

// A cache call with float64 tensors; what is not in use holds NaN.
struct CacheCall {
  Problem p;
  Doubles q, k_cache, v_cache, k_new, v_new, cos, sin, o;
  Floats lse, slopes;
  std::vector<std::int32_t> seqlens, batch_idx, leftpad, table;

  CacheCall(std::int64_t batch, std::int64_t q_len, std::int64_t slots, std::int64_t rows) {
    p = {.batch = batch, .q_len = q_len, .q_heads = kHq, .k_heads = kHk, .dim = kD};
    p.dtype = DType::kF64;
    p.causal = true, p.want_lse = true;
    p.cache = {.given = true, .slots = slots, .rows = rows};
    q = Random(batch * q_len * kHq * kD, 1);
    k_cache.assign(slots * rows * kRow, kNan);
    v_cache = k_cache;
  }
  // Rows [first, first + n) of a slot or page take rows [0, n) of the sequence's keys and values.
  void Put(std::int64_t slot, std::int64_t first, const Doubles& k, const Doubles& v) {
    const std::int64_t at = (slot * p.cache.rows + first) * kRow;
    std::copy(k.begin(), k.end(), k_cache.begin() + at);
    std::copy(v.begin(), v.end(), v_cache.begin() + at);
  }
  Status Run() {
    o.assign(q.size(), 77);
    lse.assign(p.batch * p.q_len * kHq, 77);
    Buffers b;
    b.q = q.data(), b.o = o.data(), b.lse = lse.data();
    b.k_cache = k_cache.data(), b.v_cache = v_cache.data(), b.cache_seqlens = seqlens.data();
    if (p.cache.new_len > 0) b.k_new = k_new.data(), b.v_new = v_new.data();
    if (p.cache.batch_idx) b.cache_batch_idx = batch_idx.data();
    if (p.cache.leftpad) b.cache_leftpad = leftpad.data();
    if (p.cache.blocks > 0) b.block_table = table.data();
    if (p.cache.rotary != Rotary::kNone) b.rotary_cos = cos.data(), b.rotary_sin = sin.data();
    if (p.alibi != Alibi::kNone) b.alibi_slopes = slopes.data();
    return RunReference(p, b);
  }
};

Doubles Rows(std::int64_t n, std::uint32_t seed) { return Random(n * kRow, seed); }

// Entry b of the call against a plain call on its keys.
void ExpectEntry(const CacheCall& c, std::int64_t b, const Doubles& k, const Doubles& v) {
  Problem p = c.p;
  p.batch = 1, p.cache = {}, p.k_len = static_cast<std::int64_t>(k.size()) / kRow;
  Call plain(p);
  const std::int64_t n = p.q_len * kHq * kD;
  plain.q.assign(c.q.begin() + b * n, c.q.begin() + (b + 1) * n);
  plain.k = k, plain.v = v, plain.slopes = c.slopes;
  plain.Forward();
  for (std::int64_t e = 0; e < n; e++) EXPECT_EQ(c.o[b * n + e], plain.o[e]);
  for (std::int64_t e = 0; e < p.q_len * kHq; e++) {
    EXPECT_EQ(c.lse[b * p.q_len * kHq + e], plain.lse[e]);
  }
}

TEST(Cache, ReadsTheRowsInUse) {
  CacheCall c(2, 1, 3, 8);
  c.seqlens = {5, 8};
  const Doubles k0 = Rows(5, 2), v0 = Rows(5, 3), k1 = Rows(8, 4), v1 = Rows(8, 5);
  c.Put(0, 0, k0, v0);
  c.Put(1, 0, k1, v1);
  ASSERT_TRUE(c.Run().ok());
  ExpectEntry(c, 0, k0, v0);
  ExpectEntry(c, 1, k1, v1);
}

Doubles Joined(Doubles a, const Doubles& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(Cache, AppendsInPlaceFirst) {
  CacheCall c(1, 2, 1, 8);
  c.seqlens = {3}, c.p.cache.new_len = 2;
  const Doubles k = Rows(3, 2), v = Rows(3, 3);
  c.Put(0, 0, k, v);
  c.k_new = Rows(2, 4), c.v_new = Rows(2, 5);
  ASSERT_TRUE(c.Run().ok());
  ExpectEntry(c, 0, Joined(k, c.k_new), Joined(v, c.v_new));
  for (std::int64_t e = 0; e < 8 * kRow; e++) {
    const double want = e < 3 * kRow ? k[e] : e < 5 * kRow ? c.k_new[e - 3 * kRow] : kNan;
    EXPECT_TRUE(c.k_cache[e] == want || (std::isnan(want) && std::isnan(c.k_cache[e])));
  }
}

TEST(Cache, BatchIndexNamesTheSlot) {
  CacheCall c(2, 1, 4, 6);
  c.p.cache.batch_idx = true, c.batch_idx = {3, 1}, c.seqlens = {2, 6};
  const Doubles k0 = Rows(2, 2), v0 = Rows(2, 3), k1 = Rows(6, 4), v1 = Rows(6, 5);
  c.Put(3, 0, k0, v0);
  c.Put(1, 0, k1, v1);
  ASSERT_TRUE(c.Run().ok());
  ExpectEntry(c, 0, k0, v0);
  ExpectEntry(c, 1, k1, v1);
}

TEST(Cache, CountsFromTheFirstValidRow) {
  CacheCall c(1, 3, 1, 10);
  c.p.cache.leftpad = true, c.leftpad = {4}, c.seqlens = {9};
  c.p.alibi = Alibi::kPerHead, c.slopes = {0.5f, 0.25f, 0.125f, 1};
  c.p.prefix = 1, c.p.window_left = 2;
  const Doubles k = Rows(5, 2), v = Rows(5, 3);
  c.Put(0, 4, k, v);
  ASSERT_TRUE(c.Run().ok());
  ExpectEntry(c, 0, k, v);
}

TEST(Cache, PagesOfAnySize) {
  for (const std::int64_t page : {1, 3, 7}) {
    CacheCall c(1, 2, 12, page);
    c.p.cache.blocks = (9 + page - 1) / page;
    for (std::int64_t n = 0; n < c.p.cache.blocks; n++) {
      c.table.push_back(static_cast<std::int32_t>(11 - n));
    }
    c.seqlens = {7}, c.p.cache.new_len = 2;
    const Doubles k = Rows(7, 2), v = Rows(7, 3);
    for (std::int64_t r = 0; r < 7; r++) {
      c.Put(c.table[r / page], r % page, {k.begin() + r * kRow, k.begin() + (r + 1) * kRow},
            {v.begin() + r * kRow, v.begin() + (r + 1) * kRow});
    }
    c.k_new = Rows(2, 4), c.v_new = Rows(2, 5);
    const Status s = c.Run();
    ASSERT_TRUE(s.ok()) << s.message();
    ExpectEntry(c, 0, Joined(k, c.k_new), Joined(v, c.v_new));
  }
}

TEST(Cache, EmptyWithNothingToAppendSeesNothing) {
  CacheCall c(1, 1, 1, 4);
  c.seqlens = {0};
  ASSERT_TRUE(c.Run().ok());
  for (const double x : c.o) EXPECT_EQ(x, 0);
  for (const float x : c.lse) EXPECT_EQ(x, -std::numeric_limits<float>::infinity());
}

// The first pair of a row turned by angle `position`, the rest as it is.
Doubles Turned(Doubles row, std::int64_t position, int x, int y) {
  const double a = static_cast<double>(position), p = row[x], q = row[y];
  row[x] = p * std::cos(a) - q * std::sin(a);
  row[y] = p * std::sin(a) + q * std::cos(a);
  return row;
}

void ExpectRotary(Rotary rotary, bool causal) {
  CacheCall c(1, 2, 1, 6);
  c.p.causal = causal;
  c.p.cache.rotary = rotary, c.p.cache.rotary_dim = 4, c.p.cache.rotary_rows = 6;
  c.p.cache.new_len = 2, c.p.cache.leftpad = true;
  c.seqlens = {3}, c.leftpad = {1};
  for (int r = 0; r < 6; r++) {  // the second pair does not turn
    c.cos.push_back(std::cos(r)), c.cos.push_back(1);
    c.sin.push_back(std::sin(r)), c.sin.push_back(0);
  }
  const Doubles k = Rows(2, 2), v = Rows(2, 3);
  c.Put(0, 1, k, v);
  c.k_new = Rows(2, 4), c.v_new = Rows(2, 5);
  ASSERT_TRUE(c.Run().ok());

  const int x = 0, y = rotary == Rotary::kInterleaved ? 1 : 2;
  const auto turn = [&](Doubles& rows, std::int64_t per_row, std::int64_t row, std::int64_t at) {
    for (std::int64_t n = row * per_row; n < (row + 1) * per_row; n += kD) {
      const Doubles turned = Turned({rows.begin() + n, rows.begin() + n + kD}, at, x, y);
      std::copy(turned.begin(), turned.end(), rows.begin() + n);
    }
  };
  // New keys at their absolute rows 3 and 4, left padding or not; queries there too if they move,
  // else all at 3.
  Doubles k_new = c.k_new;
  for (std::int64_t t = 0; t < 2; t++) {
    turn(k_new, kRow, t, 3 + t);
    turn(c.q, kHq * kD, t, causal ? 3 + t : 3);
  }
  for (std::int64_t e = 0; e < 2 * kRow; e++) EXPECT_DOUBLE_EQ(c.k_cache[3 * kRow + e], k_new[e]);
  ExpectEntry(c, 0, Joined(k, k_new), Joined(v, c.v_new));
}

TEST(Cache, RotaryOfPairs) {
  ExpectRotary(Rotary::kInterleaved, true);
  ExpectRotary(Rotary::kInterleaved, false);
}
TEST(Cache, RotaryOfHalves) {
  ExpectRotary(Rotary::kHalf, true);
  ExpectRotary(Rotary::kHalf, false);
}

// Sixteen-bit rows are turned in f32 and rounded once, those of k and those of q: 1 and 1/128 by 45
// degrees.
TEST(Cache, RotaryRoundsToTheDtype) {
  const std::uint16_t q[] = {0x3F80, 0x3C00}, k_new[] = {0x3F80, 0x3C00}, v_new[] = {0, 0};
  const std::uint16_t half[] = {0x3F35};  // 0.70703125
  std::uint16_t k_cache[2], v_cache[2], o[2];
  const std::int32_t seqlens = 0;
  float lse = 0;
  Problem p{.batch = 1, .q_len = 1, .dim = 2, .dtype = DType::kBF16};
  p.cache = {.given = true,
             .slots = 1,
             .rows = 1,
             .new_len = 1,
             .rotary = Rotary::kHalf,
             .rotary_dim = 2,
             .rotary_rows = 1};
  p.scale = 1, p.want_lse = true;
  Buffers b;
  b.q = q, b.o = o, b.lse = &lse, b.k_cache = k_cache, b.v_cache = v_cache, b.k_new = k_new,
  b.v_new = v_new;
  b.rotary_cos = half, b.rotary_sin = half, b.cache_seqlens = &seqlens;
  const Status s = RunReference(p, b);
  ASSERT_TRUE(s.ok()) << s.message();
  EXPECT_EQ(k_cache[0], 0x3F34);  // 0.70150757 -> 0.703125
  EXPECT_EQ(k_cache[1], 0x3F36);  // 0.71255493 -> 0.7109375
  EXPECT_FLOAT_EQ(lse, 0.703125f * 0.703125f + 0.7109375f * 0.7109375f);
}

}  // namespace
}  // namespace heed
