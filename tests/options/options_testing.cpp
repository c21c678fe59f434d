// options_testing.cpp: see options_testing.h.
#include "options_testing.h"

#include <algorithm>
#include <cstring>

#include "verify/compare.h"
#include "verify/layout.h"
#include "verify/tolerance.h"

namespace heed::testing_options {
namespace {

using verify::Role;

void* Make(const Problem& p, Role role, verify::Guarded* out) {
  *out = verify::Guarded(verify::ViewOf(p, role));
  return out->data();
}

void* CopyOf(const Problem& p, Role role, const void* from, verify::Guarded* out) {
  auto* to = static_cast<std::byte*>(Make(p, role, out));
  const std::int64_t size = SizeOf(p.dtype);
  verify::ForEachOffset(verify::ViewOf(p, role), [&](std::int64_t offset) {
    std::memcpy(to + offset * size, static_cast<const std::byte*>(from) + offset * size,
                static_cast<std::size_t>(size));
  });
  return to;
}

void SetOutputs(const Problem& p, Buffers* b, Output* out) {
  b->o = Make(p, Role::kO, &out->o);
  if (p.want_lse) b->lse = static_cast<float*>(Make(p, Role::kLse, &out->lse));
  if (p.want_probs) b->probs = Make(p, Role::kProbs, &out->probs);
  if (!p.cache.given) return;
  b->k_cache = CopyOf(p, Role::kKCache, b->k_cache, &out->k_cache);
  b->v_cache = CopyOf(p, Role::kVCache, b->v_cache, &out->v_cache);
}

PlanOptions OptionsOf(const Engine& engine, int threads) {
  return {.backend = engine.backend, .isa = engine.isa, .threads = threads};
}

void ExpectNothingSpilled(const Output& out) {
  EXPECT_EQ(out.o.Spilled(), 0) << "bytes around o were changed";
  if (out.problem.want_lse) {
    EXPECT_EQ(out.lse.Spilled(), 0) << "bytes around lse were changed";
  }
  if (out.problem.want_probs) {
    EXPECT_EQ(out.probs.Spilled(), 0) << "bytes around probs were changed";
  }
  if (!out.problem.cache.given) return;
  EXPECT_EQ(out.k_cache.Spilled(), 0) << "bytes around k_cache were changed";
  EXPECT_EQ(out.v_cache.Spilled(), 0) << "bytes around v_cache were changed";
}

const char* BytesAt(const void* data, std::int64_t elements, DType type) {
  return static_cast<const char*>(data) + elements * SizeOf(type);
}

}  // namespace

Problem NormalOf(const Problem& problem) {
  const Result<Plan> plan = MakePlan(problem, {.backend = "reference"});
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan ? plan->problem() : problem;
}

Output RunOn(const Engine& engine, const Problem& problem, Buffers buffers, int threads) {
  Output out{.problem = NormalOf(problem)};
  SetOutputs(out.problem, &buffers, &out);
  const Result<Plan> plan = MakePlan(problem, OptionsOf(engine, threads));
  if (!plan) {
    out.status = plan.status();
    ADD_FAILURE() << engine.name() << ": " << plan.status().message();
    return out;
  }
  verify::Scratch scratch(plan->workspace_bytes());
  buffers.workspace = scratch.workspace();
  out.status = Run(*plan, buffers);
  EXPECT_TRUE(out.status.ok()) << engine.name() << ": " << out.status.message();
  EXPECT_TRUE(scratch.Intact()) << "wrote behind the workspace";
  ExpectNothingSpilled(out);
  const std::int64_t rows = problem.ragged ? problem.total_q : problem.batch * problem.q_len;
  if (engine.backend == "cpu" && rows > 0) {
    EXPECT_EQ(LastIsa(), engine.isa);
  }
  return out;
}

Status RunRefused(const Engine& engine, const Problem& problem, Buffers buffers) {
  Output out{.problem = NormalOf(problem)}, before{.problem = out.problem};
  Buffers untouched = buffers;
  SetOutputs(out.problem, &buffers, &out);
  SetOutputs(out.problem, &untouched, &before);
  const Result<Plan> plan = MakePlan(problem, OptionsOf(engine, 2));
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  if (!plan) return plan.status();
  verify::Scratch scratch(plan->workspace_bytes());
  buffers.workspace = scratch.workspace();
  const Status status = Run(*plan, buffers);
  EXPECT_FALSE(status.ok()) << "nothing was found wrong";
  ExpectNothingSpilled(out);
  ExpectSame(out, before, "before anything is written");
  return status;
}

Expected ExpectedOf(const Problem& problem, const Buffers& inputs) {
  const Problem normal = NormalOf(problem);
  Expected e;
  e.truth = verify::Truth(normal, inputs);
  e.bounds = verify::BoundsFor(normal, inputs, e.truth);
  return e;
}

const Known& KnownOf(const cases::Case& c) {
  static Known known;
  static std::string name;
  if (name != c.name) {
    known.sample = cases::MakeSample(c);
    known.expected = ExpectedOf(known.sample.problem, known.sample.Inputs());
    name = c.name;
  }
  return known;
}

void ExpectWithin(const Expected& e, const Output& out, const std::string& what) {
  const auto judge = [&](const char* name, const verify::Array& want, const verify::Array& bound,
                         const verify::Guarded& got) {
    const verify::Comparison c = verify::Compare(want, bound, got.view());
    EXPECT_TRUE(c.passed()) << what << ": " << name << ": " << c.Describe();
  };
  judge("o", e.truth.o, e.bounds.o, out.o);
  if (out.problem.want_lse) judge("lse", e.truth.lse, e.bounds.lse, out.lse);
  if (out.problem.want_probs) judge("probs", e.truth.probs, e.bounds.probs, out.probs);
  if (!out.problem.cache.given) return;
  judge("k_cache", e.truth.k_cache, e.bounds.k_cache, out.k_cache);
  judge("v_cache", e.truth.v_cache, e.bounds.v_cache, out.v_cache);
}

void ExpectSameBits(const std::vector<double>& a, const std::vector<double>& b,
                    const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t n = 0; n < a.size(); ++n) {
    if (std::memcmp(&a[n], &b[n], sizeof a[n]) == 0 || (a[n] != a[n] && b[n] != b[n])) continue;
    ADD_FAILURE() << what << ": element " << n << " is " << a[n] << " and " << b[n];
    return;
  }
}

