// backward_refusal_test.cpp: backward calls that are wrong: a sentence that names the field, and no
// gradient touched. Not here: every message (tests/problem).
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "backward_testing.h"

namespace heed::testing_backward {
namespace {

// A ragged batch with everything that has a gradient; all gradients lie in one piece of memory.
struct Wrong {
  cases::Case c;
  Call call;
  Buffers buffers;
  std::vector<float> o, lse, gradients;
  std::vector<std::byte> workspace;

  static cases::Case Plain() {
    cases::Case c;
    c.problem = {.batch = 2, .q_len = 9, .k_len = 17, .q_heads = 2, .dim = 8, .want_lse = true};
    c.problem.bias = {.given = true, .rows = 9, .cols = 17};
    c.problem.sinks = true;
    c.problem.key_lengths = true;
    return c;
  }

  explicit Wrong(const Engine& engine)
      : c(Plain()),
        call(MakeCall(c, {.dlse = true, .dbias = true, .dsinks = true})),
        o(2 * 9 * 2 * 8, 0.5f),
        lse(2 * 2 * 9, 1.f),
        gradients(288 + 544 + 544 + 153 + 2, 77.f) {
    const Result<Plan> plan =
        MakePlan(call.problem, {.backend = engine.backend, .isa = engine.isa, .threads = 1});
    EXPECT_TRUE(plan) << plan.status().message();
    workspace.resize(static_cast<std::size_t>(plan ? plan->workspace_bytes() : 0) + 1);
    buffers = call.Inputs();
    buffers.o = o.data();
    buffers.lse = lse.data();
    float* at = gradients.data();
    buffers.dq = at;
    buffers.dk = at += 288;
    buffers.dv = at += 544;
    buffers.dbias = at += 544;
    buffers.dsinks = at += 153;
    buffers.workspace = workspace;
  }
};

class BackwardRefusal : public testing::TestWithParam<Engine> {};

TEST_P(BackwardRefusal, NamesTheFieldAndWritesNothing) {
  struct Row {
    const char* says;
    std::function<void(Wrong*)> breaks;
    bool in_array = false;  // which a kernel brings into range, where it lies on a device
  };
  const Row rows[] = {
      {"lse is null", [](Wrong* w) { w->buffers.lse = nullptr; }},
      {"o is null", [](Wrong* w) { w->buffers.o = nullptr; }},
      {"dout is null", [](Wrong* w) { w->buffers.dout = nullptr; }},
      {"dlse is null", [](Wrong* w) { w->buffers.dlse = nullptr; }},
      {"dq is null", [](Wrong* w) { w->buffers.dq = nullptr; }},
      {"dbias is null", [](Wrong* w) { w->buffers.dbias = nullptr; }},
      {"dq", [](Wrong* w) { w->buffers.dq = const_cast<void*>(w->buffers.q); }},
      {"dk", [](Wrong* w) { w->buffers.dk = static_cast<float*>(w->buffers.dq) + 100; }},
      {"dv", [](Wrong* w) { w->buffers.dv = const_cast<void*>(w->buffers.dout); }},
      {"dbias", [](Wrong* w) { w->buffers.dbias = w->buffers.lse; }},
      {"dsinks", [](Wrong* w) { w->buffers.dsinks = static_cast<float*>(w->buffers.dbias) + 3; }},
      {"dq", [](Wrong* w) { w->buffers.dq = static_cast<std::byte*>(w->buffers.dq) + 1; }},
      {"key_lengths", [](Wrong* w) { w->call.sample.key_lengths[1] = 18; }, true},
      {"key_lengths", [](Wrong* w) { w->call.sample.key_lengths[0] = -1; }, true},
      {"probs is given", [](Wrong* w) { w->buffers.probs = w->o.data(); }},
  };
  for (const Row& row : rows) {
    if (row.in_array && GetParam().backend == "cuda") continue;
    SCOPED_TRACE(row.says);
    Wrong w(GetParam());
    row.breaks(&w);
    const std::vector<float> o = w.o, lse = w.lse;
    const Status status =
        Backward(w.call.problem, w.buffers,
                 {.backend = GetParam().backend, .isa = GetParam().isa, .threads = 1});
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.message().find(row.says), std::string::npos) << status.message();
    EXPECT_TRUE(w.o == o && w.lse == lse) << "an input changed";
    for (const float x : w.gradients) ASSERT_EQ(x, 77.f) << "a gradient was written";
  }
  Wrong right(GetParam());  // the call itself is one that is served
  const Status status =
      Backward(right.call.problem, right.buffers,
               {.backend = GetParam().backend, .isa = GetParam().isa, .threads = 1});
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_P(BackwardRefusal, ProblemsThatNoPlanIsMadeOf) {
  struct Row {
    const char* says;
    std::function<void(Problem*)> breaks;
  };
  const Row rows[] = {
      {"there is no bias to have a gradient", [](Problem* p) { p->bias = {}; }},
      {"there are no sinks to have a gradient", [](Problem* p) { p->sinks = false; }},
      {"dq_strides", [](Problem* p) { p->dq_strides.row = 7; }},
      {"dk_strides", [](Problem* p) { p->dk_strides.batch = 0; }},
      {"dv_strides", [](Problem* p) { p->dv_strides.head = -8; }},
      {"want_probs", [](Problem* p) { p->want_probs = true; }},
  };
  for (const Row& row : rows) {
    Problem p = Wrong(GetParam()).call.problem;
    row.breaks(&p);
    const Result<Plan> plan = MakePlan(p, {.backend = GetParam().backend, .isa = GetParam().isa});
    EXPECT_FALSE(plan);
    EXPECT_NE(plan.status().message().find(row.says), std::string::npos)
        << row.says << ": " << plan.status().message();
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, BackwardRefusal, testing::ValuesIn(Engines()),
                         [](const auto& test) { return test.param.name(); });

}  // namespace
}  // namespace heed::testing_backward
