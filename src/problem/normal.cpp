// normal.cpp: Normalize and VisibilityOf. Not here: rules (validate.cpp); every problem that comes
// here passed them.
#include "problem/normal.h"

#include <cmath>

#include "problem/layout.h"

namespace heed {

Problem Normalize(const Problem& problem) {
  Problem p = problem;
  p.k_heads = KeyHeads(problem);
  p.dim_v = DimV(problem);
  p.k_len = KeyLength(problem);
  if (!p.scale) p.scale = 1.0 / std::sqrt(static_cast<double>(p.dim));
  p.out_dtype = OutDType(problem);
  if (p.causal) p.window_right = 0;
  // A bound that no pair can reach is none, and the same for a chunk: sums with it cannot overflow.
  if (p.window_left >= kFar) p.window_left = -1;
  if (p.window_right >= kFar) p.window_right = -1;
  if (p.chunk > kFar) p.chunk = kFar;

  constexpr Strides Problem::*kAll[] = {&Problem::q_strides,     &Problem::k_strides,
                                        &Problem::v_strides,     &Problem::o_strides,
                                        &Problem::k_new_strides, &Problem::v_new_strides,
                                        &Problem::dout_strides,  &Problem::dq_strides,
                                        &Problem::dk_strides,    &Problem::dv_strides};
  for (const auto strides : kAll) p.*strides = {0, 0, 0};
  ForEachSequence(problem, [&](const Sequence& s) {
    View view = ViewOf(problem, s);
    Resolve(&view);
    p.*s.strides = {view.axes[1].stride, view.axes[2].stride, view.axes[3].stride};
    return true;
  });
  ForEachBroadcast(problem, [&](const BroadcastUse& use) {
    View view = ViewOf(problem.*use.tensor);
    Resolve(&view);
    Broadcast& t = p.*use.tensor;
    t.stride_batch = view.axes[0].stride;
    t.stride_head = view.axes[1].stride;
    t.stride_row = view.axes[2].stride;
    t.stride_col = view.axes[3].stride;
    return true;
  });
  return p;
}

Visibility VisibilityOf(const Problem& problem, std::int64_t sq, std::int64_t sk,
                        std::int64_t query_offset) {
  Visibility v;
  v.sq = sq;
  v.sk = sk;
  v.shift = problem.align == Align::kBottomRight ? sk - sq
            : problem.align == Align::kTopLeft   ? 0
                                                 : query_offset;
  v.left = problem.window_left;
  v.right = problem.window_right;
  v.prefix = problem.prefix;
  v.chunk = problem.chunk;
  return v;
}

}  // namespace heed
