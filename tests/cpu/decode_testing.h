// decode_testing.h: one decode as arrays, run on an instruction set's kernels and computed in double
// beside it, with the error that f32 arithmetic may make. Not here: cases (decode_test.cpp).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "cpu/machine.h"
#include "decode_check.h"
#include "guarded.h"
#include "io/convert.h"

namespace heed::cpu {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

inline std::vector<const DecodeCheck*> UsableDecodes() {
  std::vector<const DecodeCheck*> usable;
  const DecodeCheck* const built[] = {
#if defined(HEED_HAVE_AVX512BF16)
    &avx512bf16::kDecode,
#endif
#if defined(HEED_HAVE_AVX512)
    &avx512::kDecode,
#endif
#if defined(HEED_HAVE_AVX2)
    &avx2::kDecode,
#endif
#if defined(HEED_HAVE_NEON)
    &neon::kDecode,
#endif
    &scalar::kDecode,
  };
  for (const DecodeCheck* decode : built)
    if (!WhyUnusable(decode->isa)) usable.push_back(decode);
  return usable;
}

struct DecodeCase {
  DType dtype = DType::kF32;
  int dim = 64, dim_v = 64, rows = 4, heads = 2;
  std::int64_t keys = 100, piece = 1 << 20;
  bool interleaved = false;                  // rows of all heads side by side
  std::int64_t page_rows = 0, left_pad = 0;  // 0: not paged
  bool together = false, cached = false;
  double scale = 0.125, softcap = 0;
  bool alibi = false, sinks = false;
  std::int64_t left = -1, right = -1, prefix = 0;  // rows are queries keys - rows ... keys - 1
  bool o_f32 = true;
  double spread = 1;  // of q: large ones make the maximum move
};

inline std::ostream& operator<<(std::ostream& out, const DecodeCase& c) {
  return out << "dtype " << static_cast<int>(c.dtype) << " dim " << c.dim << " dim_v " << c.dim_v
             << " rows " << c.rows << " heads " << c.heads << " keys " << c.keys << " piece "
             << c.piece << (c.interleaved ? " interleaved" : "") << " page " << c.page_rows
             << " left_pad " << c.left_pad << (c.together ? " together" : "")
             << (c.cached ? " cached" : "") << " scale " << c.scale << " softcap " << c.softcap
             << (c.alibi ? " alibi" : "") << (c.sinks ? " sinks" : "") << " window " << c.left
             << "," << c.right << " prefix " << c.prefix << (c.o_f32 ? "" : " narrow o")
             << " spread " << c.spread;
}

// The arrays of a case. K and V end where their memory does; what no key lies in is NaN.
class DecodeData {
 public:
  explicit DecodeData(const DecodeCase& c, unsigned seed = 1) : c_(c), random_(seed) {
    const std::int64_t rows = c.page_rows ? Pages() * c.page_rows : c.keys;
    k_ = std::make_unique<Guarded>(Bytes(rows * c.heads * c.dim));
    v_ = std::make_unique<Guarded>(Bytes(rows * c.heads * c.dim_v));
    for (std::int64_t i = 0; i < rows * c.heads * c.dim; i++) Put(k_->data(), i, kNaN);
    for (std::int64_t i = 0; i < rows * c.heads * c.dim_v; i++) Put(v_->data(), i, kNaN);
    for (std::int64_t p = 0; p < Pages(); p++)
      table_.push_back(static_cast<std::int32_t>(Pages() - 1 - p));
    q_.resize(Bytes(static_cast<std::int64_t>(c.heads) * c.rows * c.dim));
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(c.heads) * c.rows * c.dim; i++)
      Put(q_.data(), i, c.spread * Random());
    for (int h = 0; h < c.heads; h++)
      for (std::int64_t j = 0; j < c.keys; j++) {
        for (int d = 0; d < c.dim; d++) Put(k_->data(), KAt(h, j) + d, Random());
        for (int d = 0; d < c.dim_v; d++) Put(v_->data(), VAt(h, j) + d, Random());
      }
    for (int r = 0; r < c.rows; r++) {
      const std::int64_t at = Position(r);
      first_.push_back(std::clamp<std::int64_t>(c.left < 0 ? 0 : at - c.left, c.prefix, c.keys));
      last_.push_back(
          std::clamp<std::int64_t>(c.right < 0 ? c.keys : at + c.right + 1, first_.back(), c.keys));
      positions_.push_back(at);
    }
    for (int i = 0; i < c.heads * c.rows; i++) {
      slopes_.push_back(static_cast<float>(0.01 * (1 + i)));
      sinks_.push_back(i % 3 ? static_cast<float>(Random()) : -kInf);
    }
  }

