// merge.cpp: Merge, the sum of partial results over disjoint keys. Not here: what makes them (the
// backends), pieces inside an engine.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "heed/heed.h"
#include "problem/layout.h"
#include "problem/overlap.h"
#include "problem/validate.h"
#include "problem/words.h"

namespace heed {
namespace {

constexpr std::int64_t kWidest = 1024;  // dim_v
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// ---------------------------------------------------------------- rules

Status Wrong(StatusCode code, std::string sentence) { return {code, std::move(sentence)}; }

// The result's sizes and strides are those of an attention call: its rules judge them.
Status CheckSizes(const Merged& m) {
  if (m.dim_v < 1) {
    return Wrong(StatusCode::kInvalid, Words("dim_v is ", m.dim_v, ": it must be from 1 to 1024"));
  }
  if (m.out_dtype != DType::kF32 && m.out_dtype != DType::kBF16 && m.out_dtype != DType::kF16) {
    return Wrong(StatusCode::kInvalid,
                 m.out_dtype == DType::kF64
                     ? "out_dtype is f64: it must be f32, bf16 or f16, since the parts are f32"
                     : Words("out_dtype is ", static_cast<int>(m.out_dtype),
                             ": it must be 0 (f32), 1 (bf16) or 2 (f16)"));
  }
  return CheckProblem({.batch = m.batch,
                       .q_len = m.q_len,
                       .q_heads = m.q_heads,
                       .dim = 1,
                       .dim_v = m.dim_v,
                       .dtype = m.out_dtype,
                       .o_strides = m.o_strides});
}

View ViewOf(const Merged& m, const Strides& s) {
  return {{{1, 0}, {m.batch, s.batch}, {m.q_len, s.row}, {m.q_heads, s.head}}, m.dim_v};
}

// A region at `data`, or a sentence about the pointer or the strides. `name`: "o", "parts[3].o".
Status RegionOf(const std::string& name, const void* data, View view, std::int64_t bytes,
                Region* region) {
  Extent extent;
  if (!Resolve(&view) || !ExtentOf(view, bytes, &extent)) {
    return Wrong(StatusCode::kInvalid,
                 Words(name,
                       " has an offset beyond 9223372036854775807 bytes: its strides must be "
                       "smaller"));
  }
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  if (data == nullptr) {
    return Wrong(StatusCode::kBuffers, Words(name,
                                             " is null: there are rows to merge, so it must "
                                             "be a pointer"));
  }
  if (address % static_cast<std::uintptr_t>(bytes) != 0) {
    return Wrong(StatusCode::kBuffers,
                 Words(name, " is at an address ", address % static_cast<std::uintptr_t>(bytes),
                       " bytes beyond a multiple of ", bytes, ": it must be aligned to its size"));
  }
  *region = {"", address, 0, 0, view, bytes, false};
  Measure(region);
  return {};
}

// The same elements in the same order: rows are read before they are written.
bool InPlace(const Region& a, const Region& b) {
  if (a.base != b.base || a.bytes != b.bytes || a.view.run != b.view.run) return false;
  return std::equal(
      std::begin(a.view.axes), std::end(a.view.axes), std::begin(b.view.axes),
      [](const Axis& x, const Axis& y) { return x.size == y.size && x.stride == y.stride; });
}

Status CheckApart(const Region& written, const char* name, const Region& read,
                  const std::string& other, bool may_be_in_place) {
  if ((may_be_in_place && InPlace(written, read)) || !Share(written, read)) return {};
  return Wrong(StatusCode::kBuffers,
               Words(name, " is written and overlaps ", other, ": they must not share memory",
                     may_be_in_place ? ", or be the same rows at the same strides and dtype" : ""));
}

// The result may take the place of a part of its own dtype and strides; nothing else may overlap.
Status CheckMemory(const Partial* parts, std::int64_t count, const Merged& m) {
  const View lines = Contiguous(m.batch * m.q_heads * m.q_len);  // fits: a rule of CheckProblem
  Region o, lse, part_o, part_lse;
  Status status = RegionOf("o", m.o, ViewOf(m, m.o_strides), SizeOf(m.out_dtype), &o);
  if (!status) return status;
  if (m.lse != nullptr) {
    if (status = RegionOf("lse", m.lse, lines, 4, &lse); !status) return status;
    if (status = CheckApart(o, "o", lse, "lse", false); !status) return status;
  }
  for (std::int64_t n = 0; n < count; n++) {
    const std::string part = Words("parts[", n, "].");
    const std::string o_name = part + "o", lse_name = part + "lse";
    status = RegionOf(o_name, parts[n].o, ViewOf(m, parts[n].o_strides), 4, &part_o);
    if (!status) return status;
    if (status = RegionOf(lse_name, parts[n].lse, lines, 4, &part_lse); !status) return status;
    if (status = CheckApart(o, "o", part_o, o_name, true); !status) return status;
    if (status = CheckApart(o, "o", part_lse, lse_name, false); !status) return status;
    if (m.lse == nullptr) continue;
    if (status = CheckApart(lse, "lse", part_o, o_name, false); !status) return status;
    if (status = CheckApart(lse, "lse", part_lse, lse_name, true); !status) return status;
  }
  return {};
}

// ---------------------------------------------------------------- arithmetic

// x rounded once, to nearest even, to a format of `fraction` stored bits whose smallest normal
// number is 2^lowest. The result is exact in f32, but where it overflows the format.
double Round(double x, int fraction, int lowest) {
  if (!std::isfinite(x)) return x;
  if (std::fabs(x) < std::ldexp(1.0, lowest)) {
    // Multiples of 2^(lowest - fraction): the last bit of a float64 this large.
    const double large = std::ldexp(1.5, lowest - fraction + 52);
    return std::copysign((x + large) - large, x);
  }
  const int dropped = 52 - fraction;
  const std::uint64_t bits = std::bit_cast<std::uint64_t>(x), last = bits >> dropped & 1;
  const std::uint64_t half = (std::uint64_t{1} << (dropped - 1)) - 1;
  return std::bit_cast<double>((bits + half + last) >> dropped << dropped);
}

std::uint16_t ToBF16(double x) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(Round(x, 7, -126)));
  return static_cast<std::uint16_t>(bits >> 16 | (x != x ? 0x40 : 0));
}

