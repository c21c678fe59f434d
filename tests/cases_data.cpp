// cases_data.cpp: the numbers of q, k and v and where they lie. Not here: the list (cases.cpp), the
// arrays of options (cases_arrays.cpp).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>

#include "cases.h"
#include "cases_data.h"
#include "io/convert.h"

namespace heed::cases {

double Uniform(std::uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }

double Normal(std::uint64_t bits) {
  double sum = -2;
  for (int n = 0; n < 4; ++n) sum += (static_cast<double>(bits >> 16 * n & 0xFFFF) + 0.5) * 0x1p-16;
  return sum * std::numbers::sqrt3;
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

Strides Explicit(const Strides& s, const Extents& e) {
  Strides r = s;
  if (r.head == kPacked) r.head = e.width;
  if (r.row == kPacked) r.row = e.heads * e.width;
  if (r.batch == kPacked) r.batch = e.rows * e.heads * e.width;
  return r;
}

namespace {

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

// Of q, k or v (tensor 0, 1, 2), in row `row`; `bits`: the hash of the element's place.
double ValueOf(const Case& c, int tensor, std::int64_t row, std::uint64_t bits) {
  const Problem& p = c.problem;
  const double normal = Normal(bits);
  const auto root = [&] { return std::sqrt(static_cast<double>(p.dim)); };
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
      return q ? aligned : k ? 0.5 * static_cast<double>(row) / root() + 0.1 * normal : normal;
    case Data::kFalling:
      return q ? aligned : k ? -0.5 * static_cast<double>(row) / root() + 0.1 * normal : normal;
    case Data::kOutlier:
      return q ? aligned : k ? (row == p.k_len / 2 ? 30 / root() : 0.1 * normal) : normal;
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

std::uint64_t HashOfRow(const Case& c, int tensor, std::int64_t b, std::int64_t row,
                        std::int64_t head) {
  return HashOf(c.seed * 4 + static_cast<std::uint64_t>(tensor), {b, row, head});
}

void Fill(const Case& c, int tensor, std::int64_t first_entry, const Strides& s, const Extents& e,
          std::byte* element0) {
  const std::int64_t size = SizeOf(c.problem.dtype);
  const bool shared = tensor != 0 && c.placement == Placement::kSharedKeys;
  for (std::int64_t b = 0; b < (shared ? std::min<std::int64_t>(e.batch, 1) : e.batch); ++b) {
    for (std::int64_t row = 0; row < e.rows; ++row) {
      for (std::int64_t head = 0; head < e.heads; ++head) {
        std::byte* at = element0 + (b * s.batch + row * s.row + head * s.head) * size;
        const std::uint64_t bits = HashOfRow(c, tensor, shared ? 0 : b + first_entry, row, head);
        for (std::int64_t d = 0; d < e.width; ++d) {
          Put(c.problem.dtype, at + d * size,
              ValueOf(c, tensor, row, Mix(bits ^ static_cast<std::uint64_t>(d))));
        }
      }
    }
  }
}

}  // namespace

double ValueAt(const Case& c, int tensor, std::int64_t b, std::int64_t row, std::int64_t head,
               std::int64_t d) {
  return ValueOf(c, tensor, row,
                 Mix(HashOfRow(c, tensor, b, row, head) ^ static_cast<std::uint64_t>(d)));
}

std::array<Extents, 3> ExtentsOf(const Problem& p) {
  const std::int64_t hk = p.k_heads == 0 ? p.q_heads : p.k_heads;
  const std::int64_t dv = p.dim_v == 0 ? p.dim : p.dim_v;
  std::int64_t batch = p.batch, rows = p.k_len;
  if (p.ragged) batch = 1, rows = p.total_k;
  if (p.cache.given) batch = p.cache.slots, rows = p.cache.rows;
  return {{{p.ragged ? 1 : p.batch, p.ragged ? p.total_q : p.q_len, p.q_heads, p.dim},
           {batch, rows, hk, p.dim},
           {batch, rows, hk, dv}}};
}

namespace {

// Slices of one tensor: q, k, v or, with a cache, k and v. The first tensor that is one.
int FirstPacked(const Problem& p) { return p.cache.given ? 1 : 0; }

void SetPackedStrides(Problem* p, const std::array<Extents, 3>& e) {
  Strides* const strides[] = {&p->q_strides, &p->k_strides, &p->v_strides};
  std::int64_t row = 0, rows = 0;
  for (auto t = static_cast<std::size_t>(FirstPacked(*p)); t < 3; ++t) {
    row += e[t].heads * e[t].width;
    rows = std::max(rows, e[t].rows);
  }
  for (auto t = static_cast<std::size_t>(FirstPacked(*p)); t < 3; ++t) {
    *strides[t] = {p->ragged ? kPacked : rows * row, row, e[t].width};
  }
}

void SetSpread(Spread spread, Broadcast* t) {
  if (!t->given || spread == Spread::kDense) return;
  const bool padded = spread == Spread::kPadded;
  const std::int64_t row = t->cols + (padded ? 3 : 0), head = t->rows * row + (padded ? 5 : 0);
  t->stride_batch = t->heads * head + (padded ? 7 : 0);
  t->stride_head = head;
  t->stride_row = row;
  t->stride_col = 1;
  if (spread == Spread::kTransposed) {
    t->stride_row = 1;
    t->stride_col = t->rows;
  }
  if (spread == Spread::kReversed) {
    t->stride_row = -row;
    t->stride_col = -1;
  }
  if (!padded) return;
  if (t->batch == 1) t->stride_batch = 98765;
  if (t->heads == 1) t->stride_head = -43210;
  if (t->rows == 1) t->stride_row = 777777;
  if (t->cols == 1) t->stride_col = 31;
}

}  // namespace

void SetStrides(const Case& c, Problem* p) {
  const auto e = ExtentsOf(*p);
  for (Broadcast* t : {&p->bias, &p->mask, &p->block_map}) SetSpread(c.spread, t);
  if (c.placement == Placement::kPackedQkv) return SetPackedStrides(p, e);
  Strides* const strides[] = {&p->q_strides, &p->k_strides, &p->v_strides};
  for (std::size_t t = 0; t < 3; ++t) *strides[t] = StridesFor(c.placement, t != 0, e[t]);
  if (c.placement == Placement::kHeadsFirst || c.placement == Placement::kPaddedRows) {
    p->o_strides = StridesFor(c.placement, false, {e[0].batch, e[0].rows, e[0].heads, e[2].width});
    if (p->cache.given && p->cache.new_len > 0) {
      p->k_new_strides =
          StridesFor(c.placement, false, {p->batch, p->cache.new_len, e[1].heads, e[1].width});
      p->v_new_strides =
          StridesFor(c.placement, false, {p->batch, p->cache.new_len, e[2].heads, e[2].width});
    }
  }
  if (!p->ragged || c.placement == Placement::kSharedKeys) return;  // 0 is what a ragged one has
  for (Strides* s : {&p->q_strides, &p->k_strides, &p->v_strides, &p->o_strides}) {
    s->batch = kPacked;
  }
}

Sample MakeSample(const Case& c, std::int64_t first_entry) {
  Sample sample{.problem = c.problem};
  Problem& p = sample.problem;
  SetStrides(c, &p);
  const auto size = static_cast<std::size_t>(SizeOf(p.dtype));
  const auto extents = ExtentsOf(p);
  const Strides strides[] = {p.q_strides, p.k_strides, p.v_strides};
  std::vector<std::byte>* const memory[] = {&sample.q_memory, &sample.k_memory, &sample.v_memory};
  std::size_t* const start[] = {&sample.q_start, &sample.k_start, &sample.v_start};
  const std::size_t packed =
      c.placement == Placement::kPackedQkv ? static_cast<std::size_t>(FirstPacked(p)) : 3;
  std::int64_t column = 0;  // of the slice
  for (std::size_t t = 0; t < 3; ++t) {
    const Extents& e = extents[t];
    const Strides s = Explicit(strides[t], e);
    std::int64_t before = 0, behind = 0;
    Span(s, e, &before, &behind);
    std::vector<std::byte>& bytes = *memory[std::min(t, packed)];
    if (t <= packed) {
      if (t == packed) {
        const std::int64_t rows = std::max({packed == 0 ? e.rows : 0, extents[1].rows});
        behind = std::max<std::int64_t>(e.batch * rows * s.row, 1);
      }
      bytes.assign(static_cast<std::size_t>(before + behind) * size, kGap);
    }
    *start[t] = static_cast<std::size_t>(before + column) * size;
    Fill(c, static_cast<int>(t), first_entry, s, e, bytes.data() + *start[t]);
    if (t >= packed) column += e.heads * e.width;
  }
  FillArrays(c, &sample);
  return sample;
}

}  // namespace heed::cases
