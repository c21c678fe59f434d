// invariance_test.cpp: what the bits of a result may not depend on, whatever the options: threads, the
// rest of the batch, packing of ragged sequences, pages. Not here: two ways to say one thing
// (equivalence_test.cpp).
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "any_case.h"

namespace heed::testing_options {
namespace {

using namespace cases;

// An entry's part of every result, dense.
struct Part {
  std::vector<double> o, lse, probs;
};

Part PartOf(const Output& out, const Sample& s, std::int64_t b) {
  const Problem& p = out.problem;
  const std::vector<double> o = out.O();
  Part part;
  const auto take = [](const std::vector<double>& from, std::int64_t first, std::int64_t count,
                       std::vector<double>* to) {
    to->insert(to->end(), from.begin() + first, from.begin() + first + count);
  };
  const std::int64_t first = p.ragged ? s.cu_seqlens_q[static_cast<std::size_t>(b)] : b * p.q_len;
  const std::int64_t last =
      p.ragged ? s.cu_seqlens_q[static_cast<std::size_t>(b) + 1] : (b + 1) * p.q_len;
  const std::int64_t row = p.q_heads * p.dim_v;
  take(o, first * row, (last - first) * row, &part.o);
  if (p.want_lse) {
    const std::vector<double> lse = out.Lse();
    for (std::int64_t h = 0; h < p.q_heads; ++h) {
      const std::int64_t at = p.ragged ? h * p.total_q + first : (b * p.q_heads + h) * p.q_len;
      take(lse, at, last - first, &part.lse);
    }
  }
  const std::int64_t pairs = p.q_heads * p.q_len * p.k_len;
  if (p.want_probs) take(out.Probs(), b * pairs, pairs, &part.probs);
  return part;
}

Part WholeOf(const Output& out) {
  return {out.O(), out.problem.want_lse ? out.Lse() : std::vector<double>(),
          out.problem.want_probs ? out.Probs() : std::vector<double>()};
}

void ExpectSamePart(const Part& a, const Part& b, const std::string& what) {
  ExpectSameBits(a.o, b.o, what + ": o");
  ExpectSameBits(a.lse, b.lse, what + ": lse");
  ExpectSameBits(a.probs, b.probs, what + ": probs");
}

constexpr std::initializer_list<AxisId> kEverything = {
    kCausal,   kWindow, kAlign,    kPrefix,   kChunk,   kAlibi,   kBias,
    kBiasType, kMask,   kBlockMap, kSpread,   kSinks,   kDropout, kKeyLengths,
    kRagged,   kCache,  kAppend,   kBatchIdx, kLeftPad, kRotary,  kPlacement};
constexpr std::initializer_list<AxisId> kAllButDropout = {
    kCausal,   kWindow, kAlign,    kPrefix,  kChunk,  kAlibi,      kBias,
    kBiasType, kMask,   kBlockMap, kSpread,  kSinks,  kKeyLengths, kRagged,
    kCache,    kAppend, kBatchIdx, kLeftPad, kRotary, kPlacement};

RC_GTEST_PROP(Invariance, ThreadsChangeNoBit, ()) {
  const Case c = AnyCase(kEverything);
  SCOPED_TRACE(Words(c));
  const Sample sample = MakeSample(c);
  for (const Engine& engine : Isas()) {
    const Output one = RunOn(engine, sample, 1);
    for (const int threads : {2, 5}) {
      ExpectSame(one, RunOn(engine, sample, threads), engine.name());
    }
  }
}

// Dropout draws by the entry's index, so that an entry alone is another problem with it.
RC_GTEST_PROP(Invariance, TheRestOfTheBatchChangesNoBit, ()) {
  Case c = AnyCase(kAllButDropout);
  if (c.problem.ragged) c.problem.want_probs = false;  // of the longest sequence's shape
  SCOPED_TRACE(Words(c));
  const Sample sample = MakeSample(c);
  for (const Engine& engine : Engines()) {
    const Output batch = RunOn(engine, sample);
    for (std::int64_t b = 0; b < sample.problem.batch; ++b) {
      Alone alone;
      MakeAlone(sample, b, &alone);
      const Output out = RunOn(engine, alone.problem, alone.buffers);
      ExpectSamePart(PartOf(batch, sample, b), WholeOf(out),
                     engine.name() + ", entry " + std::to_string(b));
    }
  }
}

// A sequence of a ragged batch, alone and as a dense call on the same memory. (An engine may cut the
// two differently: heads that share a tile, say.)
RC_GTEST_PROP(Invariance, ARaggedBatchIsALoopOverItsSequences, ()) {
  Case c = AnyCase({kCausal, kWindow, kAlign, kPrefix, kChunk, kAlibi, kBias, kMask, kBlockMap,
                    kSpread, kSinks, kKeyLengths, kRagged, kPlacement},
                   kRagged);
  c.problem.want_probs = false;  // theirs have the shape of the longest sequence
  SCOPED_TRACE(Words(c));
  const Sample sample = MakeSample(c);
  for (const Engine& engine : Engines()) {
    const Output batch = RunOn(engine, sample);
    for (std::int64_t b = 0; b < sample.problem.batch; ++b) {
      Alone alone;
      MakeAlone(sample, b, &alone);
      const std::string what = engine.name() + ", sequence " + std::to_string(b);
      const Output own = RunOn(engine, alone.problem, alone.buffers);
      ExpectSamePart(PartOf(batch, sample, b), WholeOf(own), what);
      Problem& p = alone.problem;
      p.ragged = false;
      p.total_q = p.total_k = 0;
      alone.buffers.cu_seqlens_q = alone.buffers.cu_seqlens_k = nullptr;
      Expected dense = ExpectedOf(p, alone.buffers);
      ExpectWithin(dense, RunOn(engine, p, alone.buffers), what);
      dense.truth.o.shape = own.o.view().shape;  // the same elements without a batch axis
      dense.truth.lse.shape = {p.q_heads, p.q_len};
      dense.bounds.o.shape = dense.truth.o.shape;
      dense.bounds.lse.shape = dense.truth.lse.shape;
      ExpectWithin(dense, own, what);
    }
  }
}

// New rows, rotated or not, are the same bits whoever writes them: each product and sum is rounded on
// its own, and the result once more to the dtype.
RC_GTEST_PROP(Invariance, EveryEngineAppendsTheSameBits, ()) {
  const Case c = AnyCase(
      {kCausal, kWindow, kCache, kAppend, kRotary, kBatchIdx, kLeftPad, kPlacement}, kAppend);
  SCOPED_TRACE(Words(c));
  const Sample sample = MakeSample(c);
  const Output reference = RunOn(Engine{"reference", "auto"}, sample);
  for (const Engine& engine : Isas()) {
    const Output output = RunOn(engine, sample);
    ExpectSameBits(reference.k_cache.Values().values, output.k_cache.Values().values,
                   engine.name() + ": k_cache");
    ExpectSameBits(reference.v_cache.Values().values, output.v_cache.Values().values,
                   engine.name() + ": v_cache");
  }
}

// The rows of a paged cache laid out one behind the other in slots.
RC_GTEST_PROP(Invariance, PagesAreASlotInPieces, ()) {
  const Case c = AnyCase({kCausal, kWindow, kAlign, kPrefix, kChunk, kAlibi, kBias, kMask,
                          kBlockMap, kSinks, kDropout, kCache, kAppend, kLeftPad, kRotary});
  RC_PRE(c.problem.cache.blocks > 0);
  SCOPED_TRACE(Words(c));
  const Sample paged = MakeSample(c);
  Sample slots = paged;
  const Cache& pages = paged.problem.cache;
  Cache& cache = slots.problem.cache;
  const std::int64_t capacity = pages.blocks * pages.rows;
  cache.slots = c.problem.batch;
  cache.rows = capacity;
  cache.blocks = 0;
  slots.block_table.clear();
  const auto lay_out = [&](const std::vector<std::byte>& from, std::int64_t width,
                           std::vector<std::byte>* to) {
    const std::int64_t row = c.problem.k_heads * width * SizeOf(c.problem.dtype);
    to->assign(static_cast<std::size_t>(c.problem.batch * capacity * row), std::byte{0xFF});
    for (std::int64_t n = 0; n < c.problem.batch * capacity; ++n) {
      const std::int64_t block = n / pages.rows;  // blocks of all entries lie in one row
      const std::int64_t page = paged.block_table[static_cast<std::size_t>(block)];
      if (page < 0) continue;
      std::memcpy(to->data() + n * row, from.data() + (page * pages.rows + n % pages.rows) * row,
                  static_cast<std::size_t>(row));
    }
  };
  lay_out(paged.k_memory, c.problem.dim, &slots.k_memory);
  lay_out(paged.v_memory, c.problem.dim_v, &slots.v_memory);
  for (const Engine& engine : Engines()) {
    const Output a = RunOn(engine, paged), b = RunOn(engine, slots);
    ExpectSamePart(WholeOf(a), WholeOf(b), engine.name());
  }
}

}  // namespace
}  // namespace heed::testing_options
