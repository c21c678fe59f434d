// backward_call.cpp: see backward_call.h.
#include "backward_call.h"

#include <cstdint>

#include "cases_data.h"
#include "verify/array.h"
#include "verify/layout.h"

namespace heed::testing_backward {
namespace {

using cases::Placement;
using verify::Guarded;
using verify::Role;

Strides StridesFor(Placement placement, const Problem& p, std::int64_t rows, std::int64_t heads,
                   std::int64_t width) {
  Strides s;
  if (placement == Placement::kHeadsFirst) s = {heads * rows * width, width, rows * width};
  if (placement == Placement::kPaddedRows) {
    const std::int64_t head = width + 3, row = heads * head + 5;
    s = {rows * row + 7, row, head};
  }
  if (placement == Placement::kPackedQkv) {  // a slice of three that lie side by side
    s = {rows * 3 * heads * width, 3 * heads * width, width};
  }
  if (p.ragged) s.batch = kPacked;
  return s;
}

void SetGradientStrides(Placement placement, Problem* p) {
  const std::int64_t hk = verify::KeyHeads(*p), dv = verify::DimV(*p);
  const std::int64_t sq = p->ragged ? p->total_q : p->q_len;
  const std::int64_t sk = p->ragged ? p->total_k : p->k_len;
  p->dout_strides = StridesFor(placement, *p, sq, p->q_heads, dv);
  p->dq_strides = StridesFor(placement, *p, sq, p->q_heads, p->dim);
  p->dk_strides = StridesFor(placement, *p, sk, hk, p->dim);
  p->dv_strides = StridesFor(placement, *p, sk, hk, dv);
}

}  // namespace

Problem Call::Forward() const {
  Problem p = problem;
  p.op = Op::kForward;
  p.dlse = p.want_dbias = p.want_dsinks = p.f32_grads = p.accumulate = false;
  return p;
}

Buffers Call::Inputs() {
  Buffers b = sample.Inputs();
  b.dout = dout.data();
  if (problem.dlse) b.dlse = dlse.data();
  return b;
}

Call MakeCall(const cases::Case& c, const Wishes& wishes) {
  Call call{.sample = cases::MakeSample(c), .problem = {}, .dout = {}, .dlse = {}};
  Problem& p = call.problem;
  p = call.sample.problem;
  p.op = Op::kBackward;
  p.want_lse = true;
  p.want_probs = false;
  p.dlse = wishes.dlse;
  p.want_dbias = wishes.dbias && p.bias.given;
  p.want_dsinks = wishes.dsinks && p.sinks;
  p.f32_grads = wishes.f32_grads;
  SetGradientStrides(wishes.placement, &p);
  call.dout = Guarded(verify::ViewOf(p, Role::kDout));
  void* dout = call.dout.data();
  const verify::View view = call.dout.view();
  for (std::int64_t n = 0; n < verify::CountOf(view.shape); ++n) {
    verify::Store(dout, p.dtype, verify::OffsetOf(view, n),
                  cases::Normal(cases::HashOf(c.seed + 77, {n})));
  }
  const std::int64_t rows = verify::CountOf(verify::ViewOf(p, Role::kDlse).shape);
  for (std::int64_t n = 0; p.dlse && n < rows; ++n) {
    call.dlse.push_back(static_cast<float>(cases::Normal(cases::HashOf(c.seed + 78, {n}))));
  }
  if (p.dlse && rows == 0) call.dlse.push_back(0);  // a pointer that is not null
  return call;
}

}  // namespace heed::testing_backward
