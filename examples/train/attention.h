// attention.h: heed's part of the model: causal grouped-query attention, forward and backward, from
// plans that are made once. Not here: projections.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include <heed/heed.h>

namespace train {

class Attention {
 public:
  struct Sizes {
    int batch, length, heads, kv_heads, dim;
  };

  static heed::Result<Attention> Make(const Sizes& sizes, const heed::PlanOptions& options) {
    // One Problem serves both directions.
    heed::Problem p{.batch = sizes.batch, .q_len = sizes.length, .k_len = sizes.length,
                    .q_heads = sizes.heads, .k_heads = sizes.kv_heads, .dim = sizes.dim,
                    .causal = true, .want_lse = true};
    const heed::Result<heed::Plan> forward = heed::MakePlan(p, options);
    if (!forward) return forward.status();
    p.op = heed::Op::kBackward;
    const heed::Result<heed::Plan> backward = heed::MakePlan(p, options);
    if (!backward) return backward.status();
    Attention a;
    a.forward_ = *forward;
    a.backward_ = *backward;
    // One call runs at a time, so they share their scratch memory.
    a.workspace_.resize(static_cast<std::size_t>(
        std::max(a.forward_.workspace_bytes(), a.backward_.workspace_bytes())));
    return a;
  }

  // o and lse from q, k, v; the backward needs both again.
  heed::Status Forward(const float* q, const float* k, const float* v, float* o, float* lse) {
    return heed::Run(forward_, {.q = q, .k = k, .v = v, .o = o, .lse = lse, .workspace = workspace_});
  }

  heed::Status Backward(const heed::Buffers& inputs, const float* dout, float* dq, float* dk, float* dv) {
    heed::Buffers b = inputs;  // q, k, v, o, lse
    b.dout = dout;
    b.dq = dq;
    b.dk = dk;
    b.dv = dv;
    b.workspace = workspace_;
    return heed::Run(backward_, b);
  }

  const heed::Plan& backward() const { return backward_; }

 private:
  heed::Plan forward_, backward_;
  std::vector<std::byte> workspace_;
};

}  // namespace train
