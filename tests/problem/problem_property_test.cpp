// problem_property_test.cpp: of random problems: each is valid or answered with a sentence, and
// what is valid can be planned.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <random>

#include "problem/geometry.h"
#include "problem/layout.h"
#include "problem/normal.h"
#include "problem/validate.h"
#include "wild_problem.h"

namespace heed {
namespace {

Problem AnyProblem() {
  std::mt19937_64 numbers(*rc::gen::arbitrary<std::uint64_t>());
  return WildProblem([&] { return numbers(); }).Draw();
}

bool Same(const Strides& a, const Strides& b) {
  return a.batch == b.batch && a.row == b.row && a.head == b.head;
}
bool Same(const Broadcast& a, const Broadcast& b) {
  return a.stride_batch == b.stride_batch && a.stride_head == b.stride_head &&
         a.stride_row == b.stride_row && a.stride_col == b.stride_col;
}
// In every field that Normalize may fill in.
bool Same(const Problem& a, const Problem& b) {
  for (const auto strides :
       {&Problem::q_strides, &Problem::k_strides, &Problem::v_strides, &Problem::o_strides,
        &Problem::k_new_strides, &Problem::v_new_strides, &Problem::dout_strides,
        &Problem::dq_strides, &Problem::dk_strides, &Problem::dv_strides}) {
    if (!Same(a.*strides, b.*strides)) return false;
  }
  return a.k_heads == b.k_heads && a.dim_v == b.dim_v && a.k_len == b.k_len && a.scale == b.scale &&
         a.out_dtype == b.out_dtype && a.window_left == b.window_left &&
         a.window_right == b.window_right && a.chunk == b.chunk && Same(a.bias, b.bias) &&
         Same(a.mask, b.mask) && Same(a.block_map, b.block_map);
}

RC_GTEST_PROP(AnyProblem, IsValidOrGetsASentence, ()) {
  const Problem p = AnyProblem();
  const Status status = Validate(p);
  RC_CLASSIFY(status.ok(), "valid");
  if (status) {
    RC_ASSERT(status.message().empty());
  } else {
    RC_ASSERT(status.code() == StatusCode::kInvalid);
    RC_ASSERT(status.message().size() > 20u);
  }
}

RC_GTEST_PROP(AnyProblem, NormalFormIsValidAndItsOwn, ()) {
  const Problem p = AnyProblem();
  RC_PRE(Validate(p).ok());
  const Problem n = Normalize(p);
  const Status status = Validate(n);
  if (!status) RC_FAIL(status.message());
  RC_ASSERT(Same(n, Normalize(n)));
  // Every stride is a number, and no axis of size 1 has one.
  ForEachSequence(n, [&](const Sequence& s) {
    for (const Axis& axis : ViewOf(n, s).axes) {
      RC_ASSERT(axis.stride != kPacked);
      RC_ASSERT(axis.size != 1 || axis.stride == 0);
    }
    return true;
  });
}

RC_GTEST_PROP(AnyProblem, BuffersThatAreNotThereGetASentence, ()) {
  const Problem p = AnyProblem();
  RC_PRE(Validate(p).ok());
  const Problem n = Normalize(p);
  const Status status = CheckBuffers(n, 0, {});
  RC_ASSERT(status.ok() || status.code() == StatusCode::kBuffers);
  RC_ASSERT(status.ok() == status.message().empty());
}

RC_GTEST_PROP(AnyProblem, WorkIsCounted, ()) {
  const Problem p = AnyProblem();
  RC_PRE(Validate(p).ok());
  const Problem n = Normalize(p);
  RC_PRE(n.q_len < 5000);
  const Work work = CountWork(n, 3, 7);
  RC_ASSERT(work.pairs >= 0);
  RC_ASSERT(work.pairs <= work.dense_pairs);
  RC_ASSERT(work.tiles.full >= 0);
  RC_ASSERT(work.tiles.edge >= 0);
  RC_ASSERT(work.tiles.empty >= 0);
  RC_ASSERT(work.pairs <= 21 * (work.tiles.full + work.tiles.edge));
}

}  // namespace
}  // namespace heed