  std::int64_t KAt(int h, std::int64_t j) const { return PlaceOf(j) * KRow() + h * KHead(); }
  std::int64_t VAt(int h, std::int64_t j) const { return PlaceOf(j) * VRow() + h * VHead(); }
  void PutK(int h, std::int64_t j, int d, double x) { Put(k_->data(), KAt(h, j) + d, x); }
  void PutV(int h, std::int64_t j, int d, double x) { Put(v_->data(), VAt(h, j) + d, x); }
  void PutQ(int h, int r, int d, double x) {
    Put(q_.data(), (static_cast<std::int64_t>(h) * c_.rows + r) * c_.dim + d, x);
  }
  void SetInterval(int r, std::int64_t first, std::int64_t last) {
    first_[static_cast<std::size_t>(r)] = first;
    last_[static_cast<std::size_t>(r)] = last;
  }
  bool Sees(int r, std::int64_t j) const {
    const auto i = static_cast<std::size_t>(r);
    return j < c_.prefix || (first_[i] <= j && j < last_[i]);
  }

  // Runs the kernels.
  void Run(const DecodeCheck& decode) {
    DecodeCall call;
    call.dtype = c_.dtype;
    call.dim = c_.dim;
    call.dim_v = c_.dim_v;
    call.rows = c_.rows;
    call.heads = c_.heads;
    call.q = q_.data();
    call.k = k_->data();
    call.v = v_->data();
    call.k_row = KRow();
    call.v_row = VRow();
    call.k_head = KHead();
    call.v_head = VHead();
    if (c_.page_rows) {
      call.table = table_.data();
      call.page_rows = c_.page_rows;
      call.k_page = c_.page_rows * c_.heads * c_.dim;
      call.v_page = c_.page_rows * c_.heads * c_.dim_v;
      call.first_row = c_.left_pad;
    }
    call.keys = c_.keys;
    call.piece = c_.piece;
    call.together = c_.together;
    call.cached = c_.cached;
    call.row_first = first_.data();
    call.row_last = last_.data();
    call.positions = positions_.data();
    call.prefix = c_.prefix;
    call.scale = c_.scale;
    call.softcap = c_.softcap;
    call.slopes = c_.alibi ? slopes_.data() : nullptr;
    call.sinks = c_.sinks ? sinks_.data() : nullptr;
    const auto rows = static_cast<std::size_t>(c_.heads) * static_cast<std::size_t>(c_.rows);
    out_.assign(rows * static_cast<std::size_t>(c_.dim_v) * 4, 0);
    lse_.assign(rows, 0);
    call.o = out_.data();
    call.o_f32 = c_.o_f32;
    call.lse = lse_.data();
    std::vector<char> scratch(static_cast<std::size_t>(decode.scratch(call)) + 64, '\xff');
    const auto base = reinterpret_cast<std::uintptr_t>(scratch.data());
    decode.run(call, scratch.data() + (64 - base % 64) % 64);
  }
  double O(int h, int r, int d) const {
    const std::int64_t i = (static_cast<std::int64_t>(h) * c_.rows + r) * c_.dim_v + d;
    return c_.o_f32 ? Get(DType::kF32, out_.data(), i) : Get(c_.dtype, out_.data(), i);
  }
  double Lse(int h, int r) const { return lse_[static_cast<std::size_t>(h * c_.rows + r)]; }
  std::vector<char> Result() const {
    std::vector<char> bytes = out_;
    const char* const p = reinterpret_cast<const char*>(lse_.data());
    bytes.insert(bytes.end(), p, p + 4 * lse_.size());
    return bytes;
  }

