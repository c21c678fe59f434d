// shared_mask_test.cpp: a mask that heads or entries share, against the same mask given to each of them
// by strides of 0: one is classified beforehand, the other on the way. Not here: what masks mean.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "options_testing.h"

namespace heed::testing_options {
namespace {

constexpr std::int64_t kBatch = 2, kHeads = 4, kQueries = 150, kKeys = 330, kDim = 16;

std::vector<float> Wave(std::int64_t n, int period) {
  std::vector<float> x(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(static_cast<int>(i * i) % period) / static_cast<float>(period) - 0.4f;
  return x;
}

// Whole blocks hidden and seen, rows and columns of their own, and blocks in which neither holds.
bool Pattern(int which, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  const std::int64_t seed = b * 3 + h * 5;
  switch (which) {
    case 0:  // blocks, larger and smaller than tiles
      return ((i / 64 + seed) * 7 + (j / 128) * 3) % 4 == 0;
    case 1:
      return ((i / 16 + seed) * 5 + (j / 8) * 3) % 3 != 0;
    case 2:  // all but one pair in a hundred
      return (i * 31 + j * 17 + seed) % 100 != 0;
    case 3:  // a staircase, and rows that see nothing
      return j <= 2 * i + seed && i % 50 != 7;
    default:
      return j < kKeys / 2;
  }
}

struct Inputs {
  std::vector<float> q = Wave(kBatch * kQueries * kHeads * kDim, 97),
                     k = Wave(kBatch * kKeys * kHeads / 2 * kDim, 89),
                     v = Wave(kBatch * kKeys * kHeads / 2 * kDim, 83),
                     dout = Wave(kBatch * kQueries * kHeads * kDim, 79);
  std::vector<std::uint8_t> mask;
  std::vector<std::int32_t> key_lengths = {static_cast<std::int32_t>(kKeys), 200};

  Problem Make(int which, std::int64_t batches, std::int64_t heads, bool transposed) {
    Problem p;
    p.batch = kBatch;
    p.q_len = kQueries;
    p.k_len = kKeys;
    p.q_heads = kHeads;
    p.k_heads = kHeads / 2;
    p.dim = kDim;
    p.key_lengths = true;
    p.want_lse = true;
    p.mask = {true,  batches, heads, kQueries, kKeys, heads * kQueries * kKeys, kQueries * kKeys,
              kKeys, 1};
    if (transposed) {
      p.mask.stride_row = 1;
      p.mask.stride_col = kQueries;
    }
    mask.resize(static_cast<std::size_t>(batches * heads * kQueries * kKeys));
    for (std::int64_t b = 0; b < batches; ++b)
      for (std::int64_t h = 0; h < heads; ++h)
        for (std::int64_t i = 0; i < kQueries; ++i)
          for (std::int64_t j = 0; j < kKeys; ++j)
            mask[static_cast<std::size_t>(b * p.mask.stride_batch + h * p.mask.stride_head +
                                          i * p.mask.stride_row + j * p.mask.stride_col)] =
                Pattern(which, b, h, i, j);
    return p;
  }
  Buffers Get() const {
    Buffers b;
    b.q = q.data();
    b.k = k.data();
    b.v = v.data();
    b.mask = mask.data();
    b.key_lengths = key_lengths.data();
    return b;
  }
};

// The same mask, given to every head of every entry.
Problem Expanded(Problem p) {
  if (p.mask.batch == 1) p.mask.stride_batch = 0;
  if (p.mask.heads == 1) p.mask.stride_head = 0;
  p.mask.batch = kBatch;
  p.mask.heads = kHeads;
  return p;
}

class SharedMask : public testing::TestWithParam<int> {};

TEST_P(SharedMask, IsTheMaskOfEachHead) {
  for (const auto& [batches, heads] : {std::pair{1, 1}, {2, 1}, {1, 4}})
    for (const bool transposed : {false, true})
      for (const bool causal : {false, true}) {
        Inputs inputs;
        Problem shared = inputs.Make(GetParam(), batches, heads, transposed);
        shared.causal = causal;
        const Problem each = Expanded(shared);
        for (const Engine& engine : Engines())
          ExpectSame(RunOn(engine, shared, inputs.Get()), RunOn(engine, each, inputs.Get()),
                     engine.name() + " " + std::to_string(batches) + " " + std::to_string(heads));
      }
}

TEST_P(SharedMask, HasTheGradientsOfEachHeads) {
  Inputs inputs;
  Problem shared = inputs.Make(GetParam(), 1, 1, false);
  const Problem each = Expanded(shared);
  for (const Engine& engine : Isas()) {
    const Output forward = RunOn(engine, shared, inputs.Get());
    const std::vector<double> o = forward.O(), lse = forward.Lse();
    const std::vector<float> o32(o.begin(), o.end()), lse32(lse.begin(), lse.end());
    const auto gradients = [&](Problem p) {
      p.op = Op::kBackward;
      Buffers b = inputs.Get();
      b.o = const_cast<float*>(o32.data());
      b.lse = const_cast<float*>(lse32.data());
      b.dout = inputs.dout.data();
      std::vector<float> dq(inputs.q.size()), dk(inputs.k.size()), dv(inputs.v.size());
      b.dq = dq.data();
      b.dk = dk.data();
      b.dv = dv.data();
      PlanOptions options;
      options.backend = "cpu";
      options.isa = engine.isa;
      options.threads = 2;
      const Status status = Backward(p, b, options);
      EXPECT_TRUE(status.ok()) << status.message();
      std::vector<double> all(dq.begin(), dq.end());
      all.insert(all.end(), dk.begin(), dk.end());
      all.insert(all.end(), dv.begin(), dv.end());
      return all;
    };
    ExpectSameBits(gradients(shared), gradients(each), engine.name());
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, SharedMask, testing::Range(0, 5));

}  // namespace
}  // namespace heed::testing_options
