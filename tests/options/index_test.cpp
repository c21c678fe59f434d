// index_test.cpp: wrong lengths, tables and indices in every array that has them: an error in a
// sentence, and nothing is written. Not here: random ones (tests/fuzz), each rule by itself
// (tests/problem).
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "cases_axes.h"
#include "options_testing.h"

namespace heed::testing_options {
namespace {

using namespace cases;
using Set = std::vector<std::pair<AxisId, int>>;

struct Wrong {
  const char* name;
  Set options;
  void (*break_it)(Sample*);
  const char* says;
};

Case CaseWith(const Set& options) {
  Choice choice(kAxisCount, 0);
  choice[kBatch] = 2;  // three entries
  choice[kLengths] = 3;
  for (const auto& [axis, value] : options) choice[axis] = value;
  return CaseOf(choice, Scale::kSmall, 5);
}

const Set kPages = {{kCache, 3}, {kAppend, 2}}, kSlots = {{kCache, 1}, {kAppend, 2}},
          kNamed = {{kCache, 1}, {kAppend, 1}, {kBatchIdx, 1}},
          kPadded = {{kCache, 1}, {kLeftPad, 1}},
          kTurned = {{kCache, 1}, {kAppend, 2}, {kRotary, 1}};

const std::vector<Wrong>& Wrongs() {
  static const std::vector<Wrong> wrongs = {
      {"cu_q_start",
       {{kRagged, 1}},
       [](Sample* s) { s->cu_seqlens_q[0] = 1; },
       "cu_seqlens_q[0] is 1: it must be 0"},
      {"cu_q_descends",
       {{kRagged, 1}},
       [](Sample* s) { s->cu_seqlens_q[1] = -1; },
       "must not descend"},
      {"cu_q_end", {{kRagged, 1}}, [](Sample* s) { --s->problem.total_q; }, "total_q is"},
      {"cu_q_long",
       {{kRagged, 1}},
       [](Sample* s) { --s->problem.q_len; },
       "no sequence may be longer"},
      {"cu_k_start",
       {{kRagged, 1}},
       [](Sample* s) { s->cu_seqlens_k[0] = -3; },
       "cu_seqlens_k[0] is -3: it must be 0"},
      {"cu_k_descends",
       {{kRagged, 1}},
       [](Sample* s) { s->cu_seqlens_k[2] = s->cu_seqlens_k[1] - 1; },
       "must not descend"},
      {"cu_k_huge",
       {{kRagged, 1}},
       [](Sample* s) { s->cu_seqlens_k[2] = INT32_MAX; },
       "no sequence may be longer"},
      {"cu_k_end", {{kRagged, 1}}, [](Sample* s) { s->problem.total_k -= 1; }, "total_k is"},
      {"length_negative",
       {{kKeyLengths, 1}},
       [](Sample* s) { s->key_lengths[1] = -1; },
       "key_lengths[1] is -1: it must be from 0 to 41"},
      {"length_beyond",
       {{kKeyLengths, 1}},
       [](Sample* s) { s->key_lengths[2] = 42; },
       "key_lengths[2] is 42: it must be from 0 to 41"},
      {"length_beyond_ragged",
       {{kKeyLengths, 1}, {kRagged, 1}},
       [](Sample* s) { s->key_lengths[0] = s->cu_seqlens_k[1] + 1; },
       "the keys of entry 0"},
      {"seqlens_negative", kSlots, [](Sample* s) { s->cache_seqlens[1] = -1; },
       "cache_seqlens[1] is -1"},
      {"seqlens_beyond", kSlots, [](Sample* s) { ++s->cache_seqlens[0]; },
       "their sum at most 41, the rows of an entry"},
      {"seqlens_beyond_pages", kPages, [](Sample* s) { ++s->cache_seqlens[0]; },
       "their sum at most 42, the rows of an entry"},
      {"seqlens_huge", kPages, [](Sample* s) { s->cache_seqlens[2] = INT32_MAX; },
       "cache_seqlens[2] is 2147483647"},
      {"leftpad_negative", kPadded, [](Sample* s) { s->cache_leftpad[0] = -1; },
       "cache_leftpad[0] is -1"},
      {"leftpad_beyond", kPadded, [](Sample* s) { s->cache_leftpad[0] = s->cache_seqlens[0] + 1; },
       "the rows in use after the append"},
      {"slot_negative", kNamed, [](Sample* s) { s->cache_batch_idx[2] = -1; },
       "cache_batch_idx[2] is -1: it must be from 0 to 4"},
      {"slot_beyond", kNamed, [](Sample* s) { s->cache_batch_idx[0] = 5; },
       "cache_batch_idx[0] is 5: it must be from 0 to 4"},
      {"slot_twice", kNamed,
       [](Sample* s) {
         s->cache_batch_idx[1] = s->cache_batch_idx[0];
         s->cache_seqlens[1] = s->cache_seqlens[0];
       },
       "entries 0 and 1 would both write row"},
      {"page_negative", kPages, [](Sample* s) { s->block_table[0] = -1; },
       "block_table[0][0] is -1"},
      {"page_beyond", kPages,
       [](Sample* s) { s->block_table[5] = static_cast<std::int32_t>(s->problem.cache.slots); },
       "the pages there are"},
      {"page_garbage", kPages, [](Sample* s) { s->block_table[3] = INT32_MIN; },
       "block_table[0][3] is -2147483648"},
      {"page_shared_where_written", kPages,
       [](Sample* s) {  // entry 1 appends where entry 0 does: the last rows of 42
         s->cache_seqlens[1] = s->cache_seqlens[0];
         for (int n = 0; n < 6; ++n) {
           s->block_table[static_cast<std::size_t>(6 + n)] =
               s->block_table[static_cast<std::size_t>(n)];
         }
       },
       "entries 0 and 1 would both write row"},
      {"page_twice_in_an_entry", kPages,
       [](Sample* s) {  // rows 33 to 40: the end of block 4 and nearly all of block 5
         s->problem.cache.new_len = 8;
         s->k_new.bytes.resize(8 * s->k_new.bytes.size());  // of 8 rows, not what is behind them
         s->v_new.bytes.resize(8 * s->v_new.bytes.size());
         s->cache_seqlens = {33, 0, 0};
         std::iota(s->block_table.begin(), s->block_table.end(), 0);
         s->block_table[5] = s->block_table[4];
       },
       "entries 0 and 0 would both write row 5"},
      {"rotary_short", kTurned, [](Sample* s) { s->problem.cache.rotary_rows = 40; },
       "cache.rotary_rows is 40 and entry 0 needs position 40"},
  };
  return wrongs;
}

class Index : public testing::TestWithParam<Engine> {};

TEST_P(Index, WrongOnesAreRefusedBeforeAnythingIsWritten) {
  for (const Wrong& wrong : Wrongs()) {
    SCOPED_TRACE(wrong.name);
    Case c = CaseWith(wrong.options);
    Sample sample = MakeSample(c);
    wrong.break_it(&sample);
    const Status status = RunRefused(GetParam(), sample.problem, sample.Inputs());
    EXPECT_EQ(status.code(), StatusCode::kBuffers);
    EXPECT_NE(status.message().find(wrong.says), std::string::npos) << status.message();
  }
}

// What looks alike and is right: entries may read one row together, as prompts that start alike do,
// and a table may hold anything where nobody looks.
TEST_P(Index, SharedRowsMayBeRead) {
  for (const Set& options : {Set{{kCache, 3}}, Set{{kCache, 1}, {kBatchIdx, 1}}}) {
    Sample sample = MakeSample(CaseWith(options));
    for (std::int32_t& n : sample.cache_seqlens) n = 20;
    sample.cache_seqlens[0] = 41;  // so that rows 0 to 40 hold numbers
    for (std::size_t n = 6; n < sample.block_table.size(); ++n) {
      sample.block_table[n] = n % 6 < 3 ? sample.block_table[n % 6] : -7;
    }
    if (!sample.cache_batch_idx.empty()) {
      sample.cache_batch_idx.assign(3, sample.cache_batch_idx[0]);
    }
    const Output out = RunOn(GetParam(), sample);
    ExpectWithin(ExpectedOf(sample.problem, sample.Inputs()), out, "shared rows");
  }
}

// A page shared for reading, behind it a page of each entry's own for the append.
TEST_P(Index, SharedPrefixMayBeAppendedTo) {
  Sample sample = MakeSample(CaseWith(kPages));
  sample.cache_seqlens = {21, 21, 21};  // three pages of 7, shared; the append goes to the fourth
  for (std::size_t entry = 0; entry < 3; ++entry) {
    for (std::size_t block = 0; block < 6; ++block) {
      sample.block_table[entry * 6 + block] = static_cast<std::int32_t>(block < 3    ? block
                                                                        : block == 3 ? 3 + entry
                                                                                     : 1u << 30);
    }
  }
  for (auto* memory : {&sample.k_memory, &sample.v_memory}) {
    for (std::size_t n = 0; n < memory->size(); n += 4) {
      const float value = static_cast<float>(n % 97) / 97;
      std::memcpy(memory->data() + n, &value, 4);
    }
  }
  const Output out = RunOn(GetParam(), sample);
  ExpectWithin(ExpectedOf(sample.problem, sample.Inputs()), out, "shared prefix");
}

INSTANTIATE_TEST_SUITE_P(Engines, Index, testing::ValuesIn(Engines()),
                         [](const auto& test) { return test.param.name(); });

}  // namespace
}  // namespace heed::testing_options