  // Every result against the definition. An error bound follows the arithmetic: a score may be off by
  // the rounding of its products and terms; a probability, relatively, by that of its score and of
  // 2^x, and of its own to bf16; sums by their length.
  void Check(const DecodeCheck& decode) const {
    constexpr double kEps = 0x1p-23;
    const bool pairs = decode.native_bf16 && c_.dtype == DType::kBF16;
    for (int h = 0; h < c_.heads; h++) {
      const std::vector<double> q = Rows(q_.data(), c_.rows, c_.dim, [&](std::int64_t r) {
        return (static_cast<std::int64_t>(h) * c_.rows + r) * c_.dim;
      });
      const std::vector<double> k =
          Rows(k_->data(), c_.keys, c_.dim, [&](std::int64_t j) { return KAt(h, j); });
      const std::vector<double> v =
          Rows(v_->data(), c_.keys, c_.dim_v, [&](std::int64_t j) { return VAt(h, j); });
      for (int r = 0; r < c_.rows; r++) {
        const auto row = static_cast<std::size_t>(h * c_.rows + r);
        std::vector<double> s, off;
        std::vector<std::int64_t> js;
        for (std::int64_t j = 0; j < c_.keys; j++) {
          if (!Sees(r, j)) continue;
          double dot = 0, size = 0;
          for (int d = 0; d < c_.dim; d++) {
            const double x = q[static_cast<std::size_t>(r * c_.dim + d)] *
                             k[static_cast<std::size_t>(j * c_.dim + d)];
            dot += x;
            size += std::abs(x);
          }
          double x = c_.scale * dot, error = (c_.dim + 4) * kEps * std::abs(c_.scale) * size;
          if (c_.softcap > 0) {
            x = c_.softcap * std::tanh(x / c_.softcap);
            error += 4 * kEps * std::abs(x);  // tanh to 3.1e-7, relatively
          }
          if (c_.alibi) {
            const double bias =
                double{slopes_[row]} * static_cast<double>(std::abs(Position(r) - j));
            x -= bias;
            error += kEps * (bias + std::abs(x));
          }
          s.push_back(x);
          off.push_back(error + 2 * kEps * std::abs(x));  // log2(e)
          js.push_back(j);
        }
        const double sink = c_.sinks ? double{sinks_[row]} : -double{kInf};
        double top = sink;
        for (const double x : s) top = std::max(top, x);  // a NaN is found in the sum
        double sum = std::exp(sink - top), doubt = 0;
        if (sink == -double{kInf}) sum = 0;
        std::vector<double> o(static_cast<std::size_t>(c_.dim_v)), error(o.size());
        for (std::size_t i = 0; i < s.size(); i++) {
          if (s[i] == -double{kInf}) continue;
          const double p = std::exp(s[i] - top);
          // 2^x by polynomials of degree 5 and 4; the shift by a maximum may round the score once
          // more; bf16 weights have 8 bits.
          off[i] += (pairs ? 3e-6 + 0x1p-8 : 4e-7) + 2 * kEps * std::abs(top);
          sum += p;
          doubt += p * off[i];
          for (std::size_t d = 0; d < o.size(); d++) {
            const double x = v[static_cast<std::size_t>(js[i]) * o.size() + d];
            o[d] += p * x;
            error[d] += p * (off[i] + static_cast<double>(s.size() + 16) * kEps) * std::abs(x);
          }
        }
        const double lse = s.empty() && sink == -double{kInf} ? -double{kInf} : top + std::log(sum);
        const std::string where =
            std::string(decode.isa) + ": head " + std::to_string(h) + " row " + std::to_string(r);
        if (std::isnan(sum)) {
          EXPECT_TRUE(std::isnan(Lse(h, r))) << where << " lse " << Lse(h, r);
        } else if (std::isinf(lse) || sum == 0) {
          EXPECT_EQ(Lse(h, r), -double{kInf}) << where;
        } else {
          EXPECT_NEAR(
              Lse(h, r), lse,
              doubt / sum + static_cast<double>(s.size() + 16) * kEps + 2 * kEps * std::abs(lse))
              << where;
        }
        for (int d = 0; d < c_.dim_v; d++) {
          const auto at = static_cast<std::size_t>(d);
          const double got = O(h, r, d), want = sum == 0 ? 0 : o[at] / sum;
          if (std::isnan(want)) {
            ASSERT_TRUE(std::isnan(got)) << where << " column " << d << ": " << got;
            continue;
          }
          double bound = sum == 0 ? 0 : error[at] / sum + std::abs(want) * doubt / sum;
          if (!c_.o_f32)
            bound += std::abs(want) * (c_.dtype == DType::kBF16 ? 0x1p-8 : 0x1p-11) + 0x1p-24;
          ASSERT_NEAR(got, want, bound) << where << " column " << d;
        }
      }
    }
  }

