// validate_test.cpp: every row of the rule tables is broken once, with the sentence that it gives;
// and what is valid passes.
#include "problem/validate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>
#include <string>

#include "problem/normal.h"
#include "problem/rules.h"

namespace heed {
namespace {

constexpr std::int64_t kHuge = INT64_MAX;

Problem Dense() {
  return {.batch = 2, .q_len = 5, .k_len = 7, .q_heads = 6, .k_heads = 3, .dim = 8, .dim_v = 4};
}
Problem Backward() {
  Problem p = Dense();
  p.op = Op::kBackward;
  return p;
}
Problem Ragged() {
  Problem p = Dense();
  p.ragged = true;
  p.total_q = 9;
  p.total_k = 10;
  return p;
}
Problem Cached() {
  Problem p = Dense();
  p.k_len = 0;
  p.cache = {.given = true, .slots = 4, .rows = 16, .new_len = 2};
  return p;
}
Problem Paged() {
  Problem p = Cached();
  p.cache.blocks = 3;
  return p;
}
Problem WithBlocks() {
  Problem p = Dense();
  p.block_rows = 2;
  p.block_cols = 4;
  p.block_map = {.given = true, .rows = 3, .cols = 2};
  return p;
}

struct Row {
  const char* rule;
  std::function<Problem()> valid;
  std::function<void(Problem&)> breaks;
  const char* message;
};

#define BREAK(...) [](Problem& p) { __VA_ARGS__; }

// One row a rule, or more where a rule has several ways to be broken.
const Row kRows[] = {
    // ---- a field alone
    {"op", Dense, BREAK(p.op = static_cast<Op>(2)),
     "op is 2: it must be 0 (forward) or 1 (backward)"},
    {"dtype", Dense, BREAK(p.dtype = static_cast<DType>(9)),
     "dtype is 9: it must be 0 (f32), 1 (bf16), 2 (f16) or 3 (f64)"},
    {"bias_dtype", Dense, BREAK(p.bias_dtype = static_cast<DType>(4)),
     "bias_dtype is 4: it must be 0 (f32), 1 (bf16), 2 (f16) or 3 (f64)"},
    {"out_dtype", Dense, BREAK(p.out_dtype = static_cast<DType>(255)),
     "out_dtype is 255: it must be 0 (f32), 1 (bf16), 2 (f16) or 3 (f64)"},
    {"align", Dense, BREAK(p.align = static_cast<Align>(3)),
     "align is 3: it must be 0 (bottom right), 1 (top left) or 2 (offset)"},
    {"alibi", Dense, BREAK(p.alibi = static_cast<Alibi>(3)),
     "alibi is 3: it must be 0 (none), 1 (per head) or 2 (per batch and head)"},
    {"cache.rotary", Cached, BREAK(p.cache.rotary = static_cast<Rotary>(7)),
     "cache.rotary is 7: it must be 0 (none), 1 (interleaved) or 2 (halves)"},
    {"batch", Dense, BREAK(p.batch = -1), "batch is -1: it must be from 0 to 1099511627776 (2^40)"},
    {"batch", Dense, BREAK(p.batch = kHuge),
     "batch is 9223372036854775807: it must be from 0 to 1099511627776 (2^40)"},
    {"q_len", Dense, BREAK(p.q_len = -2), "q_len is -2: it must be from 0 to 1099511627776 (2^40)"},
    {"k_len", Dense, BREAK(p.k_len = -3), "k_len is -3: it must be from 0 to 1099511627776 (2^40)"},
    {"q_heads", Dense, BREAK(p.q_heads = 0),
     "q_heads is 0: it must be from 1 to 1099511627776 (2^40)"},
    {"k_heads", Dense, BREAK(p.k_heads = -1),
     "k_heads is -1: it must be from 1 to q_heads and divide it, or 0 for q_heads"},
    {"dim", Dense, BREAK(p.dim = 0), "dim is 0: it must be from 1 to 1024"},
    {"dim", Dense, BREAK(p.dim = 1025), "dim is 1025: it must be from 1 to 1024"},
    {"dim_v", Dense, BREAK(p.dim_v = 2000),
     "dim_v is 2000: it must be from 1 to 1024, or 0 for dim"},
    {"window_left", Dense, BREAK(p.window_left = -2),
     "window_left is -2: it must be 0 or more, or -1 for no bound"},
    {"window_right", Dense, BREAK(p.window_right = INT64_MIN),
     "window_right is -9223372036854775808: it must be 0 or more, or -1 for no bound"},
    {"prefix", Dense, BREAK(p.prefix = -1), "prefix is -1: it must be 0 or more"},
    {"chunk", Dense, BREAK(p.chunk = -4), "chunk is -4: it must be 1 or more, or 0 for none"},
    {"query_offset", Dense, BREAK(p.align = Align::kOffset, p.query_offset = kHuge),
     "query_offset is 9223372036854775807: it must be from -1099511627776 to 1099511627776 (2^40)"},
    {"scale", Dense, BREAK(p.scale = NAN),
     "scale is nan: it must be a finite number that f32 can hold, from -3.4028235e+38 to "
     "3.4028235e+38"},
    {"scale", Dense, BREAK(p.scale = 1e39),
     "scale is 1e+39: it must be a finite number that f32 can hold, from -3.4028235e+38 to "
     "3.4028235e+38"},
    {"softcap", Dense, BREAK(p.softcap = -30),
     "softcap is -30: it must be from 1.1754944e-38 to 3.4028235e+38, or 0 for none"},
    {"softcap", Dense, BREAK(p.softcap = INFINITY),
     "softcap is inf: it must be from 1.1754944e-38 to 3.4028235e+38, or 0 for none"},
    {"softcap", Dense, BREAK(p.softcap = NAN),
     "softcap is nan: it must be from 1.1754944e-38 to 3.4028235e+38, or 0 for none"},
    {"softcap", Dense, BREAK(p.dtype = DType::kF64, p.softcap = -1),
     "softcap is -1: it must be a positive normal number, or 0 for none"},
    {"dropout_p", Dense, BREAK(p.dropout_p = 1),
     "dropout_p is 1: it must be at least 0 and less than 1"},
    {"dropout_p", Dense, BREAK(p.dropout_p = -0.1),
     "dropout_p is -0.1: it must be at least 0 and less than 1"},
    {"dropout_p", Dense, BREAK(p.dropout_p = NAN),
     "dropout_p is nan: it must be at least 0 and less than 1"},
    {"total_q", Ragged, BREAK(p.total_q = -1),
     "total_q is -1: it must be from 0 to 2147483647: cu_seqlens_q is int32"},
    {"total_k", Ragged, BREAK(p.total_k = std::int64_t{1} << 31),
     "total_k is 2147483648: it must be from 0 to 2147483647: cu_seqlens_k is int32"},
    {"block_rows", WithBlocks, BREAK(p.block_rows = 0),
     "block_rows is 0: it must be 1 or more where block_map is given"},
    {"block_cols", WithBlocks, BREAK(p.block_cols = -8),
     "block_cols is -8: it must be 1 or more where block_map is given"},
    {"cache.slots", Cached, BREAK(p.cache.slots = -1),
     "cache.slots is -1: it must be from 0 to 1099511627776 (2^40)"},
    {"cache.rows", Cached, BREAK(p.cache.rows = 0), "cache.rows is 0: it must be 1 or more"},
    {"cache.blocks", Cached, BREAK(p.cache.blocks = -1),
     "cache.blocks is -1: it must be 1 or more, or 0 for a cache without pages"},
    {"cache.new_len", Cached, BREAK(p.cache.new_len = -1),
     "cache.new_len is -1: it must be from 0 to 1099511627776 (2^40)"},

    // ---- the cache
    {"cache fields without cache", Dense, BREAK(p.cache.slots = 3),
     "cache.slots is set, but cache.given is false: set it, or leave every other field of cache "
     "alone"},
    {"cache fields without cache", Dense, BREAK(p.cache.leftpad = true),
     "cache.leftpad is set, but cache.given is false: set it, or leave every other field of cache "
     "alone"},
    {"cache fields without cache", Dense, BREAK(p.cache.rotary = Rotary::kHalf),
     "cache.rotary is set, but cache.given is false: set it, or leave every other field of cache "
     "alone"},
    {"cache capacity", Paged, BREAK(p.cache.rows = p.cache.blocks = std::int64_t{1} << 21),
     "cache.blocks is 2097152 and cache.rows is 2097152: their product, the rows of one entry, "
     "must "
     "be at most 1099511627776 (2^40)"},
    {"block_table fits", Paged, BREAK(p.batch = p.cache.blocks = std::int64_t{1} << 31),
     "batch is 2147483648 and cache.blocks is 2147483648: the int32 entries of block_table must "
     "fit "
     "in 9223372036854775807 bytes"},
    {"no gradient through a cache", Cached, BREAK(p.op = Op::kBackward),
     "op is kBackward and cache.given is true: a call on a KV cache has no gradient; pass k and v "
     "instead of the cache"},
    {"k_len with a cache", Cached, BREAK(p.k_len = 7),
     "k_len is 7 and cache.given is true: leave k_len 0, the keys of an entry are counted by "
     "cache_seqlens"},
    {"key_lengths with a cache", Cached, BREAK(p.key_lengths = true),
     "key_lengths and cache.given are both true: with a cache the lengths come from cache_seqlens, "
     "so leave key_lengths false"},
    {"cache.batch_idx with pages", Paged, BREAK(p.cache.batch_idx = true),
     "cache.batch_idx is true and cache.blocks is 3: the block table already names the pages of "
     "every entry, so leave one of the two out"},
    {"cache.slots for the batch", Cached, BREAK(p.cache.slots = 1),
     "cache.slots is 1 and batch is 2: entry b uses slot b, so there must be at least 2 slots, or "
     "cache.batch_idx, or pages"},
    {"cache.new_len of the capacity", Cached, BREAK(p.cache.new_len = 17),
     "cache.new_len is 17 and an entry of the cache holds 16 rows: new_len must be at most that"},
    {"cache.rotary_dim", Cached,
     BREAK(p.cache.rotary = Rotary::kHalf, p.cache.rotary_rows = 16, p.cache.rotary_dim = 3),
     "cache.rotary_dim is 3 and dim is 8: it must be even, from 2 to dim"},
    {"cache.rotary_dim", Cached,
     BREAK(p.cache.rotary = Rotary::kHalf, p.cache.rotary_rows = 16, p.cache.rotary_dim = 10),
     "cache.rotary_dim is 10 and dim is 8: it must be even, from 2 to dim"},
    {"cache.rotary_rows", Cached, BREAK(p.cache.rotary = Rotary::kHalf, p.cache.rotary_dim = 4),
     "cache.rotary_rows is 0: it must be 1 or more, a row for every position that is used"},
    {"rotary sizes without rotary", Cached, BREAK(p.cache.rotary_dim = 4),
     "cache.rotary_dim is 4 and cache.rotary_rows is 0, but cache.rotary is kNone: they must be 0, "
     "or cache.rotary say how to pair"},

    // ---- fields against each other
    {"q_heads a multiple of k_heads", Dense, BREAK(p.q_heads = 12, p.k_heads = 8),
     "k_heads is 8 and q_heads is 12: q_heads must be a multiple of k_heads"},
    {"query_offset with its align", Dense, BREAK(p.query_offset = 5),
     "query_offset is 5 and align is kBottomRight: an offset is used with Align::kOffset only"},
    {"query_offsets with their align", Dense,
     BREAK(p.query_offsets = true, p.align = Align::kTopLeft),
     "query_offsets is true and align is kTopLeft: offsets are used with Align::kOffset only"},
    {"align kOffset has an offset", Dense, BREAK(p.align = Align::kOffset),
     "align is kOffset without an offset: give query_offset, or query_offsets = true and one "
     "offset per batch entry"},
    {"one kind of offset", Dense,
     BREAK(p.align = Align::kOffset, p.query_offset = -3, p.query_offsets = true),
     "query_offset is -3 and query_offsets is true: give the one for all entries or one per entry, "
     "not both"},
    {"dropout's counters", Dense, BREAK(p.dropout_p = 0.5, p.q_len = (std::int64_t{1} << 32) + 1),
     "dropout_p is 0.5 with batch 2, q_heads 6, q_len 4294967297, k_len 7: dropout accepts up to "
     "2^32 heads of the batch, 2^32 queries and 2^34 keys"},
    {"dropout's counters", Dense, BREAK(p.dropout_p = 0.5, p.batch = std::int64_t{1} << 40),
     "dropout_p is 0.5 with batch 1099511627776, q_heads 6, q_len 5, k_len 7: dropout accepts up "
     "to "
     "2^32 heads of the batch, 2^32 queries and 2^34 keys"},
    {"block_rows without block_map", Dense, BREAK(p.block_rows = 16),
     "block_rows is 16, but block_map.given is false: it must be 0"},
    {"block_cols without block_map", Dense, BREAK(p.block_cols = 16),
     "block_cols is 16, but block_map.given is false: it must be 0"},
    {"total_q without ragged", Dense, BREAK(p.total_q = 10),
     "total_q is 10, but ragged is false: it must be 0"},
    {"total_k without ragged", Dense, BREAK(p.total_k = -1),
     "total_k is -1, but ragged is false: it must be 0"},
    {"ragged without cache", Cached, BREAK(p.ragged = true),
     "ragged and cache.given are both true: queries against a cache are a dense batch, so leave "
     "one "
     "of the two out"},
    {"total_q of the sequences", Ragged, BREAK(p.total_q = 11),
     "total_q is 11, but 2 sequences of q_len 5 hold 10 at most"},
    {"total_k of the sequences", Ragged, BREAK(p.batch = 0, p.total_q = 0),
     "total_k is 10, but 0 sequences of k_len 7 hold 0 at most"},
    {"ragged batch strides", Ragged, BREAK(p.v_strides.batch = 28),
     "v_strides.batch is 28, but ragged tensors (T,H,D) have no batch axis: leave it kPacked"},
    {"bias_dtype of the tensors", Dense,
     BREAK(p.dtype = DType::kBF16, p.bias.given = true, p.bias_dtype = DType::kF16),
     "bias_dtype is f16 and dtype is bf16: the bias must be f32 or the tensors' dtype"},
    {"bias_dtype of the tensors", Dense, BREAK(p.bias.given = true, p.bias_dtype = DType::kF64),
     "bias_dtype is f64 and dtype is f32: the bias must be f32 or the tensors' dtype"},
    {"bias.batch", Dense, BREAK(p.bias = {.given = true, .batch = 3}),
     "bias.batch is 3 and batch is 2: it must be 2, or 1 to be repeated"},
    {"bias.heads", Dense, BREAK(p.bias = {.given = true, .heads = 3}),
     "bias.heads is 3 and q_heads is 6: it must be 6, or 1 to be repeated"},
    {"bias.rows", Dense, BREAK(p.bias = {.given = true, .rows = 3}),
     "bias.rows is 3 and q_len is 5: it must be 5, or 1 to be repeated"},
    {"bias.cols", Dense, BREAK(p.bias = {.given = true, .cols = -7}),
     "bias.cols is -7 and k_len is 7: it must be 7, or 1 to be repeated"},
    {"mask.batch", Dense, BREAK(p.mask = {.given = true, .batch = 0}),
     "mask.batch is 0 and batch is 2: it must be 2, or 1 to be repeated"},
    {"mask.heads", Dense, BREAK(p.mask = {.given = true, .heads = 5}),
     "mask.heads is 5 and q_heads is 6: it must be 6, or 1 to be repeated"},
    {"mask.rows", Ragged, BREAK(p.mask = {.given = true, .rows = 9}),
     "mask.rows is 9 and q_len is 5: it must be 5, or 1 to be repeated"},
    {"mask.cols", Paged, BREAK(p.mask = {.given = true, .cols = 16}),
     "mask.cols is 16 and k_len is 48: it must be 48, or 1 to be repeated"},
    {"block_map.batch", WithBlocks, BREAK(p.block_map.batch = 4),
     "block_map.batch is 4 and batch is 2: it must be 2, or 1 to be repeated"},
    {"block_map.heads", WithBlocks, BREAK(p.block_map.heads = 3),
     "block_map.heads is 3 and q_heads is 6: it must be 6, or 1 to be repeated"},
    {"block_map.rows", WithBlocks, BREAK(p.block_map.rows = 2),
     "block_map.rows is 2: it must be 3, which is q_len divided by block_rows, rounded up"},
    {"block_map.cols", WithBlocks, BREAK(p.block_map.cols = 1),
     "block_map.cols is 1: it must be 2, which is k_len divided by block_cols, rounded up"},

    // ---- results
    {"out_dtype of the tensors", Dense, BREAK(p.out_dtype = DType::kBF16),
     "out_dtype is bf16 and dtype is f32: the output must be of the tensors' dtype or f32"},
    {"dlse in the forward", Dense, BREAK(p.dlse = true),
     "dlse is true and op is kForward: it belongs to the backward; leave it false or set op to "
     "kBackward"},
    {"want_dbias in the forward", Dense, BREAK(p.bias.given = p.want_dbias = true),
     "want_dbias is true and op is kForward: it belongs to the backward; leave it false or set op "
     "to kBackward"},
    {"want_dsinks in the forward", Dense, BREAK(p.sinks = p.want_dsinks = true),
     "want_dsinks is true and op is kForward: it belongs to the backward; leave it false or set op "
     "to kBackward"},
    {"f32_grads in the forward", Dense, BREAK(p.f32_grads = true),
     "f32_grads is true and op is kForward: it belongs to the backward; leave it false or set op "
     "to "
     "kBackward"},
    {"accumulate in the forward", Dense, BREAK(p.accumulate = true),
     "accumulate is true and op is kForward: it belongs to the backward; leave it false or set op "
     "to kBackward"},
    {"want_probs in the backward", Backward, BREAK(p.want_probs = true),
     "want_probs is true and op is kBackward: the probabilities come from the forward; leave it "
     "false"},
    {"want_dbias without bias", Backward, BREAK(p.want_dbias = true),
     "want_dbias is true and bias.given is false: there is no bias to have a gradient"},
    {"want_dsinks without sinks", Backward, BREAK(p.want_dsinks = true),
     "want_dsinks is true and sinks is false: there are no sinks to have a gradient"},
    {"dbias fits", Backward,
     BREAK(
         p.want_dbias = true, p.batch = p.q_heads = p.q_len = std::int64_t{1} << 21,
         p.bias = {.given = true, .batch = p.batch, .heads = p.q_heads, .rows = p.q_len, .cols = 7},
         p.bias.stride_batch = p.bias.stride_head = p.bias.stride_row = 0, p.k_heads = 1),
     "want_dbias is true and the bias has the shape (2097152, 2097152, 2097152, 7): its gradient "
     "must fit in 9223372036854775807 bytes"},
    {"want_probs of 2^31 elements", Dense,
     BREAK(p.want_probs = true, p.q_len = p.k_len = std::int64_t{1} << 14),
     "want_probs is true and P would have 2 x 6 x 16384 x 16384 elements: at most 2147483648 "
     "(2^31) "
     "are given"},

    // ---- layout
    {"tensors fit", Dense, BREAK(p.q_strides.batch = kHuge),
     "q of shape (2, 5, 6, 8) has an offset beyond 9223372036854775807 bytes: its sizes and "
     "strides "
     "must be smaller"},
    {"tensors fit", Dense, BREAK(p.k_strides.row = -kHuge / 8),
     "k of shape (2, 7, 3, 8) has an offset beyond 9223372036854775807 bytes: its sizes and "
     "strides "
     "must be smaller"},
    {"tensors fit", Dense, BREAK(p.batch = p.k_len = std::int64_t{1} << 30),
     "k of shape (1073741824, 1073741824, 3, 8) has an offset beyond 9223372036854775807 bytes: "
     "its "
     "sizes and strides must be smaller"},
    {"tensors fit", Dense,
     BREAK(p.bias = {.given = true, .cols = 7}, p.bias.stride_col = kHuge / 2),
     "bias of shape (1, 1, 1, 7) has an offset beyond 9223372036854775807 bytes: its sizes and "
     "strides must be smaller"},
    {"lse fits", Dense,
     BREAK(p.batch = p.q_heads = kMaxSize, p.q_len = p.k_len = 0, p.k_heads = 1, p.dim = 1,
           p.dim_v = 1, p.q_strides = {0, 0, 0}, p.o_strides = {0, 0, 0}),
     "batch is 1099511627776, q_heads 1099511627776 and there are 0 queries: lse, one f32 for each "
     "of their product, must fit in 9223372036854775807 bytes"},
    {"strides of an output", Dense, BREAK(p.o_strides.row = 0),
     "o_strides.row is 0 and the axes inside it span 4 elements: o is written, so the stride must "
     "be at least 4, or elements would overlap"},
    {"strides of an output", Dense, BREAK(p.o_strides.row = -24),
     "o_strides.row is -24 and the axes inside it span 4 elements: o is written, so the stride "
     "must "
     "be at least 4, or elements would overlap"},
    {"strides of an output", Dense, BREAK(p.o_strides.row = 23),
     "o_strides.row is 23 and the axes inside it span 24 elements: o is written, so the stride "
     "must "
     "be at least 24, or elements would overlap"},
    {"strides of an output", Backward, BREAK(p.dv_strides.batch = 83),
     "dv_strides.batch is 83 and the axes inside it span 84 elements: dv is written, so the stride "
     "must be at least 84, or elements would overlap"},
    {"strides of an output", Cached, BREAK(p.k_strides.batch = 0),
     "k_strides.batch is 0 and the axes inside it span 8 elements: k_cache is written, so the "
     "stride must be at least 8, or elements would overlap"},
};

TEST(Validate, EveryRuleSaysItsSentence) {
  for (const Row& row : kRows) {
    Problem p = row.valid();
    ASSERT_TRUE(CheckProblem(p)) << row.rule << ": " << CheckProblem(p).message();
    row.breaks(p);
    const Rule* rule = FirstBroken(p);
    ASSERT_NE(rule, nullptr) << row.rule;
    EXPECT_STREQ(rule->name, row.rule);
    const Status status = Validate(p);
    EXPECT_EQ(status.code(), StatusCode::kInvalid);
    EXPECT_EQ(status.message(), row.message) << row.rule;
  }
}

TEST(Validate, EveryRuleIsTested) {
  std::set<std::string> tested, rules;
  for (const Row& row : kRows) tested.insert(row.rule);
  for (const auto tables : {ValueRules, CacheRules, ShapeRules, ResultRules, LayoutRules}) {
    for (const RuleGroup& group : tables()) {
      for (const Rule& rule : group.rules) {
        EXPECT_TRUE(rules.insert(rule.name).second) << rule.name << " twice";
        EXPECT_TRUE(tested.count(rule.name)) << "no test breaks the rule: " << rule.name;
      }
    }
  }
  EXPECT_EQ(tested, rules);
}

void ExpectValid(const Problem& p) {
  const Status status = Validate(p);
  EXPECT_TRUE(status) << status.message();
}

TEST(Validate, EmptySizesAreValid) {
  for (const auto size : {&Problem::batch, &Problem::q_len, &Problem::k_len}) {
    Problem p = Dense();
    p.*size = 0;
    ExpectValid(p);
    p.op = Op::kBackward;
    ExpectValid(p);
  }
  Problem p = Ragged();
  p.batch = p.total_q = p.total_k = 0;
  ExpectValid(p);
  p = Cached();
  p.cache.slots = p.batch = 0;
  ExpectValid(p);
}

TEST(Validate, Extremes) {
  Problem p = Dense();
  p.dim = 1024;
  p.dim_v = 1;
  ExpectValid(p);
  p.dim = 1;
  p.dim_v = 1024;
  ExpectValid(p);
  p.q_len = kMaxSize;
  p.k_len = kMaxSize;
  ExpectValid(p);
  p.window_left = p.window_right = p.chunk = p.prefix = INT64_MAX;
  ExpectValid(p);
  p.align = Align::kOffset;
  p.query_offset = -kMaxSize;
  ExpectValid(p);
  p.scale = -3e38;
  p.softcap = 1e-30;
  ExpectValid(p);
  p.dtype = DType::kF64;
  p.scale = 1e300;
  p.softcap = 1e-300;
  ExpectValid(p);
}

TEST(Validate, InputsMayRepeatAndReverse) {
  Problem p = Dense();
  p.q_strides = {.batch = 0, .row = -48, .head = 0};
  p.k_strides = {.batch = -1, .row = 0, .head = -8};
  p.v_strides = {.row = 1, .head = 1};
  p.bias = {.given = true, .batch = 2, .heads = 6, .rows = 5, .cols = 7, .stride_batch = 0};
  p.bias.stride_row = -7;
  ExpectValid(p);
}

TEST(Validate, StridesOfAxesOfSizeOneAreIgnored) {
  Problem p = Dense();
  p.batch = 1;
  p.o_strides.batch = -5;
  p.q_strides.batch = INT64_MAX;
  ExpectValid(p);
}

TEST(Validate, OutputsInAnyOrderOfAxes) {
  Problem p = Backward();
  p.o_strides = {.row = 4, .head = 20};                // (B,H,S,D)
  p.dq_strides = {.batch = 8, .row = 16, .head = 80};  // (H,S,B,D)
  p.dk_strides = {.row = 3 * 3 * 8};                   // a slice of (B,S,3,H,D)
  p.dv_strides = {.head = 9};                          // a gap behind each head
  ExpectValid(p);
}

TEST(Validate, TheWholeVocabularyAtOnce) {
  Problem p = WithBlocks();
  p.dtype = DType::kBF16;
  p.causal = true;
  p.window_left = 3;
  p.align = Align::kOffset;
  p.query_offsets = true;
  p.prefix = 2;
  p.chunk = 4;
  p.scale = -1;
  p.softcap = 30;
  p.alibi = Alibi::kPerBatchHead;
  p.bias = {.given = true, .batch = 2, .heads = 1, .rows = 5, .cols = 1};
  p.bias_dtype = DType::kBF16;
  p.mask = {.given = true, .heads = 6, .cols = 7};
  p.sinks = true;
  p.key_lengths = true;
  p.dropout_p = 0.1;
  p.out_dtype = DType::kF32;
  Problem forward = p;
  forward.want_lse = forward.want_probs = true;
  ExpectValid(forward);
  p.op = Op::kBackward;
  p.want_lse = true;  // no contradiction: the backward reads it
  p.dlse = p.want_dbias = p.want_dsinks = p.f32_grads = p.accumulate = true;
  ExpectValid(p);
  p.ragged = true;
  p.total_q = 9;
  p.total_k = 10;
  ExpectValid(p);
}

TEST(Validate, Caches) {
  Problem p = Cached();
  p.cache.rotary = Rotary::kInterleaved;
  p.cache.rotary_dim = 8;
  p.cache.rotary_rows = 16;
  p.cache.leftpad = true;
  p.want_probs = p.want_lse = true;
  p.k_len = 16;  // as in the normal form
  ExpectValid(p);
  p.cache.batch_idx = true;
  p.cache.slots = 1;
  ExpectValid(p);
  p = Paged();
  p.cache.leftpad = true;
  p.cache.slots = 1;
  ExpectValid(p);
  p.cache.new_len = 0;  // not written: pages may be views of one another
  p.k_strides = {.batch = 0};
  ExpectValid(p);
}

}  // namespace
}  // namespace heed
