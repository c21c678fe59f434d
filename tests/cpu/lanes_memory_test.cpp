// lanes_memory_test.cpp: what the lanes load and store: never a byte beyond the elements asked for,
// and bf16 and f16 for every one of their 65536 values. Not here: arithmetic (lanes_test.cpp).
#include <cstring>

#include "guarded.h"
#include "lanes_testing.h"

namespace heed::cpu {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr std::uint16_t kOne[] = {0, 0x3f80, 0x3c00};  // of bf16, f16
std::uint16_t OneOf(DType dtype) { return kOne[dtype == DType::kBF16 ? 1 : 2]; }

// The first n elements hold 1, 2, 1, 2, ...; written so that they end where the memory does.
void Fill(DType dtype, char* p, int n) {
  for (int i = 0; i < n; i++) {
    const float f = i % 2 ? 2.f : 1.f;
    const auto h = static_cast<std::uint16_t>(i % 2 ? 0x4000 : OneOf(dtype));
    if (dtype == DType::kF32)
      std::memcpy(p + 4 * i, &f, 4);
    else
      std::memcpy(p + 2 * i, &h, 2);
  }
}

TEST_P(Lanes, LoadNothingBeyondTheCount) {
  for (const DType dtype : kDTypes)
    for (int n = 0; n <= w; n++)
      for (const Guarded::Side side : {Guarded::kGuardBehind, Guarded::kGuardBefore}) {
        Guarded memory(static_cast<std::size_t>(n * SizeOf(dtype)), side);
        ASSERT_NE(memory.data(), nullptr);
        Fill(dtype, memory.data(), n);
        float out[kMaxLanes];
        lanes.load(dtype, memory.data(), n, out);
        for (int i = 0; i < w; i++)
          EXPECT_EQ(out[i], i >= n ? 0.f : i % 2 ? 2.f : 1.f) << Name(dtype) << " " << n;
        if (n < w) continue;
        lanes.load(dtype, memory.data(), -1, out);
        for (int i = 0; i < w; i++) EXPECT_EQ(out[i], i % 2 ? 2.f : 1.f) << Name(dtype);
      }
}

TEST_P(Lanes, StoreNothingBeyondTheCount) {
  float x[kMaxLanes];
  for (int i = 0; i < w; i++) x[i] = i % 2 ? 2.f : 1.f;
  for (const DType dtype : kDTypes)
    for (int n = 0; n <= w; n++) {
      const auto bytes = static_cast<std::size_t>(n * SizeOf(dtype));
      Guarded memory(bytes);
      ASSERT_NE(memory.data(), nullptr);
      std::vector<char> expected(bytes + 1);  // never null
      Fill(dtype, expected.data(), n);
      lanes.store(dtype, memory.data(), x, n);
      EXPECT_EQ(std::memcmp(memory.data(), expected.data(), bytes), 0) << Name(dtype) << " " << n;
      // What lies behind is not written back either: another thread may be writing it.
      std::vector<char> around(bytes + 64, 0x5a);
      lanes.store(dtype, around.data(), x, n);
      for (std::size_t i = bytes; i < around.size(); i++) EXPECT_EQ(around[i], 0x5a);
      if (n < w) continue;
      std::memset(memory.data(), 0, bytes);
      lanes.store(dtype, memory.data(), x, -1);
      EXPECT_EQ(std::memcmp(memory.data(), expected.data(), bytes), 0) << Name(dtype);
    }
}

TEST_P(Lanes, AskForNoAlignmentBeyondTheElements) {
  for (const DType dtype : kDTypes)
    for (std::size_t at = 0; at < 64; at += static_cast<std::size_t>(SizeOf(dtype))) {
      alignas(64) char from[192] = {}, to[192] = {};
      Fill(dtype, from + at, w);
      float x[kMaxLanes];
      lanes.load(dtype, from + at, -1, x);
      lanes.store(dtype, to + at, x, -1);
      EXPECT_EQ(std::memcmp(from, to, sizeof from), 0) << Name(dtype) << " " << at;
    }
}

// ---------------------------------------------------------------- streams

// Aligned to a vector or not: the same numbers, where they belong and nowhere else.
TEST_P(Lanes, StreamsAreStoresWhereverTheyStart) {
  constexpr int kVectors = 5;
  std::vector<float> x(kVectors * kMaxLanes);
  for (std::size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(i) + 0.5f;
  for (std::size_t at = 0; at < 2 * kMaxLanes; at++) {
    alignas(64) float to[(kVectors + 3) * kMaxLanes];
    const auto count = static_cast<std::size_t>(kVectors * w);
    for (float& f : to) f = -1;
    lanes.stream(to + at, x.data(), kVectors);
    for (std::size_t i = 0; i < std::size(to); i++)
      EXPECT_EQ(to[i], i >= at && i < at + count ? x[i - at] : -1.f) << at;
  }
}
TEST_P(Lanes, StreamsEndWhereMemoryDoes) {
  Guarded memory(static_cast<std::size_t>(4 * w));
  ASSERT_NE(memory.data(), nullptr);
  std::vector<float> x(kMaxLanes, 3.f);
  lanes.stream(memory.as<float>(), x.data(), 1);
  EXPECT_EQ(std::memcmp(memory.data(), x.data(), static_cast<std::size_t>(4 * w)), 0);
}

// ---------------------------------------------------------------- 16-bit formats

// A 16-bit format by its parts.
struct Half {
  DType dtype;
  int exponent_bits, mantissa_bits;
  int infinity() const { return ((1 << exponent_bits) - 1) << mantissa_bits; }
  // Of a code without its sign, below infinity.
  double Value(int code) const {
    const int e = code >> mantissa_bits, m = code & ((1 << mantissa_bits) - 1),
              bias = (1 << (exponent_bits - 1)) - 1;
    return e == 0 ? std::ldexp(m, 1 - bias - mantissa_bits)
                  : std::ldexp(m + (1 << mantissa_bits), e - bias - mantissa_bits);
  }
};
constexpr Half kHalves[] = {{DType::kBF16, 8, 7}, {DType::kF16, 5, 10}};

class Halves : public Lanes {
 protected:
  float Widen(DType dtype, int code) const {
    std::uint16_t p[kMaxLanes];
    float out[kMaxLanes];
    for (int i = 0; i < w; i++) p[i] = static_cast<std::uint16_t>(code);
    lanes.load(dtype, p, -1, out);
    for (int i = 1; i < w; i++) EXPECT_PRED2(Same, out[i], out[0]);
    return out[0];
  }
  int Narrow(DType dtype, float x) const {
    std::uint16_t p[kMaxLanes];
    float in[kMaxLanes];
    for (int i = 0; i < w; i++) in[i] = x;
    lanes.store(dtype, p, in, -1);
    for (int i = 1; i < w; i++) EXPECT_EQ(p[i], p[0]);
    return p[0];
  }
};

TEST_P(Halves, WidenEveryValueExactly) {
  for (const Half& half : kHalves)
    for (int code = 0; code < 65536; code++) {
      const float got = Widen(half.dtype, code);
      const int magnitude = code & 0x7fff;
      ASSERT_EQ(std::signbit(got), code >= 0x8000) << Name(half.dtype) << " " << code;
      if (magnitude > half.infinity())
        ASSERT_TRUE(std::isnan(got)) << Name(half.dtype) << " " << code;
      else if (magnitude == half.infinity())
        ASSERT_TRUE(std::isinf(got)) << Name(half.dtype) << " " << code;
      else
        ASSERT_EQ(std::abs(got), half.Value(magnitude)) << Name(half.dtype) << " " << code;
    }
}

TEST_P(Halves, NarrowWhatTheyWidened) {
  for (const Half& half : kHalves)
    for (int code = 0; code < 65536; code++) {
      const int got = Narrow(half.dtype, Widen(half.dtype, code));
      if ((code & 0x7fff) <= half.infinity()) {
        ASSERT_EQ(got, code) << Name(half.dtype);
      } else {  // a NaN stays one, with its sign
        ASSERT_GT(got & 0x7fff, half.infinity()) << Name(half.dtype) << " " << code;
        ASSERT_EQ(got & 0x8000, code & 0x8000) << Name(half.dtype) << " " << code;
      }
    }
}

// Between each two neighbours: the midpoint goes to the even one, everything else to the nearer.
// Above the largest value stands infinity where the next one would.
TEST_P(Halves, NarrowToTheNearestAndTiesToEven) {
  for (const Half& half : kHalves)
    for (int code = 0; code < half.infinity(); code++) {
      const double low = half.Value(code), high = code + 1 < half.infinity()
                                                      ? half.Value(code + 1)
                                                      : 2 * low - half.Value(code - 1);
      const float middle = static_cast<float>((low + high) / 2);
      ASSERT_EQ(middle, (low + high) / 2) << "not a float: the test is wrong";
      for (const float sign : {1.f, -1.f}) {
        const int bit = sign < 0 ? 0x8000 : 0;
        ASSERT_EQ(Narrow(half.dtype, sign * middle), bit | (code + code % 2)) << Name(half.dtype);
        ASSERT_EQ(Narrow(half.dtype, sign * std::nextafter(middle, 0.f)), bit | code)
            << Name(half.dtype);
        ASSERT_EQ(Narrow(half.dtype, sign * std::nextafter(middle, kInf)), bit | (code + 1))
            << Name(half.dtype);
      }
    }
}

TEST_P(Halves, NarrowWhatIsTooLargeToInfinityAndTooSmallToZero) {
  for (const Half& half : kHalves) {
    for (const float x : {kInf, 0x1.fffffep127f})
      for (const float sign : {1.f, -1.f})
        EXPECT_EQ(Narrow(half.dtype, sign * x), half.infinity() | (sign < 0 ? 0x8000 : 0));
    for (const float sign : {1.f, -1.f})
      EXPECT_EQ(Narrow(half.dtype, sign * 1e-45f), sign < 0 ? 0x8000 : 0);
    // NaNs whose payload lies only in the bits that are cut off.
    for (const std::uint32_t nan : {0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffffffffu})
      EXPECT_GT(Narrow(half.dtype, std::bit_cast<float>(nan)) & 0x7fff, half.infinity())
          << Name(half.dtype) << " " << nan;
  }
}

TEST_P(Lanes, ZipRowsOfHalves) {
  if (!lanes.zip) GTEST_SKIP() << "this set has no pairs";
  for (int n = 0; n <= w; n++)
    for (const int count : {n, -1}) {
      if (count < 0 && n < w) continue;
      const auto bytes = static_cast<std::size_t>(2 * n);
      Guarded a(bytes), b(bytes);
      for (int i = 0; i < n; i++) {
        a.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(0x1100 + i);
        b.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(0x2200 + i);
      }
      std::uint32_t out[kMaxLanes];
      lanes.zip(a.as<std::uint16_t>(), b.as<std::uint16_t>(), count, out);
      for (int i = 0; i < w; i++)
        EXPECT_EQ(out[i], i < n ? 0x22001100u + static_cast<unsigned>(i) * 0x10001u : 0u);
    }
}

// In the floats' order, rounded as StoreBf16 rounds, but for magnitudes below 2^-126.
TEST_P(Lanes, StoreHalvesAsPairs) {
  if (!lanes.store_halves) GTEST_SKIP() << "this set has no pairs";
  const auto bytes = static_cast<std::size_t>(2 * w);
  Guarded memory(bytes);
  ASSERT_NE(memory.data(), nullptr);
  // Every upper half beside lower halves on both sides of a tie, and on it.
  for (std::uint32_t high = 0; high < 65536; high += static_cast<std::uint32_t>(w))
    for (const std::uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      float x[kMaxLanes];
      std::uint16_t want[kMaxLanes], got[kMaxLanes];
      for (int i = 0; i < w; i++)
        x[i] = std::bit_cast<float>((high + static_cast<std::uint32_t>(i)) << 16 | low);
      lanes.store(DType::kBF16, want, x, -1);
      lanes.store_halves(memory.as<std::uint32_t>(), x);
      std::memcpy(got, memory.data(), bytes);
      for (int i = 0; i < w; i++) {
        if (std::isnan(x[i]))
          ASSERT_GT(got[i] & 0x7fff, 0x7f80) << x[i];
        else if (std::abs(x[i]) >= 0x1p-126f)
          ASSERT_EQ(got[i], want[i]) << x[i];
        else
          ASSERT_TRUE(got[i] == want[i] || (got[i] & 0x7fff) == 0) << x[i];
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Isa, Lanes, ::testing::ValuesIn(UsableLanes()), NameOfLanes);
INSTANTIATE_TEST_SUITE_P(Isa, Halves, ::testing::ValuesIn(UsableLanes()), NameOfLanes);

}  // namespace
}  // namespace heed::cpu
