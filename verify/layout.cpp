// verify/layout.cpp: see layout.h.
#include "verify/layout.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <utility>
#include <vector>

namespace heed::verify {
namespace {

using Shape = std::vector<std::int64_t>;

View Resolve(View view) {
  std::int64_t inside = 1;
  for (std::size_t axis = view.shape.size(); axis-- > 0;) {
    std::int64_t& stride = view.strides[axis];
    if (stride == kPacked) stride = inside;
    if (view.shape[axis] == 1) stride = 0;
    inside = std::max(inside, view.shape[axis] * std::abs(stride));
  }
  return view;
}

View Dense(Shape shape, DType type, const void* data) {
  const std::size_t rank = shape.size();
  return Resolve({data, type, std::move(shape), Shape(rank, kPacked)});
}

// (batch, rows, heads, width), without the batch axis where the tensor is ragged.
View Rows(bool ragged, Shape shape, const Strides& s, DType type, const void* data) {
  Shape strides = {s.batch, s.row, s.head, 1};
  if (ragged) {
    shape.erase(shape.begin());
    strides.erase(strides.begin());
  }
  return Resolve({data, type, std::move(shape), std::move(strides)});
}

View Spread(const Broadcast& t, DType type, const void* data) {
  return Resolve({data,
                  type,
                  {t.batch, t.heads, t.rows, t.cols},
                  {t.stride_batch, t.stride_head, t.stride_row, t.stride_col}});
}

}  // namespace

const char* Name(Role role) {
  constexpr const char* kNames[] = {
      "q",     "k",     "v",          "o",          "lse",  "probs", "k_cache",   "v_cache",
      "k_new", "v_new", "rotary_cos", "rotary_sin", "bias", "mask",  "block_map", "alibi_slopes",
      "sinks", "dout",  "dlse",       "dq",         "dk",   "dv",    "dbias",     "dsinks"};
  return kNames[static_cast<int>(role)];
}

std::int64_t KeyHeads(const Problem& p) { return p.k_heads == 0 ? p.q_heads : p.k_heads; }
std::int64_t DimV(const Problem& p) { return p.dim_v == 0 ? p.dim : p.dim_v; }
double ScaleOf(const Problem& p) {
  return p.scale ? *p.scale : 1.0 / std::sqrt(static_cast<double>(p.dim));
}
DType OutDType(const Problem& p) { return p.out_dtype.value_or(p.dtype); }
DType GradDType(const Problem& p) { return p.f32_grads ? DType::kF32 : p.dtype; }

View ViewOf(const Problem& p, Role role, const void* data) {
  const std::int64_t b = p.batch, hq = p.q_heads, hk = KeyHeads(p), d = p.dim, dv = DimV(p);
  const std::int64_t sq = p.ragged ? p.total_q : p.q_len, sk = p.ragged ? p.total_k : p.k_len;
  const Cache& c = p.cache;
  const DType grad = GradDType(p);
  switch (role) {
    case Role::kQ:
      return Rows(p.ragged, {b, sq, hq, d}, p.q_strides, p.dtype, data);
    case Role::kK:
      return Rows(p.ragged, {b, sk, hk, d}, p.k_strides, p.dtype, data);
    case Role::kV:
      return Rows(p.ragged, {b, sk, hk, dv}, p.v_strides, p.dtype, data);
    case Role::kO:
      return Rows(p.ragged, {b, sq, hq, dv}, p.o_strides, OutDType(p), data);
    case Role::kDout:
      return Rows(p.ragged, {b, sq, hq, dv}, p.dout_strides, p.dtype, data);
    case Role::kDq:
      return Rows(p.ragged, {b, sq, hq, d}, p.dq_strides, grad, data);
    case Role::kDk:
      return Rows(p.ragged, {b, sk, hk, d}, p.dk_strides, grad, data);
    case Role::kDv:
      return Rows(p.ragged, {b, sk, hk, dv}, p.dv_strides, grad, data);
    case Role::kLse:
    case Role::kDlse:
      return Dense(p.ragged ? Shape{hq, sq} : Shape{b, hq, sq}, DType::kF32, data);
    case Role::kProbs:
      return Dense({b, hq, p.q_len, p.k_len}, OutDType(p), data);
    case Role::kKCache:
      return Rows(false, {c.slots, c.rows, hk, d}, p.k_strides, p.dtype, data);
    case Role::kVCache:
      return Rows(false, {c.slots, c.rows, hk, dv}, p.v_strides, p.dtype, data);
    case Role::kKNew:
      return Rows(false, {b, c.new_len, hk, d}, p.k_new_strides, p.dtype, data);
    case Role::kVNew:
      return Rows(false, {b, c.new_len, hk, dv}, p.v_new_strides, p.dtype, data);
    case Role::kRotaryCos:
    case Role::kRotarySin:
      return Dense({c.rotary_rows, c.rotary_dim / 2}, p.dtype, data);
    case Role::kBias:
      return Spread(p.bias, p.bias_dtype, data);
    case Role::kMask:
      return Spread(p.mask, DType::kF32, data);
    case Role::kBlockMap:
      return Spread(p.block_map, DType::kF32, data);
    case Role::kDbias:
      return Dense({p.bias.batch, p.bias.heads, p.bias.rows, p.bias.cols},
                   p.f32_grads ? DType::kF32 : p.bias_dtype, data);
    case Role::kSlopes:
      return Dense(p.alibi == Alibi::kPerBatchHead ? Shape{b, hq} : Shape{hq}, DType::kF32, data);
    case Role::kSinks:
    case Role::kDsinks:
      break;
  }
  return Dense({hq}, DType::kF32, data);
}

}  // namespace heed::verify
