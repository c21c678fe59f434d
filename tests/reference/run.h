// run.h: one call of the reference on float64 tensors that it owns. Not here: expectations.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <vector>

#include "backend.h"
#include "problem/normal.h"
#include "problem/validate.h"

namespace heed {

using Doubles = std::vector<double>;
using Floats = std::vector<float>;

inline Status RunReference(const Problem& problem, const Buffers& buffers) {
  if (Status s = CheckProblem(problem); !s) return s;
  const Problem p = Normalize(problem);
  if (Status s = CheckBuffers(p, 0, buffers); !s) return s;
  const Tuning tuning = ReferenceBackend().Tune(p, {});
  return ReferenceBackend().Run(p, tuning, buffers);
}

// Numbers of a normal distribution, the same on every platform up to rounding.
inline Doubles Random(std::int64_t n, std::uint32_t seed) {
  std::mt19937 bits(seed);
  Doubles x(static_cast<std::size_t>(n));
  for (double& e : x) {
    e = -6;
    for (int t = 0; t < 12; t++) e += static_cast<double>(bits()) / 4294967296.0;
  }
  return x;
}

// A problem with tensors of its own. Inputs that stay empty are not given. Fill in, then call.
struct Call {
  Problem p;
  Doubles q, k, v, bias;
  std::vector<std::uint8_t> mask, block_map;
  Floats slopes, sinks;
  std::vector<std::int32_t> key_lengths, query_offsets, cu_q, cu_k;
  Doubles dout;
  Floats dlse;

  Doubles o, probs;
  Floats lse;
  Doubles dq, dk, dv, dbias;
  Floats dsinks;

  explicit Call(Problem problem) : p(problem) {
    p.dtype = DType::kF64;
    if (p.k_heads == 0) p.k_heads = p.q_heads;
    if (p.dim_v == 0) p.dim_v = p.dim;
    q = Random(queries() * p.q_heads * p.dim, 1);
    k = Random(keys() * p.k_heads * p.dim, 2);
    v = Random(keys() * p.k_heads * p.dim_v, 3);
    dout = Random(queries() * p.q_heads * p.dim_v, 4);
  }
  std::int64_t queries() const { return p.ragged ? p.total_q : p.batch * p.q_len; }
  std::int64_t keys() const { return p.ragged ? p.total_k : p.batch * p.k_len; }

  Buffers Inputs() {
    Buffers b;
    b.q = q.data(), b.k = k.data(), b.v = v.data();
    if (p.bias.given) b.bias = bias.data();
    if (p.mask.given) b.mask = mask.data();
    if (p.block_map.given) b.block_map = block_map.data();
    if (p.alibi != Alibi::kNone) b.alibi_slopes = slopes.data();
    if (p.sinks) b.sinks = sinks.data();
    if (p.key_lengths) b.key_lengths = key_lengths.data();
    if (p.query_offsets) b.query_offsets = query_offsets.data();
    if (p.ragged) b.cu_seqlens_q = cu_q.data(), b.cu_seqlens_k = cu_k.data();
    return b;
  }

  void Forward() {
    Problem forward = p;
    forward.op = Op::kForward;
    forward.want_lse = true;
    forward.want_dbias = forward.want_dsinks = forward.dlse = false;
    forward.accumulate = forward.f32_grads = false;
    o.assign(queries() * p.q_heads * p.dim_v, 77);
    lse.assign(queries() * p.q_heads, 77);
    Buffers b = Inputs();
    b.o = o.data(), b.lse = lse.data();
    if (p.want_probs) {
      probs.assign(p.batch * p.q_heads * p.q_len * p.k_len, 77);
      b.probs = probs.data();
    }
    const Status s = RunReference(forward, b);
    ASSERT_TRUE(s.ok()) << s.message();
  }

  // Gradients are written over what the vectors hold if they have the size already.
  void Backward() {
    Problem backward = p;
    backward.op = Op::kBackward;
    backward.want_probs = false;
    backward.want_dbias = p.bias.given;
    backward.want_dsinks = p.sinks;
    backward.dlse = !dlse.empty();
    dq.resize(q.size(), 77);
    dk.resize(k.size(), 77);
    dv.resize(v.size(), 77);
    dbias.resize(bias.size(), 77);
    dsinks.resize(sinks.size(), 77);
    Forward();
    Buffers b = Inputs();
    b.o = o.data(), b.lse = lse.data(), b.dout = dout.data();
    if (backward.dlse) b.dlse = dlse.data();
    b.dq = dq.data(), b.dk = dk.data(), b.dv = dv.data();
    if (backward.want_dbias) b.dbias = dbias.data();
    if (backward.want_dsinks) b.dsinks = dsinks.data();
    const Status s = RunReference(backward, b);
    ASSERT_TRUE(s.ok()) << s.message();
  }
};

}  // namespace heed