 private:
  std::int64_t Position(int r) const { return c_.keys - c_.rows + r; }
  std::int64_t Pages() const {
    return c_.page_rows ? (c_.left_pad + c_.keys + c_.page_rows - 1) / c_.page_rows : 0;
  }
  // Row of the memory that key j is in, counted as if there were one head.
  std::int64_t PlaceOf(std::int64_t j) const {
    if (!c_.page_rows) return j;
    const std::int64_t row = c_.left_pad + j, page = row / c_.page_rows;
    const std::int64_t rows = table_[static_cast<std::size_t>(page)] * c_.page_rows;
    // Pages hold all heads; their strides are given apart, so that this is in units of one row.
    return c_.interleaved ? rows + row % c_.page_rows : rows * c_.heads + row % c_.page_rows;
  }
  std::int64_t KRow() const { return c_.interleaved ? c_.heads * c_.dim : c_.dim; }
  std::int64_t VRow() const { return c_.interleaved ? c_.heads * c_.dim_v : c_.dim_v; }
  std::int64_t HeadRows() const { return c_.page_rows ? c_.page_rows : c_.keys; }
  std::int64_t KHead() const { return c_.interleaved ? c_.dim : HeadRows() * c_.dim; }
  std::int64_t VHead() const { return c_.interleaved ? c_.dim_v : HeadRows() * c_.dim_v; }
  std::size_t Bytes(std::int64_t n) const { return static_cast<std::size_t>(n * SizeOf(c_.dtype)); }

  // Uniform in [-2, 2): drawing from a normal distribution took half of these tests' time.
  double Random() { return static_cast<std::int32_t>(random_()) * 0x1p-30; }
  void Put(char* p, std::int64_t i, double x) const {
    if (c_.dtype == DType::kF32) {
      const auto f = static_cast<float>(x);
      std::memcpy(p + 4 * i, &f, 4);
    } else {
      const std::uint16_t bits = c_.dtype == DType::kBF16 ? io::ToBf16(x).bits : io::ToF16(x).bits;
      std::memcpy(p + 2 * i, &bits, 2);
    }
  }
  // `count` rows of `width` numbers; row n begins at element at(n).
  template <class At>
  std::vector<double> Rows(const char* p, std::int64_t count, int width, At at) const {
    std::vector<double> rows;
    rows.reserve(static_cast<std::size_t>(count * width));
    for (std::int64_t n = 0; n < count; n++)
      for (int d = 0; d < width; d++) rows.push_back(Get(c_.dtype, p, at(n) + d));
    return rows;
  }
  static double Get(DType dtype, const char* p, std::int64_t i) {
    if (dtype == DType::kF32) {
      float f;
      std::memcpy(&f, p + 4 * i, 4);
      return double{f};
    }
    std::uint16_t bits;
    std::memcpy(&bits, p + 2 * i, 2);
    if (dtype == DType::kBF16) return double{io::ToFloat(io::Bf16{bits})};
    return double{io::ToFloat(io::F16{bits})};
  }

  DecodeCase c_;
  std::mt19937 random_;
  std::unique_ptr<Guarded> k_, v_;
  std::vector<char> q_, out_;
  std::vector<std::int32_t> table_;
  std::vector<std::int64_t> first_, last_, positions_;
  std::vector<float> slopes_, sinks_, lse_;
};

}  // namespace heed::cpu