std::uint16_t ToF16(double x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (x != x) return sign | 0x7E00;
  const double rounded = std::fabs(Round(x, 10, -14));
  if (rounded >= 65536) return sign | 0x7C00;
  if (rounded < 0x1p-14) return sign | static_cast<std::uint16_t>(rounded * 0x1p24);
  // A normal f32 of 10 fraction bits: its exponent moves from bias 127 to 15.
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(rounded));
  return static_cast<std::uint16_t>(sign | ((bits >> 13) - (112u << 10)));
}

void StoreRow(const double* sum, double factor, std::int64_t width, DType dtype, void* to) {
  switch (dtype) {
    case DType::kBF16:
      for (std::int64_t d = 0; d < width; d++) {
        static_cast<std::uint16_t*>(to)[d] = ToBF16(sum[d] * factor);
      }
      return;
    case DType::kF16:
      for (std::int64_t d = 0; d < width; d++) {
        static_cast<std::uint16_t*>(to)[d] = ToF16(sum[d] * factor);
      }
      return;
    default:
      for (std::int64_t d = 0; d < width; d++) {
        static_cast<float*>(to)[d] = static_cast<float>(sum[d] * factor);
      }
  }
}

// A part's rows, strides resolved.
struct Source {
  const float* o;
  const float* lse;
  Axis batch, row, head;

  Source(const Merged& m, const Partial& part) : o(part.o), lse(part.lse) {
    View view = ViewOf(m, part.o_strides);
    Resolve(&view);
    batch = view.axes[1], row = view.axes[2], head = view.axes[3];
  }
  std::int64_t OffsetOf(std::int64_t b, std::int64_t i, std::int64_t h) const {
    return b * batch.stride + i * row.stride + h * head.stride;
  }
};

// One row, all parts read before anything is written. In float64, so that only the last rounding
// is seen: a part alone comes out with its own bits.
void MergeRow(const std::vector<Source>& parts, const Source& result, const Merged& m,
              std::int64_t b, std::int64_t i, std::int64_t h) {
  const std::int64_t line = (b * m.q_heads + h) * m.q_len + i;
  double largest = -kInfinity, l = 0;
  bool broken = false;  // NaN, or +infinity, which stands for a score of that kind
  for (const Source& part : parts) {
    const double lse = part.lse[line];
    broken = broken || !(lse < kInfinity);
    largest = std::max(largest, lse);
  }
  double sum[kWidest];
  // -0 is what adds nothing, not even a sign.
  std::fill_n(sum, m.dim_v, broken ? kNaN : largest == -kInfinity ? 0.0 : -0.0);
  for (const Source& part : parts) {
    const double lse = part.lse[line];
    if (broken || lse == -kInfinity) continue;  // what saw nothing has no say, whatever its o holds
    const double weight = std::exp(lse - largest);
    l += weight;
    const float* o = part.o + part.OffsetOf(b, i, h);
    for (std::int64_t d = 0; d < m.dim_v; d++) sum[d] += weight * o[d];
  }
  void* const to = static_cast<char*>(m.o) + result.OffsetOf(b, i, h) * SizeOf(m.out_dtype);
  StoreRow(sum, l > 0 ? 1 / l : 1, m.dim_v, m.out_dtype, to);
  if (m.lse == nullptr) return;
  m.lse[line] = static_cast<float>(broken ? kNaN : l > 0 ? largest + std::log(l) : -kInfinity);
}

}  // namespace

Status Merge(const Partial* parts, std::int64_t count, const Merged& result) {
  try {
    Status status = CheckSizes(result);
    if (!status) return status;
    if (count < 1) {
      return {StatusCode::kInvalid, Words("count is ", count, ": there must be 1 part or more")};
    }
    if (result.batch * result.q_len == 0) return {};
    if (parts == nullptr) {
      return {StatusCode::kBuffers,
              Words("parts is null and count is ", count, ": it must point to that many parts")};
    }
    status = CheckMemory(parts, count, result);
    if (!status) return status;
    std::vector<Source> sources;
    sources.reserve(static_cast<std::size_t>(count));
    for (std::int64_t n = 0; n < count; n++) sources.emplace_back(result, parts[n]);
    const Source to(result, {nullptr, nullptr, result.o_strides});
    for (std::int64_t b = 0; b < result.batch; b++) {
      for (std::int64_t i = 0; i < result.q_len; i++) {
        for (std::int64_t h = 0; h < result.q_heads; h++) MergeRow(sources, to, result, b, i, h);
      }
    }
    return {};
  } catch (const std::bad_alloc&) {
    return {StatusCode::kRefused, "out of memory"};
  }
}

}  // namespace heed
