// merge_property_test.cpp: the keys of any call cut at random into parts, each computed by itself,
// and Merge gives the whole back. Not here: Merge's own rules (merge_test.cpp).
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "any_case.h"
#include "verify/compare.h"
#include "verify/layout.h"

namespace heed::testing_options {
namespace {

using namespace cases;
using verify::Array;

// Ends of 1 to 6 parts of `keys` keys, empty ones among them, the last one included.
std::vector<std::int64_t> CutAtRandom(std::int64_t keys, std::uint64_t seed) {
  std::mt19937_64 bits(seed);
  std::vector<std::int64_t> ends = {keys};
  for (std::uint64_t n = bits() % 6; n > 0; --n) {
    ends.push_back(static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(keys + 1)));
  }
  std::sort(ends.begin(), ends.end());
  return ends;
}

// The call that sees keys [first, last) of a dense one.
struct Piece {
  Problem problem;
  Buffers buffers;
  std::vector<std::int32_t> query_offsets;
};

void MakePiece(const Sample& sample, std::int64_t first, std::int64_t last, Piece* piece) {
  const Problem whole = NormalOf(sample.problem);
  Problem& p = piece->problem = whole;
  Buffers& b = piece->buffers = sample.Inputs();
  p.out_dtype = DType::kF32;
  p.want_lse = true;
  p.want_probs = false;
  p.k_len = last - first;
  p.prefix = std::max<std::int64_t>(whole.prefix - first, 0);
  if (p.query_offsets) {
    for (const std::int32_t offset : sample.query_offsets) {
      piece->query_offsets.push_back(offset - static_cast<std::int32_t>(first));
    }
    b.query_offsets = piece->query_offsets.data();
  } else {
    p.align = Align::kOffset;
    p.query_offset = ShiftOf(sample, 0, whole.k_len) - first;
  }
  const auto from = [&](const void* data, std::int64_t elements, DType type) {
    return static_cast<const std::byte*>(data) + elements * SizeOf(type);
  };
  b.k = from(b.k, first * whole.k_strides.row, p.dtype);
  b.v = from(b.v, first * whole.v_strides.row, p.dtype);
  if (p.bias.cols > 1) {
    p.bias.cols = p.k_len;
    b.bias = from(b.bias, first * p.bias.stride_col, p.bias_dtype);
  }
  if (p.mask.cols > 1) {
    p.mask.cols = p.k_len;
    b.mask += first * p.mask.stride_col;
  }
}

// What the parts' own errors and f32 lse can do to the whole. With w_n = exp(lse_n - lse), each off
// by no more than a factor e^(2 d), d the largest error of any lse_n:
//   |o - truth| <= sum w_n bound(o_n) + (e^(2 d) - 1) sum w_n |o_n - o|,   |lse - truth| <= d
// and half an ulp of f32 for the result.
struct Bound {
  Array o, lse;
};

Bound BoundOf(const std::vector<Expected>& parts, const verify::Results& whole, const Problem& p) {
  Bound bound = {verify::Zeros(whole.o.shape), verify::Zeros(whole.lse.shape)};
  for (std::int64_t line = 0; line < whole.lse.size(); ++line) {
    const std::int64_t b = line / (p.q_heads * p.q_len), h = line / p.q_len % p.q_heads,
                       i = line % p.q_len, at = ((b * p.q_len + i) * p.q_heads + h) * p.dim_v;
    const double lse = whole.lse[line];
    if (!(lse > -std::numeric_limits<double>::infinity())) continue;  // nothing seen: exact
    double off = 0;
    for (const Expected& part : parts) {
      const double own = part.truth.lse[line];
      if (!std::isfinite(own)) continue;
      off = std::max(off, part.bounds.lse[line] + verify::Ulp(DType::kF32, own));
    }
    bound.lse[line] = off + verify::Ulp(DType::kF32, lse);
    for (std::int64_t d = 0; d < p.dim_v; ++d) {
      double sum = 0, spread = 0;
      for (const Expected& part : parts) {
        const double weight = std::exp(part.truth.lse[line] - lse);
        if (weight == 0) continue;
        sum += weight * part.bounds.o[at + d];
        spread += weight * std::fabs(part.truth.o[at + d] - whole.o[at + d]);
      }
      bound.o[at + d] = std::exp(2 * off) * sum + std::expm1(2 * off) * spread +
                        verify::Ulp(DType::kF32, whole.o[at + d]);
    }
  }
  return bound;
}

RC_GTEST_PROP(MergeProperty, PartsOfTheKeysAreTheWhole, ()) {
  // Dropout and chunks go by a part's own j, so that parts of them are another problem.
  Case c = AnyCase({kCausal, kWindow, kAlign, kPrefix, kAlibi, kBias, kBiasType, kMask, kSpread,
                    kSinks, kPlacement});
  c.problem.want_lse = true;
  c.problem.want_probs = false;
  c.problem.out_dtype = DType::kF32;
  SCOPED_TRACE(Words(c));
  const Sample sample = MakeSample(c);
  const Problem p = NormalOf(sample.problem);
  const verify::Results whole = ExpectedOf(sample.problem, sample.Inputs()).truth;
  const std::vector<std::int64_t> ends = CutAtRandom(p.k_len, c.seed);

  std::vector<Piece> pieces(ends.size());
  std::vector<Expected> expected;
  for (std::size_t n = 0; n < ends.size(); ++n) {
    MakePiece(sample, n == 0 ? 0 : ends[n - 1], ends[n], &pieces[n]);
    if (n > 0) {  // one part carries the sinks
      pieces[n].problem.sinks = false;
      pieces[n].buffers.sinks = nullptr;
    }
    expected.push_back(ExpectedOf(pieces[n].problem, pieces[n].buffers));
  }
  const Bound bound = BoundOf(expected, whole, p);
  for (const Engine& engine : Engines()) {
    std::vector<Output> outputs;
    std::vector<Partial> parts;
    for (Piece& piece : pieces) {
      outputs.push_back(RunOn(engine, piece.problem, piece.buffers));
      Output& out = outputs.back();
      parts.push_back({static_cast<const float*>(out.o.data()),
                       static_cast<const float*>(out.lse.data()), out.problem.o_strides});
    }
    verify::Guarded o(verify::ViewOf(p, verify::Role::kO)),
        lse(verify::ViewOf(p, verify::Role::kLse));
    const Status status = Merge(parts.data(), static_cast<std::int64_t>(parts.size()),
                                {.batch = p.batch,
                                 .q_len = p.q_len,
                                 .q_heads = p.q_heads,
                                 .dim_v = p.dim_v,
                                 .o_strides = p.o_strides,
                                 .o = o.data(),
                                 .lse = static_cast<float*>(lse.data())});
    RC_ASSERT(status.ok());
    EXPECT_EQ(o.Spilled() + lse.Spilled(), 0);
    const auto got_o = verify::Compare(whole.o, bound.o, o.view());
    const auto got_lse = verify::Compare(whole.lse, bound.lse, lse.view());
    EXPECT_TRUE(got_o.passed()) << engine.name() << ": o: " << got_o.Describe();
    EXPECT_TRUE(got_lse.passed()) << engine.name() << ": lse: " << got_lse.Describe();
  }
}

}  // namespace
}  // namespace heed::testing_options