void ExpectSame(const Output& a, const Output& b, const std::string& what) {
  ExpectSameBits(a.O(), b.O(), what + ": o");
  if (a.problem.want_lse && b.problem.want_lse) {
    ExpectSameBits(a.Lse(), b.Lse(), what + ": lse");
  }
  if (a.problem.want_probs && b.problem.want_probs) {
    ExpectSameBits(a.Probs(), b.Probs(), what + ": probs");
  }
  if (!a.problem.cache.given || !b.problem.cache.given) return;
  ExpectSameBits(a.k_cache.Values().values, b.k_cache.Values().values, what + ": k_cache");
  ExpectSameBits(a.v_cache.Values().values, b.v_cache.Values().values, what + ": v_cache");
}

void MakeAlone(const cases::Sample& sample, std::int64_t b, Alone* alone) {
  const Problem p = NormalOf(sample.problem);
  Problem& one = alone->problem = p;
  Buffers& x = alone->buffers = sample.Inputs();
  one.batch = 1;
  const auto at = static_cast<std::size_t>(b);
  if (p.ragged) {
    const std::int32_t *cu_q = x.cu_seqlens_q, *cu_k = x.cu_seqlens_k;
    x.q = BytesAt(x.q, cu_q[b] * p.q_strides.row, p.dtype);
    x.k = BytesAt(x.k, cu_k[b] * p.k_strides.row, p.dtype);
    x.v = BytesAt(x.v, cu_k[b] * p.v_strides.row, p.dtype);
    alone->cu_q = {0, cu_q[b + 1] - cu_q[b]};
    alone->cu_k = {0, cu_k[b + 1] - cu_k[b]};
    x.cu_seqlens_q = alone->cu_q.data();
    x.cu_seqlens_k = alone->cu_k.data();
    one.q_len = one.total_q = alone->cu_q[1];
    one.k_len = one.total_k = alone->cu_k[1];
    for (Broadcast* t : {&one.bias, &one.mask}) {
      if (t->rows > 1) t->rows = one.q_len;
      if (t->cols > 1) t->cols = one.k_len;
    }
    if (one.block_map.given) {
      one.block_map.rows = (one.q_len + p.block_rows - 1) / p.block_rows;
      one.block_map.cols = (one.k_len + p.block_cols - 1) / p.block_cols;
    }
  } else {
    x.q = BytesAt(x.q, b * p.q_strides.batch, p.dtype);
    if (!p.cache.given) {
      x.k = BytesAt(x.k, b * p.k_strides.batch, p.dtype);
      x.v = BytesAt(x.v, b * p.v_strides.batch, p.dtype);
    }
  }
  const auto move = [&](const Broadcast& t, Broadcast* own, const void* data, DType type) {
    if (own->batch > 1) own->batch = 1;
    return t.given && t.batch > 1 ? BytesAt(data, b * t.stride_batch, type) : data;
  };
  x.bias = move(p.bias, &one.bias, x.bias, p.bias_dtype);
  const auto bytes = [&](const Broadcast& t, Broadcast* own, const std::uint8_t* data) {
    if (own->batch > 1) own->batch = 1;
    return t.given && t.batch > 1 ? data + b * t.stride_batch : data;
  };
  x.mask = bytes(p.mask, &one.mask, x.mask);
  x.block_map = bytes(p.block_map, &one.block_map, x.block_map);
  if (p.alibi == Alibi::kPerBatchHead) x.alibi_slopes += b * p.q_heads;
  if (p.key_lengths) x.key_lengths += b;
  if (p.query_offsets) x.query_offsets += b;
  if (!p.cache.given) return;
  if (p.cache.new_len > 0) {
    x.k_new = BytesAt(x.k_new, b * p.k_new_strides.batch, p.dtype);
    x.v_new = BytesAt(x.v_new, b * p.v_new_strides.batch, p.dtype);
  }
  x.cache_seqlens += b;
  if (p.cache.leftpad) x.cache_leftpad += b;
  if (p.cache.batch_idx) x.cache_batch_idx += b;
  if (p.cache.blocks > 0) {
    x.block_table += b * p.cache.blocks;
  } else if (!p.cache.batch_idx) {
    // Entry 0 of one uses slot 0: name slot b instead.
    one.cache.batch_idx = true;
    x.cache_batch_idx = (alone->cu_q = {static_cast<std::int32_t>(at)}).data();
  }
}

}  // namespace heed::testing_options
