// cases_data.cpp: the numbers of a case and where they lie. Not here: the list (cases.cpp).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "cases.h"
#include "io/convert.h"

namespace heed::cases {
namespace {

// Steele, Lea & Flood 2014: a hash of 64 bits, so that every coordinate has its own number.
std::uint64_t Mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

double Uniform(std::uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }

double Normal(std::uint64_t bits) {
  return std::sqrt(-2 * std::log(Uniform(bits))) *
         std::cos(2 * std::numbers::pi * Uniform(Mix(bits)));
}

void Put(DType type, std::byte* at, double value) {
  const auto copy = [&](auto x) { std::memcpy(at, &x, sizeof x); };
  switch (type) {
    case DType::kBF16:
      return copy(io::ToBf16(value));
    case DType::kF16:
      return copy(io::ToF16(value));
    case DType::kF64:
      return copy(value);
    case DType::kF32:
      return copy(static_cast<float>(value));
  }
}

struct Extents {
  std::int64_t batch, rows, heads, width;
};

Strides StridesFor(Placement placement, bool keys, const Extents& e) {
  switch (placement) {
    case Placement::kHeadsFirst:
      return {e.heads * e.rows * e.width, e.width, e.rows * e.width};
    case Placement::kPaddedRows: {
      const std::int64_t head = e.width + 3, row = e.heads * head + 5;
      return {e.rows * row + 7, row, head};
    }
    case Placement::kSharedKeys:
      return keys ? Strides{0, e.heads * e.width, e.width} : Strides{};
    case Placement::kReversedKeys:
      return keys ? Strides{e.rows * e.heads * e.width, -e.heads * e.width, e.width} : Strides{};
    default:
      return {};
  }
}

// Strides with the defaults filled in.
Strides Explicit(const Strides& s, const Extents& e) {
  Strides r = s;
  if (r.head == kPacked) r.head = e.width;
  if (r.row == kPacked) r.row = e.heads * e.width;
  if (r.batch == kPacked) r.batch = e.rows * e.heads * e.width;
  return r;
}

// Elements before and behind element (0, 0, 0, 0).
void Span(const Strides& s, const Extents& e, std::int64_t* before, std::int64_t* behind) {
  *before = 0;
  *behind = e.width;
  const std::int64_t sizes[] = {e.batch, e.rows, e.heads}, strides[] = {s.batch, s.row, s.head};
  for (int axis = 0; axis < 3; ++axis) {
    const std::int64_t span = std::max<std::int64_t>(sizes[axis] - 1, 0) * strides[axis];
    if (span < 0) {
      *before -= span;
    } else {
      *behind += span;
    }
  }
}

void Fill(const Case& c, int tensor, std::int64_t first_entry, const Strides& s, const Extents& e,
          std::byte* element0) {
  const std::int64_t size = SizeOf(c.problem.dtype);
  const bool shared = tensor != 0 && c.placement == Placement::kSharedKeys;
  for (std::int64_t b = 0; b < (shared ? std::min<std::int64_t>(e.batch, 1) : e.batch); ++b) {
    for (std::int64_t row = 0; row < e.rows; ++row) {
      for (std::int64_t head = 0; head < e.heads; ++head) {
        std::byte* at = element0 + (b * s.batch + row * s.row + head * s.head) * size;
        for (std::int64_t d = 0; d < e.width; ++d) {
          Put(c.problem.dtype, at + d * size,
              ValueAt(c, tensor, shared ? 0 : b + first_entry, row, head, d));
        }
      }
    }
  }
}

constexpr std::byte kGap{0xFF};  // a NaN in every dtype

}  // namespace

double ValueAt(const Case& c, int tensor, std::int64_t b, std::int64_t row, std::int64_t head,
               std::int64_t d) {
  const Problem& p = c.problem;
  std::uint64_t bits = Mix(c.seed * 4 + static_cast<std::uint64_t>(tensor));
  for (const std::int64_t x : {b, row, head, d}) bits = Mix(bits ^ static_cast<std::uint64_t>(x));
  const double normal = Normal(bits), root = std::sqrt(static_cast<double>(p.dim));
  const bool q = tensor == 0, k = tensor == 1, half = p.dtype == DType::kF16;
  // For logits that are a function of the key: q is about 1 in every entry, so s is about scale
  // sqrt(D) k.
  const double aligned = 1 + 0.05 * normal;
  switch (c.data) {
    case Data::kNormal:
      return normal;
    case Data::kPeaked:
      return q ? 25 * normal : normal;
    case Data::kGrowing:
      return q ? aligned : k ? 0.5 * static_cast<double>(row) / root + 0.1 * normal : normal;
    case Data::kFalling:
      return q ? aligned : k ? -0.5 * static_cast<double>(row) / root + 0.1 * normal : normal;
    case Data::kOutlier:
      return q ? aligned : k ? (row == p.k_len / 2 ? 30 / root : 0.1 * normal) : normal;
    case Data::kEqual:
      return 0.5;
    case Data::kIntegers:
      return static_cast<double>(bits % 5) - 2;
    case Data::kHuge:
      return normal * (k ? (half ? 1e-4 : 1e-30) : (half ? 1e4 : 1e30));
    case Data::kTiny:
      return normal * (half ? (q || k ? 1e-3 : 1e-4) : (q || k ? 1e-20 : 1e-30));
    case Data::kDenormal:
      return normal * (half ? 1e-5 : 1e-39);
  }
  return normal;
}

Buffers Sample::Inputs() const {
  Buffers b;
  b.q = q_memory.data() + q_start;
  b.k = (k_memory.empty() ? q_memory : k_memory).data() + k_start;
  b.v = (v_memory.empty() ? q_memory : v_memory).data() + v_start;
  return b;
}

Sample MakeSample(const Case& c, std::int64_t first_entry) {
  Sample sample{.problem = c.problem};
  Problem& p = sample.problem;
  const std::int64_t hk = p.k_heads == 0 ? p.q_heads : p.k_heads;
  const std::int64_t dv = p.dim_v == 0 ? p.dim : p.dim_v;
  const auto size = static_cast<std::size_t>(SizeOf(p.dtype));
  const Extents extents[] = {{p.batch, p.q_len, p.q_heads, p.dim},
                             {p.batch, p.k_len, hk, p.dim},
                             {p.batch, p.k_len, hk, dv}};
  Strides* const strides[] = {&p.q_strides, &p.k_strides, &p.v_strides};
  std::vector<std::byte>* const memory[] = {&sample.q_memory, &sample.k_memory, &sample.v_memory};
  std::size_t* const start[] = {&sample.q_start, &sample.k_start, &sample.v_start};

  if (c.placement == Placement::kPackedQkv) {
    const std::int64_t row = p.q_heads * p.dim + hk * (p.dim + dv);
    const std::int64_t rows = std::max(p.q_len, p.k_len);
    sample.q_memory.assign(
        static_cast<std::size_t>(std::max<std::int64_t>(p.batch * rows * row, 1)) * size, kGap);
    std::int64_t column = 0;
    for (int t = 0; t < 3; ++t) {
      *strides[t] = {rows * row, row, extents[t].width};
      *start[t] = static_cast<std::size_t>(column) * size;
      Fill(c, t, first_entry, *strides[t], extents[t], sample.q_memory.data() + *start[t]);
      column += extents[t].heads * extents[t].width;
    }
    return sample;
  }
  for (int t = 0; t < 3; ++t) {
    *strides[t] = StridesFor(c.placement, t != 0, extents[t]);
    const Strides s = Explicit(*strides[t], extents[t]);
    std::int64_t before = 0, behind = 0;
    Span(s, extents[t], &before, &behind);
    memory[t]->assign(static_cast<std::size_t>(before + behind) * size, kGap);
    *start[t] = static_cast<std::size_t>(before) * size;
    Fill(c, t, first_entry, s, extents[t], memory[t]->data() + *start[t]);
  }
  if (c.placement == Placement::kHeadsFirst || c.placement == Placement::kPaddedRows) {
    p.o_strides = StridesFor(c.placement, false, {p.batch, p.q_len, p.q_heads, dv});
  }
  return sample;
}

}  // namespace heed::cases
