// bench/standard_backward.cpp: dV = P^T dO, dP = dO V^T, dS = P (dP - rowsum(P dP)), dQ = scale dS K,
// dK = scale dS^T Q, head by head; and how far two sets of results are apart. Not here: timing.
#include <algorithm>
#include <cmath>

#include "bench/standard_rows.h"
#include "io/convert.h"

namespace heed::bench {

double StandardValue(const void* data, DType dtype, std::int64_t i) {
  switch (dtype) {
    case DType::kBF16:
      return io::ToFloat(static_cast<const io::Bf16*>(data)[i]);
    case DType::kF16:
      return io::ToFloat(static_cast<const io::F16*>(data)[i]);
    case DType::kF64:
      return static_cast<const double*>(data)[i];
    case DType::kF32:
      break;
  }
  return static_cast<const float*>(data)[i];
}

void Standard::Backward(std::int64_t b, std::int64_t h) {
  const Problem& p = problem_;
  if (p.q_len == 0 || p.k_len == 0) return;  // the gradients start as zeros
  const std::int64_t group = p.q_heads / std::max<std::int64_t>(p.k_heads, 1), hk = h / group;
  const float* probs = ScoresOf(b, h);
  const float scale =
      static_cast<float>(p.scale.value_or(1 / std::sqrt(static_cast<double>(p.dim))));
  const float beta = h % group == 0 ? 0 : 1;  // heads of a group add up
  float* const dk = dk_ + (b * p.k_len * p.k_heads + hk) * p.dim;
  float* const dv = dv_ + (b * p.k_len * p.k_heads + hk) * p.dim_v;
  blas_->Multiply({.a = probs,
                   .b = At(dout_, b, h),
                   .c = dv,
                   .m = p.k_len,
                   .n = p.dim_v,
                   .k = p.q_len,
                   .lda = row_,
                   .ldb = dout_.strides.row,
                   .ldc = p.k_heads * p.dim_v,
                   .transpose_a = true,
                   .beta = beta});
  blas_->Multiply({.a = At(dout_, b, h),
                   .b = At(v_, b, hk),
                   .c = dscores_,
                   .m = p.q_len,
                   .n = p.k_len,
                   .k = p.dim_v,
                   .lda = dout_.strides.row,
                   .ldb = v_.strides.row,
                   .ldc = row_,
                   .transpose_b = true});
  EachRow([&](std::int64_t first, std::int64_t rows) {
    for (std::int64_t i = first; i < first + rows; ++i) {
      kernels_->softmax_backward(probs + i * row_, dscores_ + i * row_, row_);
    }
  });
  blas_->Multiply({.a = dscores_,
                   .b = At(k_, b, hk),
                   .c = dq_ + (b * p.q_len * p.q_heads + h) * p.dim,
                   .m = p.q_len,
                   .n = p.dim,
                   .k = p.k_len,
                   .lda = row_,
                   .ldb = k_.strides.row,
                   .ldc = p.q_heads * p.dim,
                   .alpha = scale});
  blas_->Multiply({.a = dscores_,
                   .b = At(q_, b, h),
                   .c = dk,
                   .m = p.k_len,
                   .n = p.dim,
                   .k = p.q_len,
                   .lda = row_,
                   .ldb = q_.strides.row,
                   .ldc = p.k_heads * p.dim,
                   .transpose_a = true,
                   .alpha = scale,
                   .beta = beta});
}

double Standard::MaxAbsDifference() const {
  const Problem& p = problem_;
  double worst = 0;
  const auto compare = [&](const float* mine, const void* data, DType dtype, std::int64_t rows,
                           std::int64_t heads, std::int64_t width, const Strides& strides) {
    for (std::int64_t b = 0; b < p.batch; ++b) {
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t h = 0; h < heads; ++h) {
          const std::int64_t at = b * strides.batch + i * strides.row + h * strides.head;
          for (std::int64_t d = 0; d < width; ++d) {
            const double difference = std::fabs(StandardValue(data, dtype, at + d) - *mine++);
            // Written so that NaN wins and stays.
            if (!(difference <= worst) && !std::isnan(worst)) worst = difference;
          }
        }
      }
    }
  };
  if (!backward()) {
    compare(out_, buffers_.o, p.out_dtype.value_or(p.dtype), p.q_len, p.q_heads, p.dim_v,
            p.o_strides);
    return worst;
  }
  const DType grads = p.f32_grads ? DType::kF32 : p.dtype;
  compare(dq_, buffers_.dq, grads, p.q_len, p.q_heads, p.dim, p.dq_strides);
  compare(dk_, buffers_.dk, grads, p.k_len, p.k_heads, p.dim, p.dk_strides);
  compare(dv_, buffers_.dv, grads, p.k_len, p.k_heads, p.dim_v, p.dv_strides);
  return worst;
}

}  // namespace heed::bench
