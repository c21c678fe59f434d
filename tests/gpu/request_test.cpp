// request_test.cpp: calls as text say what they mean, and what cannot be read is refused.
#include "gpu/request.h"

#include <gmock/gmock.h>

#include <string>

namespace heed::gpu {
namespace {

using testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  Request request;
  const Status status = Parse(text, &request);
  EXPECT_EQ(status.code(), StatusCode::kInvalid) << text;
  return status.message();
}

TEST(Request, EveryKindOfFieldIsRead) {
  Request r;
  const Status status = Parse(
      "batch 2\nq_len 3\n\n  dtype   bf16\ncausal 1\nalign offset\nquery_offset -5\nscale 0.25\n"
      "alibi per_batch_head\nseed 18446744073709551615\nout_dtype f32\nwant_lse 1\n"
      "q_strides 40 -8 16\nbias 1 2 1 4 0 64 0 -1\ncache.slots 7\ncache.rotary half\n"
      "plan.backend reference\nplan.threads 3\nat.q 4096\nat.lse 8192\nat.cu_seqlens_q 16\n"
      "at.workspace 64 128\nat.stream 32\n",
      &r);
  ASSERT_TRUE(status.ok()) << status.message();
  const Problem& p = r.problem;
  EXPECT_EQ(p.batch, 2);
  EXPECT_EQ(p.q_len, 3);
  EXPECT_EQ(p.k_len, 0);
  EXPECT_EQ(p.dtype, DType::kBF16);
  EXPECT_TRUE(p.causal && p.want_lse && !p.ragged);
  EXPECT_EQ(p.align, Align::kOffset);
  EXPECT_EQ(p.query_offset, -5);
  EXPECT_EQ(p.scale, 0.25);
  EXPECT_EQ(p.alibi, Alibi::kPerBatchHead);
  EXPECT_EQ(p.seed, UINT64_MAX);
  EXPECT_EQ(p.out_dtype, DType::kF32);
  EXPECT_EQ(p.q_strides.batch, 40);
  EXPECT_EQ(p.q_strides.row, -8);
  EXPECT_EQ(p.q_strides.head, 16);
  EXPECT_TRUE(p.bias.given && !p.mask.given);
  EXPECT_EQ(p.bias.cols, 4);
  EXPECT_EQ(p.bias.stride_head, 64);
  EXPECT_EQ(p.bias.stride_col, -1);
  EXPECT_TRUE(p.cache.given);
  EXPECT_EQ(p.cache.slots, 7);
  EXPECT_EQ(p.cache.rotary, Rotary::kHalf);
  EXPECT_EQ(r.options.backend, "reference");
  EXPECT_EQ(r.options.threads, 3);
  const auto address = [](const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer);
  };
  EXPECT_EQ(address(r.buffers.q), 4096u);
  EXPECT_EQ(address(r.buffers.lse), 8192u);
  EXPECT_EQ(address(r.buffers.cu_seqlens_q), 16u);
  EXPECT_EQ(address(r.buffers.workspace.data), 64u);
  EXPECT_EQ(r.buffers.workspace.bytes, 128u);
  EXPECT_EQ(address(r.buffers.stream), 32u);
}

TEST(Request, NothingIsGuessed) {
  EXPECT_THAT(ErrorOf("q_lenn 3"), HasSubstr("no field 'q_lenn'"));
  for (const char* line :
       {"q_len", "q_len 3 4", "q_len 3x", "q_len 99999999999999999999", "dtype f33", "causal 2",
        "scale one", "q_strides 1 2", "bias 1 2 3 4", "at.q 0x10", "at.workspace 64",
        "at.workspace 64 -1", "seed -1", "align left", "plan.threads 1.5"}) {
    EXPECT_THAT(ErrorOf(line), HasSubstr(std::string("'") + line + "' cannot be read"));
  }
}

}  // namespace
}  // namespace heed::gpu
