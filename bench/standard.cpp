// bench/standard.cpp: S = scale Q K^T, P = softmax(mask(S)), O = P V, head by head. Not here: the
// backward's products (standard_backward.cpp), timing.
#include "bench/standard.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <span>

#include "bench/inputs.h"
#include "bench/machine.h"
#include "bench/standard_rows.h"

namespace heed::bench {
namespace {

Status Refuse(const std::string& why) {
  return {StatusCode::kRefused, "standard attention " + why};
}

Status Supported(const Problem& p) {
  if (p.ragged || p.cache.given || p.key_lengths || p.query_offsets || p.prefix > 0 ||
      p.chunk > 0 || p.softcap > 0 || p.alibi != Alibi::kNone || p.bias.given || p.mask.given ||
      p.block_map.given || p.sinks || p.dropout_p > 0 || p.dlse || p.accumulate) {
    return Refuse("here knows scale, alignment, causal and window, and none of the other options");
  }
  constexpr std::int64_t kMost = std::numeric_limits<int>::max();
  for (const std::int64_t n :
       {p.q_len, p.k_len, p.q_strides.row, p.k_strides.row, p.v_strides.row, p.q_heads * p.dim_v}) {
    if (n > kMost) return Refuse("passes sizes to OpenBLAS as 32-bit integers, which these exceed");
  }
  return {};
}

const Kernels* BestKernels() {
  for (const BackendInfo& backend : Backends()) {
    for (const IsaInfo& isa : backend.isas) {
      const Kernels* kernels = isa.usable ? KernelsOf(isa.name.c_str()) : nullptr;
      if (kernels != nullptr) return kernels;
    }
  }
  return KernelsOf("scalar");
}

}  // namespace

float* Standard::Take(std::int64_t floats) {
  memory_.emplace_back();
  memory_.back().resize(static_cast<std::size_t>(std::max<std::int64_t>(floats, 16)) * 4);
  bytes_ += static_cast<std::int64_t>(memory_.back().size());
  return reinterpret_cast<float*>(memory_.back().data());
}

Standard::Source Standard::Floats(const void* data, std::int64_t rows, std::int64_t heads,
                                  std::int64_t width, const Strides& strides) {
  // BLAS wants rows that do not overlap and go forward; anything else is copied like 16-bit inputs.
  if (problem_.dtype == DType::kF32 && strides.row >= width) {
    return {static_cast<const float*>(data), strides};
  }
  Source copy{nullptr, {rows * heads * width, heads * width, width}};
  float* to = Take(problem_.batch * copy.strides.batch);
  copy.data = to;
  for (std::int64_t b = 0; b < problem_.batch; ++b) {
    for (std::int64_t s = 0; s < rows; ++s) {
      for (std::int64_t h = 0; h < heads; ++h) {
        const std::int64_t from = b * strides.batch + s * strides.row + h * strides.head;
        for (std::int64_t d = 0; d < width; ++d) {
          *to++ = static_cast<float>(StandardValue(data, problem_.dtype, from + d));
        }
      }
    }
  }
  return copy;
}

Result<std::unique_ptr<Standard>> Standard::Make(const StandardCall& call) {
  const Problem& problem = call.problem;
  if (Status status = Supported(problem); !status) return status;
  const Result<const Blas*> blas = Blas::Load(call.threads);
  if (!blas) return blas.status();
  auto standard = std::make_unique<Standard>();
  Standard& s = *standard;
  s.problem_ = problem;
  s.buffers_ = call.buffers;
  s.blas_ = *blas;
  s.kernels_ = BestKernels();
  s.threads_ = std::max(1, call.threads);
  s.with_forward_ = call.with_forward;
  s.row_ = (problem.k_len + kRowFloats - 1) / kRowFloats * kRowFloats;
  const std::int64_t kept = s.backward() ? problem.batch * problem.q_heads : 1;
  const double need = 4.0 * static_cast<double>(problem.q_len) * static_cast<double>(s.row_) *
                      static_cast<double>(kept + (s.backward() ? 1 : 0));
  const auto too_much = [&] {
    return Refuse("would hold " + std::to_string(static_cast<std::int64_t>(need / 1e6)) +
                  " MB of scores, more than this machine has free");
  };
  const auto free = static_cast<double>(AvailableMemory());
  if (free > 0 && need > 0.8 * free) return too_much();
  try {
    const std::int64_t queries = problem.batch * problem.q_len * problem.q_heads;
    const std::int64_t keys = problem.batch * problem.k_len * problem.k_heads;
    s.q_ = s.Floats(call.buffers.q, problem.q_len, problem.q_heads, problem.dim, problem.q_strides);
    s.k_ = s.Floats(call.buffers.k, problem.k_len, problem.k_heads, problem.dim, problem.k_strides);
    s.v_ =
        s.Floats(call.buffers.v, problem.k_len, problem.k_heads, problem.dim_v, problem.v_strides);
    s.scores_ = s.Take(kept * problem.q_len * s.row_);
    s.out_ = s.Take(queries * problem.dim_v);
    if (s.backward()) {
      s.dout_ = s.Floats(call.buffers.dout, problem.q_len, problem.q_heads, problem.dim_v,
                         problem.dout_strides);
      s.dscores_ = s.Take(problem.q_len * s.row_);
      s.dq_ = s.Take(queries * problem.dim);
      s.dk_ = s.Take(keys * problem.dim);
      s.dv_ = s.Take(keys * problem.dim_v);
      for (std::int64_t b = 0; b < problem.batch; ++b) {
        for (std::int64_t h = 0; h < problem.q_heads; ++h) s.Forward(b, h);
      }
    }
  } catch (const std::bad_alloc&) {
    return too_much();
  }
  return standard;
}

void Standard::Softmax(float* scores, std::int64_t first_row, std::int64_t rows) const {
  const Problem& p = problem_;
  const std::int64_t shift = p.align == Align::kTopLeft  ? 0
                             : p.align == Align::kOffset ? p.query_offset.value_or(0)
                                                         : p.k_len - p.q_len;
  const std::int64_t right = p.causal ? 0 : p.window_right;
  for (std::int64_t i = first_row; i < first_row + rows; ++i) {
    const std::int64_t first = p.window_left < 0 ? 0 : i + shift - p.window_left;
    const std::int64_t last = right < 0 ? p.k_len : std::min(p.k_len, i + shift + right + 1);
    kernels_->softmax(scores + i * row_, row_, std::max<std::int64_t>(first, 0), last);
  }
}

void Standard::Forward(std::int64_t b, std::int64_t h) {
  const Problem& p = problem_;
  if (p.q_len == 0 || p.k_len == 0) return;  // out_ starts as zeros
  const std::int64_t group = p.q_heads / std::max<std::int64_t>(p.k_heads, 1);
  float* scores = ScoresOf(b, h);
  blas_->Multiply(
      {.a = At(q_, b, h),
       .b = At(k_, b, h / group),
       .c = scores,
       .m = p.q_len,
       .n = p.k_len,
       .k = p.dim,
       .lda = q_.strides.row,
       .ldb = k_.strides.row,
       .ldc = row_,
       .transpose_b = true,
       .alpha = static_cast<float>(p.scale.value_or(1 / std::sqrt(static_cast<double>(p.dim))))});
  EachRow([&](std::int64_t first, std::int64_t rows) { Softmax(scores, first, rows); });
  blas_->Multiply({.a = scores,
                   .b = At(v_, b, h / group),
                   .c = out_ + (b * p.q_len * p.q_heads + h) * p.dim_v,
                   .m = p.q_len,
                   .n = p.dim_v,
                   .k = p.k_len,
                   .lda = row_,
                   .ldb = v_.strides.row,
                   .ldc = p.q_heads * p.dim_v});
}

void Standard::Run() {
  for (std::int64_t b = 0; b < problem_.batch; ++b) {
    for (std::int64_t h = 0; h < problem_.q_heads; ++h) {
      if (!backward() || with_forward_) Forward(b, h);
      if (backward()) Backward(b, h);
    }
  }
}

}  // namespace heed::bench
