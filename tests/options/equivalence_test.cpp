// equivalence_test.cpp: two ways to say one thing, and their results: permuted keys, padding,
// windows and masks, ALiBi and bias, block maps and masks. Not here: batches, threads, pages
// (invariance_test.cpp), parts (merge_property_test.cpp).
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "any_case.h"

namespace heed::testing_options {
namespace {

using namespace cases;

// Columns of the last axis of a dense tensor, in a new order.
void PermuteColumns(const std::vector<std::size_t>& order, std::size_t size, Memory* memory) {
  const std::vector<std::byte> old = memory->bytes;
  const std::size_t row = order.size() * size;
  for (std::size_t at = 0; at + row <= old.size(); at += row) {
    for (std::size_t j = 0; j < order.size(); ++j) {
      std::memcpy(memory->bytes.data() + at + j * size, old.data() + at + order[j] * size, size);
    }
  }
}

// Rows of (B, S, H, D), likewise.
void PermuteRows(const std::vector<std::size_t>& order, std::size_t row,
                 std::vector<std::byte>* bytes) {
  Memory memory = {*bytes, 0};
  PermuteColumns(order, row, &memory);
  *bytes = memory.bytes;
}

RC_GTEST_PROP(Equivalence, KeysMayComeInAnyOrder, ()) {
  const Case c = AnyCase({kBias, kBiasType, kMask, kSinks});
  SCOPED_TRACE(Words(c));
  const Sample sample = MakeSample(c);
  Sample other = sample;
  const Problem& p = sample.problem;
  std::vector<std::size_t> order(static_cast<std::size_t>(p.k_len));
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(c.seed));
  const auto size = static_cast<std::size_t>(SizeOf(p.dtype));
  const auto heads = static_cast<std::size_t>(p.k_heads);
  PermuteRows(order, heads * static_cast<std::size_t>(p.dim) * size, &other.k_memory);
  PermuteRows(order, heads * static_cast<std::size_t>(p.dim_v) * size, &other.v_memory);
  if (p.bias.given && p.bias.cols > 1) {
    PermuteColumns(order, static_cast<std::size_t>(SizeOf(p.bias_dtype)), &other.bias);
  }
  if (p.mask.given && p.mask.cols > 1) PermuteColumns(order, 1, &other.mask);
  other.problem.want_probs = false;  // theirs would be permuted, too
  Sample plain = sample;
  plain.problem.want_probs = false;
  ExpectEquivalent(plain, other);
}

// Keys beyond the length are NaN in the sample; here they are not there at all. The same bits: an
// entry's result depends on its own sizes and data.
RC_GTEST_PROP(Equivalence, PaddingChangesNothing, ()) {
  const Case c = AnyCase({kCausal, kWindow, kAlign, kPrefix, kChunk, kAlibi, kSinks, kDropout});
  SCOPED_TRACE(Words(c));
  Case padded = c;
  Problem& p = padded.problem;
  p.want_probs = false;
  Sample exact = MakeSample(padded);
  // A little, or beyond any block of keys.
  const std::int64_t pad = static_cast<std::int64_t>(c.seed % 8 == 0 ? 5000 : c.seed % 70);
  p.k_len += pad;
  p.key_lengths = true;
  Sample sample = MakeSample(padded);
  // The exact tensors' rows, with NaN behind every entry's.
  sample.q_memory = exact.q_memory;
  sample.query_offsets = exact.query_offsets;
  sample.key_lengths.assign(static_cast<std::size_t>(p.batch),
                            static_cast<std::int32_t>(c.problem.k_len));
  const auto copy = [&](const std::vector<std::byte>& from, std::int64_t width,
                        std::vector<std::byte>* to) {
    const std::int64_t row = p.k_heads * width * SizeOf(p.dtype);
    std::fill(to->begin(), to->end(), std::byte{0xFF});
    for (std::int64_t b = 0; b < p.batch; ++b) {
      std::memcpy(to->data() + b * p.k_len * row, from.data() + b * c.problem.k_len * row,
                  static_cast<std::size_t>(c.problem.k_len * row));
    }
  };
  copy(exact.k_memory, p.dim, &sample.k_memory);
  copy(exact.v_memory, p.dim_v, &sample.v_memory);
  for (const Engine& engine : Engines()) {
    ExpectSame(RunOn(engine, exact), RunOn(engine, sample), engine.name());
  }
}

RC_GTEST_PROP(Equivalence, WhoSeesWhomIsAMask, ()) {
  const Case c = AnyCase({kCausal, kWindow, kAlign, kPrefix, kChunk, kAlibi, kBias, kMask, kSinks,
                          kDropout, kKeyLengths});
  SCOPED_TRACE(Words(c));
  const Sample sample = MakeSample(c);
  Sample other = sample;
  AddMask(&other, [&](std::int64_t b, std::int64_t, std::int64_t i, std::int64_t j) {
    const Problem& p = sample.problem;
    const std::int64_t sk =
        p.key_lengths ? sample.key_lengths[static_cast<std::size_t>(b)] : p.k_len;
    const std::int64_t at = i + ShiftOf(sample, b, sk), right = p.causal ? 0 : p.window_right;
    const auto chunk_of = [&](std::int64_t x) { return x / p.chunk - (x % p.chunk < 0); };
    if (j < p.prefix) return true;
    return (p.window_left < 0 || j >= at - p.window_left) && (right < 0 || j <= at + right) &&
           (p.chunk == 0 || chunk_of(at) == chunk_of(j));
  });
  Problem& p = other.problem;
  p.causal = false;
  p.window_left = p.window_right = -1;
  p.prefix = p.chunk = 0;
  ExpectEquivalent(sample, other);
}

RC_GTEST_PROP(Equivalence, CausalIsAWindow, ()) {
  const Case c = AnyCase({kWindow, kAlign, kPrefix, kChunk, kAlibi, kBias, kMask, kBlockMap, kSinks,
                          kDropout, kKeyLengths, kRagged, kCache, kAppend, kRotary, kLeftPad});
  SCOPED_TRACE(Words(c));
  Sample causal = MakeSample(c), window = causal;
  causal.problem.causal = true;
  window.problem.window_right = 0;
  for (const Engine& engine : Engines()) {
    ExpectSame(RunOn(engine, causal), RunOn(engine, window), engine.name());
  }
}

// Slopes are powers of two: every product with a distance is exact in f32.
RC_GTEST_PROP(Equivalence, AlibiIsABias, ()) {
  const Case c =
      AnyCase({kCausal, kWindow, kAlign, kAlibi, kMask, kSinks, kDropout, kKeyLengths}, kAlibi);
  SCOPED_TRACE(Words(c));
  const Sample sample = MakeSample(c);
  Sample other = sample;
  Problem& p = other.problem;
  std::vector<std::byte>& bytes = other.bias.bytes;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const auto at = static_cast<std::size_t>(b);
    const std::int64_t sk = p.key_lengths ? sample.key_lengths[at] : p.k_len;
    for (std::int64_t h = 0; h < p.q_heads; ++h) {
      const std::int64_t row = p.alibi == Alibi::kPerBatchHead ? b * p.q_heads : 0;
      const float slope = sample.slopes[static_cast<std::size_t>(row + h)];
      for (std::int64_t i = 0; i < p.q_len; ++i) {
        for (std::int64_t j = 0; j < p.k_len; ++j) {
          const std::int64_t distance = std::abs(i + ShiftOf(sample, b, sk) - j);
          const float term = -slope * static_cast<float>(distance);
          bytes.resize(bytes.size() + sizeof term);
          std::memcpy(bytes.data() + bytes.size() - sizeof term, &term, sizeof term);
        }
      }
    }
  }
  p.bias = {.given = true, .batch = p.batch, .heads = p.q_heads, .rows = p.q_len, .cols = p.k_len};
  p.alibi = Alibi::kNone;
  other.slopes.clear();
  ExpectEquivalent(sample, other);
}

RC_GTEST_PROP(Equivalence, ABlockMapIsAMask, ()) {
  const Case c = AnyCase({kCausal, kWindow, kAlign, kAlibi, kBias, kMask, kBlockMap, kSpread,
                          kSinks, kDropout, kKeyLengths});
  SCOPED_TRACE(Words(c));
  RC_PRE(c.problem.block_map.given);
  const Sample sample = MakeSample(c);
  Sample other = sample;
  const Problem normal = NormalOf(sample.problem);
  const auto* map = static_cast<const std::uint8_t*>(sample.block_map.data());
  AddMask(&other, [&](std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
    const Broadcast& t = normal.block_map;
    return map[b * t.stride_batch + h * t.stride_head + i / normal.block_rows * t.stride_row +
               j / normal.block_cols * t.stride_col] != 0;
  });
  Problem& p = other.problem;
  p.block_map = {};
  p.block_rows = p.block_cols = 0;
  other.block_map = {};
  ExpectEquivalent(sample, other);
}

}  // namespace
}  // namespace heed::testing_options
