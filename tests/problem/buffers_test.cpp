// buffers_test.cpp: every rule about pointers, alignment, workspace and overlap. Not here: what
// index arrays hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "buffers_testing.h"

namespace heed {
namespace {

Problem Rotary8() {
  Problem p = CacheForward();
  p.cache.rotary = Rotary::kHalf;
  p.cache.rotary_dim = 8;
  p.cache.rotary_rows = 16;
  p.cache.batch_idx = true;
  return p;
}

TEST(CheckBuffers, AcceptsWhatFits) {
  for (const auto& p : {DenseForward(), FullForward(), FullBackward(), RaggedForward(),
                        CacheForward(), PagedForward(), Rotary8()}) {
    ASSERT_TRUE(CheckProblem(p)) << CheckProblem(p).message();
    const Status status = Call(p).Check();
    EXPECT_TRUE(status) << status.message();
  }
}

// The same rules in device memory, but that no array is read and a stream may be given.
TEST(CheckBuffers, InDeviceMemory) {
  for (const auto& p :
       {DenseForward(), FullForward(), RaggedForward(), PagedForward(), Rotary8()}) {
    Call call(p);
    int stream = 0;
    call.buffers.stream = &stream;
    EXPECT_EQ(call.Check().message(),
              "stream is given, but the buffers are host memory: leave it null");
    EXPECT_TRUE(call.Check(Place::kDevice)) << call.Check(Place::kDevice).message();
    const std::vector<std::int32_t> wrong(64, INT32_MIN);
    for (const std::int32_t* Buffers::*array :
         {&Buffers::key_lengths, &Buffers::cu_seqlens_q, &Buffers::cu_seqlens_k,
          &Buffers::cache_seqlens, &Buffers::block_table}) {
      if (call.buffers.*array != nullptr) call.buffers.*array = wrong.data();
    }
    EXPECT_TRUE(call.Check(Place::kDevice)) << call.Check(Place::kDevice).message();
    call.workspace_bytes = 1 << 20;
    EXPECT_EQ(call.Check(Place::kDevice).code(), StatusCode::kBuffers);
    call.workspace_bytes = 0;
    call.buffers.o = const_cast<void*>(call.buffers.q);
    EXPECT_EQ(call.Check(Place::kDevice).message(),
              "o is written and overlaps q: they must not share memory");
    call.buffers.o = static_cast<char*>(call.buffers.o) + 1;
    EXPECT_THAT(call.Check(Place::kDevice).message(), testing::HasSubstr("must be aligned"));
    call.buffers.o = nullptr;
    EXPECT_THAT(call.Check(Place::kDevice).message(), testing::HasSubstr("o is null"));
  }
}

struct Row {
  Problem (*problem)();
  std::function<void(Call&)> breaks;
  const char* message;
};

#define BREAK(...) [](Call& c) { __VA_ARGS__; }

void ExpectMessages(const Row* first, const Row* last) {
  for (const Row* row = first; row != last; row++) {
    Call call(row->problem());
    row->breaks(call);
    const Status status = call.Check();
    EXPECT_EQ(status.message(), row->message);
    EXPECT_EQ(status.code(), StatusCode::kBuffers);
  }
}

TEST(CheckBuffers, PointersThatTheProblemAsksFor) {
  const Row rows[] = {
      {FullForward, BREAK(c.buffers.q = nullptr),
       "q is null: the problem asks for a pointer to 2 x 5 x 6 x 8 elements of f32"},
      {FullForward, BREAK(c.buffers.k = nullptr),
       "k is null: the problem asks for a pointer to 2 x 7 x 3 x 8 elements of f32"},
      {FullForward, BREAK(c.buffers.v = nullptr),
       "v is null: the problem asks for a pointer to 2 x 7 x 3 x 4 elements of f32"},
      {FullForward, BREAK(c.buffers.o = nullptr),
       "o is null: the problem asks for a pointer to 2 x 5 x 6 x 4 elements of f32"},
      {FullForward, BREAK(c.buffers.lse = nullptr),
       "lse is null: the problem asks for a pointer to 60 elements of f32"},
      {FullForward, BREAK(c.buffers.probs = nullptr),
       "probs is null: the problem asks for a pointer to 420 elements of f32"},
      {FullForward, BREAK(c.buffers.alibi_slopes = nullptr),
       "alibi_slopes is null: the problem asks for a pointer to 12 elements of f32"},
      {FullForward, BREAK(c.buffers.bias = nullptr),
       "bias is null: the problem asks for a pointer to 5 x 7 x 1 elements of f32"},
      {FullForward, BREAK(c.buffers.mask = nullptr),
       "mask is null: the problem asks for a pointer to 6 x 7 x 1 elements of bool"},
      {FullForward, BREAK(c.buffers.block_map = nullptr),
       "block_map is null: the problem asks for a pointer to 2 x 2 x 1 elements of bool"},
      {FullForward, BREAK(c.buffers.sinks = nullptr),
       "sinks is null: the problem asks for a pointer to 6 elements of f32"},
      {FullForward, BREAK(c.buffers.key_lengths = nullptr),
       "key_lengths is null: the problem asks for a pointer to 2 elements of int32"},
      {FullForward, BREAK(c.buffers.query_offsets = nullptr),
       "query_offsets is null: the problem asks for a pointer to 2 elements of int32"},
      {RaggedForward, BREAK(c.buffers.cu_seqlens_q = nullptr),
       "cu_seqlens_q is null: the problem asks for a pointer to 4 elements of int32"},
      {RaggedForward, BREAK(c.buffers.cu_seqlens_k = nullptr),
       "cu_seqlens_k is null: the problem asks for a pointer to 4 elements of int32"},
      {RaggedForward, BREAK(c.buffers.lse = nullptr),
       "lse is null: the problem asks for a pointer to 54 elements of f32"},
      {Rotary8, BREAK(c.buffers.k_cache = nullptr),
       "k_cache is null: the problem asks for a pointer to 5 x 16 x 3 x 8 elements of f32"},
      {Rotary8, BREAK(c.buffers.v_cache = nullptr),
       "v_cache is null: the problem asks for a pointer to 5 x 16 x 3 x 4 elements of f32"},
      {Rotary8, BREAK(c.buffers.k_new = nullptr),
       "k_new is null: the problem asks for a pointer to 3 x 2 x 3 x 8 elements of f32"},
      {Rotary8, BREAK(c.buffers.v_new = nullptr),
       "v_new is null: the problem asks for a pointer to 3 x 2 x 3 x 4 elements of f32"},
      {Rotary8, BREAK(c.buffers.rotary_cos = nullptr),
       "rotary_cos is null: the problem asks for a pointer to 64 elements of f32"},
      {Rotary8, BREAK(c.buffers.rotary_sin = nullptr),
       "rotary_sin is null: the problem asks for a pointer to 64 elements of f32"},
      {Rotary8, BREAK(c.buffers.cache_seqlens = nullptr),
       "cache_seqlens is null: the problem asks for a pointer to 3 elements of int32"},
      {Rotary8, BREAK(c.buffers.cache_batch_idx = nullptr),
       "cache_batch_idx is null: the problem asks for a pointer to 3 elements of int32"},
      {Rotary8, BREAK(c.buffers.cache_leftpad = nullptr),
       "cache_leftpad is null: the problem asks for a pointer to 3 elements of int32"},
      {PagedForward, BREAK(c.buffers.block_table = nullptr),
       "block_table is null: the problem asks for a pointer to 9 elements of int32"},
      {FullBackward, BREAK(c.buffers.o = nullptr),
       "o is null: the problem asks for a pointer to 2 x 5 x 6 x 4 elements of f32"},
      {FullBackward, BREAK(c.buffers.lse = nullptr),
       "lse is null: the problem asks for a pointer to 60 elements of f32"},
      {FullBackward, BREAK(c.buffers.dout = nullptr),
       "dout is null: the problem asks for a pointer to 2 x 5 x 6 x 4 elements of f32"},
      {FullBackward, BREAK(c.buffers.dlse = nullptr),
       "dlse is null: the problem asks for a pointer to 60 elements of f32"},
      {FullBackward, BREAK(c.buffers.dq = nullptr),
       "dq is null: the problem asks for a pointer to 2 x 5 x 6 x 8 elements of f32"},
      {FullBackward, BREAK(c.buffers.dk = nullptr),
       "dk is null: the problem asks for a pointer to 2 x 7 x 3 x 8 elements of f32"},
      {FullBackward, BREAK(c.buffers.dv = nullptr),
       "dv is null: the problem asks for a pointer to 2 x 7 x 3 x 4 elements of f32"},
      {FullBackward, BREAK(c.buffers.dbias = nullptr),
       "dbias is null: the problem asks for a pointer to 35 elements of f32"},
      {FullBackward, BREAK(c.buffers.dsinks = nullptr),
       "dsinks is null: the problem asks for a pointer to 6 elements of f32"},
  };
  ExpectMessages(std::begin(rows), std::end(rows));
}

float some_float = 0;
std::uint8_t some_byte = 0;
std::int32_t some_int = 0;

TEST(CheckBuffers, PointersThatTheProblemDoesNotAskFor) {
  constexpr auto plain = [] {
    Problem p = DenseForward();
    p.want_lse = false;
    return p;
  };
  constexpr auto backward = [] {
    Problem p = DenseForward();
    p.op = Op::kBackward;
    return p;
  };
  constexpr auto decode = [] {
    Problem p = CacheForward();
    p.cache.new_len = 0;
    p.cache.leftpad = false;
    return p;
  };
  const Row rows[] = {
      {plain, BREAK(c.buffers.lse = &some_float),
       "lse is given, but want_lse is false: leave it null"},
      {plain, BREAK(c.buffers.probs = &some_float),
       "probs is given, but want_probs is false: leave it null"},
      {plain, BREAK(c.buffers.alibi_slopes = &some_float),
       "alibi_slopes is given, but alibi is kNone: leave it null"},
      {plain, BREAK(c.buffers.bias = &some_float),
       "bias is given, but bias.given is false: leave it null"},
      {plain, BREAK(c.buffers.mask = &some_byte),
       "mask is given, but mask.given is false: leave it null"},
      {plain, BREAK(c.buffers.block_map = &some_byte),
       "block_map is given, but block_map.given is false: leave it null"},
      {plain, BREAK(c.buffers.sinks = &some_float),
       "sinks is given, but sinks is false: leave it null"},
      {plain, BREAK(c.buffers.key_lengths = &some_int),
       "key_lengths is given, but key_lengths is false: leave it null"},
      {plain, BREAK(c.buffers.query_offsets = &some_int),
       "query_offsets is given, but query_offsets is false: leave it null"},
      {plain, BREAK(c.buffers.cu_seqlens_q = &some_int),
       "cu_seqlens_q is given, but ragged is false: leave it null"},
      {plain, BREAK(c.buffers.cu_seqlens_k = &some_int),
       "cu_seqlens_k is given, but ragged is false: leave it null"},
      {plain, BREAK(c.buffers.k_cache = &some_float),
       "k_cache is given, but cache.given is false: leave it null"},
      {plain, BREAK(c.buffers.v_cache = &some_float),
       "v_cache is given, but cache.given is false: leave it null"},
      {plain, BREAK(c.buffers.k_new = &some_float),
       "k_new is given, but cache.new_len is 0: leave it null"},
      {plain, BREAK(c.buffers.v_new = &some_float),
       "v_new is given, but cache.new_len is 0: leave it null"},
      {plain, BREAK(c.buffers.rotary_cos = &some_float),
       "rotary_cos is given, but cache.rotary is kNone: leave it null"},
      {plain, BREAK(c.buffers.rotary_sin = &some_float),
       "rotary_sin is given, but cache.rotary is kNone: leave it null"},
      {plain, BREAK(c.buffers.cache_seqlens = &some_int),
       "cache_seqlens is given, but cache.given is false: leave it null"},
      {decode, BREAK(c.buffers.cache_batch_idx = &some_int),
       "cache_batch_idx is given, but cache.batch_idx is false: leave it null"},
      {decode, BREAK(c.buffers.cache_leftpad = &some_int),
       "cache_leftpad is given, but cache.leftpad is false: leave it null"},
      {decode, BREAK(c.buffers.block_table = &some_int),
       "block_table is given, but cache.blocks is 0: leave it null"},
      {decode, BREAK(c.buffers.k = &some_float),
       "k is given, but keys and values come from the cache: leave it null"},
      {decode, BREAK(c.buffers.v = &some_float),
       "v is given, but keys and values come from the cache: leave it null"},
      {decode, BREAK(c.buffers.k_new = &some_float),
       "k_new is given, but cache.new_len is 0: leave it null"},
      {plain, BREAK(c.buffers.dout = &some_float),
       "dout is given, but op is kForward: leave it null"},
      {plain, BREAK(c.buffers.dlse = &some_float),
       "dlse is given, but op is kForward: leave it null"},
      {plain, BREAK(c.buffers.dq = &some_float), "dq is given, but op is kForward: leave it null"},
      {plain, BREAK(c.buffers.dk = &some_float), "dk is given, but op is kForward: leave it null"},
      {plain, BREAK(c.buffers.dv = &some_float), "dv is given, but op is kForward: leave it null"},
      {plain, BREAK(c.buffers.dbias = &some_float),
       "dbias is given, but op is kForward: leave it null"},
      {plain, BREAK(c.buffers.dsinks = &some_float),
       "dsinks is given, but op is kForward: leave it null"},
      {backward, BREAK(c.buffers.dlse = &some_float),
       "dlse is given, but dlse is false: leave it null"},
      {backward, BREAK(c.buffers.dbias = &some_float),
       "dbias is given, but want_dbias is false: leave it null"},
      {backward, BREAK(c.buffers.dsinks = &some_float),
       "dsinks is given, but want_dsinks is false: leave it null"},
      {plain, BREAK(c.buffers.stream = &some_float),
       "stream is given, but the buffers are host memory: leave it null"},
  };
  ExpectMessages(std::begin(rows), std::end(rows));
}

TEST(CheckBuffers, TensorsWithoutElementsMayBeNull) {
  Problem p = DenseForward();
  p.k_len = 0;
  Call call(p);
  call.buffers.k = call.buffers.v = nullptr;
  EXPECT_TRUE(call.Check()) << call.Check().message();
  p.batch = 0;
  Call none(p);
  none.buffers = {};
  none.workspace_bytes = 0;
  EXPECT_TRUE(none.Check()) << none.Check().message();
}

TEST(CheckBuffers, Alignment) {
  Call call(DenseForward());
  call.buffers.q = static_cast<const char*>(call.buffers.q) + 2;
  EXPECT_EQ(call.Check().message(),
            "q is at an address 2 bytes beyond a multiple of 4: f32 must be aligned to its size");
  Problem half = DenseForward();
  half.dtype = DType::kF16;
  Call aligned(half);
  aligned.buffers.q = static_cast<const char*>(aligned.buffers.q) + 2;
  EXPECT_TRUE(aligned.Check()) << aligned.Check().message();
}

TEST(CheckBuffers, Workspace) {
  Call call(DenseForward());
  call.buffers.workspace.bytes = 95;
  EXPECT_EQ(call.Check().message(), "workspace has 95 bytes and the plan needs 96");
  call.buffers.workspace = {nullptr, 1000};
  EXPECT_EQ(call.Check().message(), "workspace is null and the plan needs 96 bytes");
  call.workspace_bytes = 0;
  EXPECT_TRUE(call.Check());
}

TEST(CheckBuffers, OutputsShareMemoryWithNothing) {
  const Row rows[] = {
      {DenseForward, BREAK(c.buffers.o = const_cast<void*>(c.buffers.q)),
       "o is written and overlaps q: they must not share memory"},
      {DenseForward, BREAK(c.buffers.lse = static_cast<float*>(c.buffers.o) + 239),
       "o is written and overlaps lse: they must not share memory"},
      {DenseForward, BREAK(c.buffers.workspace.data = c.buffers.lse),
       "lse is written and overlaps workspace: they must not share memory"},
      {DenseForward, BREAK(c.buffers.workspace.data = const_cast<void*>(c.buffers.k)),
       "workspace is written and overlaps k: they must not share memory"},
      {FullForward, BREAK(c.buffers.lse = const_cast<float*>(c.buffers.sinks)),
       "lse is written and overlaps sinks: they must not share memory"},
      {FullBackward, BREAK(c.buffers.dk = c.buffers.dq),
       "dq is written and overlaps dk: they must not share memory"},
      {FullBackward, BREAK(c.buffers.dq = c.buffers.o),
       "dq is written and overlaps o: they must not share memory"},
      {FullBackward, BREAK(c.buffers.dbias = const_cast<void*>(c.buffers.bias)),
       "dbias is written and overlaps bias: they must not share memory"},
      {CacheForward, BREAK(c.buffers.v_cache = c.buffers.k_cache),
       "k_cache is written and overlaps v_cache: they must not share memory"},
      {CacheForward, BREAK(c.buffers.k_new = c.buffers.k_cache),
       "k_cache is written and overlaps k_new: they must not share memory"},
  };
  ExpectMessages(std::begin(rows), std::end(rows));
}

TEST(CheckBuffers, InputsMayShareMemory) {
  Call call(DenseForward());
  call.buffers.v = call.buffers.k;
  EXPECT_TRUE(call.Check());
  // A cache that is only read: values are the first entries of the keys.
  Problem p = CacheForward();
  p.cache.new_len = 0;
  p.v_strides = {16 * 3 * 8, 3 * 8, 8};
  Call cache(p);
  cache.buffers.v_cache = cache.buffers.k_cache;
  EXPECT_TRUE(cache.Check()) << cache.Check().message();
}

TEST(CheckBuffers, ElementsSideBySideDoNotOverlap) {
  Call call(DenseForward());
  call.buffers.lse = static_cast<float*>(call.Take(4 * 300));
  call.buffers.o = call.buffers.lse + 60;
  EXPECT_TRUE(call.Check()) << call.Check().message();
  call.buffers.o = call.buffers.lse + 59;
  EXPECT_FALSE(call.Check());
}

// Gradients as slices of one packed tensor, in the orders of axes that models use.
TEST(CheckBuffers, PackedGradients) {
  const std::int64_t b = 2, s = 5, h = 3, d = 8;
  struct Layout {
    const char* name;
    Strides strides;
    std::int64_t slice;  // from q to k, from k to v
  };
  const Layout layouts[] = {
      {"(B,S,3,H,D)", {s * 3 * h * d, 3 * h * d, d}, h * d},
      {"(B,S,H,3,D)", {s * h * 3 * d, h * 3 * d, 3 * d}, d},
      {"(3,B,S,H,D)", {s * h * d, h * d, d}, b * s * h * d},
      {"(B,3,H,S,D)", {3 * h * s * d, d, s * d}, h * s * d},
      {"(B,H,3,S,D)", {h * 3 * s * d, d, 3 * s * d}, s * d},
      {"(S,B,3,H,D)", {3 * h * d, b * 3 * h * d, d}, h * d},
      {"(S,B,H,3,D)", {h * 3 * d, b * h * 3 * d, 3 * d}, d},
      {"(B,S,3,H,D) padded to D + 2", {s * 3 * h * (d + 2), 3 * h * (d + 2), d + 2}, h * (d + 2)},
  };
  for (const Layout& layout : layouts) {
    Problem p = {.batch = b, .q_len = s, .k_len = s, .q_heads = h, .dim = d, .op = Op::kBackward};
    p.dq_strides = p.dk_strides = p.dv_strides = layout.strides;
    ASSERT_TRUE(CheckProblem(p)) << layout.name << CheckProblem(p).message();
    Call call(p);
    float* packed = static_cast<float*>(call.Take(4 * 2 * 3 * b * s * h * (d + 2)));
    call.buffers.dq = packed;
    call.buffers.dk = packed + layout.slice;
    call.buffers.dv = packed + 2 * layout.slice;
    EXPECT_TRUE(call.Check()) << layout.name << ": " << call.Check().message();
    call.buffers.dv = packed + 2 * layout.slice - 3;  // beyond the padding, if there is any
    EXPECT_FALSE(call.Check()) << layout.name;
    call.buffers.dv = packed + layout.slice;
    EXPECT_FALSE(call.Check()) << layout.name;
  }
}

}  // namespace
}  // namespace heed
