// bench/inputs.cpp: noise in the shapes and strides of a Problem. Not here: files, timing.
#include "bench/inputs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <span>

#include "bench/machine.h"
#include "io/convert.h"

namespace heed::bench {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): every seed gives a good stream, and it is two lines.
std::uint64_t Next(std::uint64_t* state) {
  std::uint64_t z = (*state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void FillDType(DType dtype, std::byte* out, std::int64_t count, std::uint64_t seed) {
  const auto n = static_cast<std::size_t>(count);
  if (dtype == DType::kF32) {
    FillNormal(reinterpret_cast<float*>(out), count, seed);
    return;
  }
  std::vector<float> values(n);
  FillNormal(values.data(), count, seed);
  const std::span<const float> from(values);
  if (dtype == DType::kBF16) {
    io::RoundAll<io::Bf16, float>(from, {reinterpret_cast<io::Bf16*>(out), n});
  } else if (dtype == DType::kF16) {
    io::RoundAll<io::F16, float>(from, {reinterpret_cast<io::F16*>(out), n});
  } else {
    io::RoundAll<double, float>(from, {reinterpret_cast<double*>(out), n});
  }
}

Extent ExtentOf(const Broadcast& b) {
  Extent e{0, 1};
  const std::int64_t sizes[4] = {b.batch, b.heads, b.rows, b.cols};
  const std::int64_t strides[4] = {b.stride_batch, b.stride_head, b.stride_row, b.stride_col};
  for (int i = 0; i < 4; ++i) {
    if (sizes[i] == 0) return {0, 0};
    const std::int64_t reach = (sizes[i] - 1) * strides[i];
    e.elements += std::abs(reach);
    e.low += std::min<std::int64_t>(reach, 0);
  }
  return e;
}

}  // namespace

void FillNormal(float* out, std::int64_t count, std::uint64_t seed) {
  std::uint64_t state = seed;
  for (std::int64_t i = 0; i < count; i += 2) {
    // Box and Muller: two uniforms in (0, 1], two normals.
    const double u = (static_cast<double>(Next(&state) >> 11) + 1) * 0x1p-53;
    const double w = static_cast<double>(Next(&state) >> 11) * 0x1p-53 * 6.283185307179586;
    const double radius = std::sqrt(-2 * std::log(u));
    out[i] = static_cast<float>(radius * std::cos(w));
    if (i + 1 < count) out[i + 1] = static_cast<float>(radius * std::sin(w));
  }
}

Extent ExtentOf(std::int64_t batch, std::int64_t rows, std::int64_t heads, std::int64_t width,
                const Strides& strides) {
  if (batch == 0 || rows == 0 || heads == 0 || width == 0) return {0, 0};
  Extent e{0, width};
  for (const std::int64_t reach :
       {(batch - 1) * strides.batch, (rows - 1) * strides.row, (heads - 1) * strides.head}) {
    e.elements += std::abs(reach);
    e.low += std::min<std::int64_t>(reach, 0);
  }
  return e;
}

void* Inputs::Take(std::int64_t bytes) {
  memory_.emplace_back();
  // Never empty: a null pointer would say "not given" even where a tensor has no elements.
  memory_.back().resize(static_cast<std::size_t>(std::max<std::int64_t>(bytes, 64)));
  return memory_.back().data();
}

void* Inputs::Noise(DType dtype, const Extent& extent, std::uint64_t seed) {
  auto* base = static_cast<std::byte*>(Take(extent.elements * SizeOf(dtype)));
  FillDType(dtype, base, extent.elements, seed);
  return base - extent.low * SizeOf(dtype);
}

void* Inputs::Blank(DType dtype, const Extent& extent) {
  const std::int64_t bytes = extent.elements * SizeOf(dtype);
  auto* base = static_cast<std::byte*>(Take(bytes));
  // All bits set is a NaN in every floating type.
  std::fill(base, base + bytes, std::byte{0xFF});
  return base - extent.low * SizeOf(dtype);
}

void Inputs::FillScoreTerms(std::uint64_t seed) {
  const Problem& p = problem_;
  if (p.alibi != Alibi::kNone) {
    const std::int64_t count = p.q_heads * (p.alibi == Alibi::kPerBatchHead ? p.batch : 1);
    auto* slopes = static_cast<float*>(Take(count * 4));
    for (std::int64_t i = 0; i < count; ++i) {
      slopes[i] =
          std::exp2(-8.f * static_cast<float>(i % p.q_heads + 1) / static_cast<float>(p.q_heads));
    }
    buffers_.alibi_slopes = slopes;
  }
  if (p.bias.given) buffers_.bias = Noise(p.bias_dtype, ExtentOf(p.bias), seed + 4);
  const auto coin_flips = [&](const Broadcast& shape, std::uint64_t state) {
    const Extent e = ExtentOf(shape);
    auto* flags = static_cast<std::uint8_t*>(Take(e.elements));
    for (std::int64_t i = 0; i < e.elements; ++i) flags[i] = Next(&state) & 1;
    return flags - e.low;
  };
  if (p.mask.given) buffers_.mask = coin_flips(p.mask, seed + 5);
  if (p.block_map.given) buffers_.block_map = coin_flips(p.block_map, seed + 6);
  if (p.sinks) buffers_.sinks = static_cast<float*>(Noise(DType::kF32, {0, p.q_heads}, seed + 7));
  const auto one_per_entry = [&](std::int64_t value) {
    auto* array = static_cast<std::int32_t*>(Take(p.batch * 4));
    std::fill(array, array + p.batch, static_cast<std::int32_t>(value));
    return array;
  };
  if (p.key_lengths) buffers_.key_lengths = one_per_entry(p.k_len);
  if (p.query_offsets) buffers_.query_offsets = one_per_entry(p.k_len - p.q_len);
}

void Inputs::FillBackward(std::uint64_t seed) {
  const Problem& p = problem_;
  const DType grad = p.f32_grads ? DType::kF32 : p.dtype;
  const Extent rows{0, p.batch * p.q_heads * p.q_len};
  const auto extent = [&](std::int64_t len, std::int64_t heads, std::int64_t width,
                          const Strides& s) {
    return bench::ExtentOf(p.batch, len, heads, width, s);
  };
  buffers_.dout = Noise(p.dtype, extent(p.q_len, p.q_heads, p.dim_v, p.dout_strides), seed + 8);
  if (p.dlse) buffers_.dlse = static_cast<float*>(Noise(DType::kF32, rows, seed + 9));
  // With `accumulate` the gradients are read too: noise serves both.
  buffers_.dq = Noise(grad, extent(p.q_len, p.q_heads, p.dim, p.dq_strides), seed + 10);
  buffers_.dk = Noise(grad, extent(p.k_len, p.k_heads, p.dim, p.dk_strides), seed + 11);
  buffers_.dv = Noise(grad, extent(p.k_len, p.k_heads, p.dim_v, p.dv_strides), seed + 12);
  if (p.want_dbias) {
    buffers_.dbias = Noise(p.f32_grads ? DType::kF32 : p.bias_dtype, ExtentOf(p.bias), seed + 13);
  }
  if (p.want_dsinks) buffers_.dsinks = static_cast<float*>(Noise(DType::kF32, {0, p.q_heads}, 14));
}

Result<Inputs> Inputs::Make(const Problem& problem, std::uint64_t seed) {
  if (problem.ragged || problem.cache.given) {
    return Status(StatusCode::kRefused, std::string("the benchmark makes up dense tensors only; ") +
                                            (problem.ragged ? "a ragged batch" : "a cache") +
                                            " needs index arrays of the caller's");
  }
  Inputs inputs;
  inputs.problem_ = problem;
  const Problem& p = inputs.problem_;
  const Extent q = bench::ExtentOf(p.batch, p.q_len, p.q_heads, p.dim, p.q_strides);
  const Extent k = bench::ExtentOf(p.batch, p.k_len, p.k_heads, p.dim, p.k_strides);
  const Extent v = bench::ExtentOf(p.batch, p.k_len, p.k_heads, p.dim_v, p.v_strides);
  const Extent o = bench::ExtentOf(p.batch, p.q_len, p.q_heads, p.dim_v, p.o_strides);
  const double bytes = static_cast<double>(SizeOf(p.dtype)) *
                       (static_cast<double>(q.elements) + static_cast<double>(k.elements) +
                        static_cast<double>(v.elements) + static_cast<double>(o.elements));
  const auto too_much = [&](double need) {
    return Status(StatusCode::kRefused, "the tensors take " + std::to_string(need / 1e9) +
                                            " GB, more than this machine has free");
  };
  const std::int64_t free = AvailableMemory();
  if (free > 0 && bytes > 0.9 * static_cast<double>(free)) return too_much(bytes);
  try {
    Buffers& b = inputs.buffers_;
    b.q = inputs.Noise(p.dtype, q, seed + 1);
    b.k = inputs.Noise(p.dtype, k, seed + 2);
    b.v = inputs.Noise(p.dtype, v, seed + 3);
    b.o = inputs.Blank(p.out_dtype.value_or(p.dtype), o);
    const std::int64_t rows = p.batch * p.q_heads * p.q_len;
    if (p.want_lse || p.op == Op::kBackward) {
      b.lse = static_cast<float*>(inputs.Blank(DType::kF32, {0, rows}));
    }
    if (p.want_probs) b.probs = inputs.Blank(p.out_dtype.value_or(p.dtype), {0, rows * p.k_len});
    inputs.FillScoreTerms(seed);
    if (p.op == Op::kBackward) inputs.FillBackward(seed);
  } catch (const std::bad_alloc&) {
    return too_much(bytes);
  }
  return inputs;
}

}  // namespace heed::bench
