// bench/inputs.cpp: noise in the shapes and strides of a Problem. Not here: files, timing.
#include "bench/inputs.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <span>

#include "bench/machine.h"
#include "bench/random.h"
#include "io/convert.h"

namespace heed::bench {
namespace {

// A prime: what repeats never falls in step with rows.
constexpr std::int64_t kNoisePeriod = 1048573;

// out[i] = out[i - period], whatever the element is.
void RepeatFrom(std::int64_t period, std::byte* out, std::int64_t count, std::int64_t bytes) {
  for (std::int64_t at = period; at < count; at += period) {
    std::memcpy(out + at * bytes, out,
                static_cast<std::size_t>(std::min(period, count - at) * bytes));
  }
}

void RoundTo(DType dtype, std::span<const float> from, std::byte* out) {
  const std::size_t n = from.size();
  switch (dtype) {
    case DType::kF32:
      std::copy(from.begin(), from.end(), reinterpret_cast<float*>(out));
      return;
    case DType::kBF16:
      io::RoundAll<io::Bf16, float>(from, {reinterpret_cast<io::Bf16*>(out), n});
      return;
    case DType::kF16:
      io::RoundAll<io::F16, float>(from, {reinterpret_cast<io::F16*>(out), n});
      return;
    case DType::kF64:
      io::RoundAll<double, float>(from, {reinterpret_cast<double*>(out), n});
  }
}

void FillDType(DType dtype, std::byte* out, std::int64_t count, std::uint64_t seed) {
  if (dtype == DType::kF32) {
    FillNormal(reinterpret_cast<float*>(out), count, seed);
    return;
  }
  const auto n = static_cast<std::size_t>(std::min(count, kNoisePeriod));
  std::vector<float> values(n);
  FillNormal(values.data(), static_cast<std::int64_t>(n), seed);
  RoundTo(dtype, values, out);
  RepeatFrom(kNoisePeriod, out, count, SizeOf(dtype));
}

}  // namespace

void FillNormal(float* out, std::int64_t count, std::uint64_t seed) {
  std::uint64_t state = seed;
  const std::int64_t fresh = std::min(count, kNoisePeriod);
  for (std::int64_t i = 0; i < fresh; i += 2) {
    // Box and Muller: two uniforms in (0, 1], two normals.
    const double u = (static_cast<double>(Next(&state) >> 11) + 1) * 0x1p-53;
    const double w = static_cast<double>(Next(&state) >> 11) * 0x1p-53 * 6.283185307179586;
    const double radius = std::sqrt(-2 * std::log(u));
    out[i] = static_cast<float>(radius * std::cos(w));
    if (i + 1 < fresh) out[i + 1] = static_cast<float>(radius * std::sin(w));
  }
  RepeatFrom(kNoisePeriod, reinterpret_cast<std::byte*>(out), count, 4);
}

void* Inputs::Take(std::int64_t bytes, bool huge) {
  return memory_.emplace_back(bytes, huge).data();
}

void* Inputs::Noise(DType dtype, const Extent& extent, std::uint64_t seed, bool huge) {
  auto* base = static_cast<std::byte*>(Take(extent.elements * SizeOf(dtype), huge));
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

void* Inputs::Rounded(const std::vector<float>& values) {
  auto* data = static_cast<std::byte*>(
      Take(static_cast<std::int64_t>(values.size()) * SizeOf(problem_.dtype)));
  RoundTo(problem_.dtype, values, data);
  return data;
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
  if (p.sinks) buffers_.sinks = static_cast<float*>(Noise(DType::kF32, {0, p.q_heads}, seed + 7));
}

// v in the rows of k takes no memory of its own.
void Inputs::FillKeysAndValues(bool v_in_k, std::uint64_t seed) {
  const Problem& p = problem_;
  const std::int64_t batch = p.ragged ? 1 : p.batch, rows = p.ragged ? p.total_k : p.k_len;
  buffers_.k =
      Noise(p.dtype, ExtentOf(batch, rows, p.k_heads, p.dim, p.k_strides), seed + 2, huge_keys_);
  buffers_.v = v_in_k ? buffers_.k
                      : Noise(p.dtype, ExtentOf(batch, rows, p.k_heads, p.dim_v, p.v_strides),
                              seed + 3, huge_keys_);
}

void Inputs::FillCache(bool v_in_k, std::uint64_t seed) {
  const Problem& p = problem_;
  const Cache& c = p.cache;
  const auto tensor = [&](std::int64_t batch, std::int64_t rows, std::int64_t width,
                          const Strides& strides, std::uint64_t its_seed) {
    return Noise(p.dtype, ExtentOf(batch, rows, p.k_heads, width, strides), its_seed, huge_keys_);
  };
  buffers_.k_cache = tensor(c.slots, c.rows, p.dim, p.k_strides, seed + 2);
  buffers_.v_cache =
      v_in_k ? buffers_.k_cache : tensor(c.slots, c.rows, p.dim_v, p.v_strides, seed + 3);
  if (c.new_len > 0) {
    buffers_.k_new = tensor(p.batch, c.new_len, p.dim, p.k_new_strides, seed + 15);
    buffers_.v_new = tensor(p.batch, c.new_len, p.dim_v, p.v_new_strides, seed + 16);
  }
  if (c.rotary == Rotary::kNone) return;
  const std::int64_t pairs = c.rotary_dim / 2;
  std::vector<float> cosines(static_cast<std::size_t>(c.rotary_rows * pairs)), sines(cosines);
  for (std::int64_t row = 0; row < c.rotary_rows; ++row) {
    for (std::int64_t n = 0; n < pairs; ++n) {
      const double turn = static_cast<double>(row) *
                          std::pow(1e4, -static_cast<double>(n) / static_cast<double>(pairs));
      cosines[static_cast<std::size_t>(row * pairs + n)] = static_cast<float>(std::cos(turn));
      sines[static_cast<std::size_t>(row * pairs + n)] = static_cast<float>(std::sin(turn));
    }
  }
  buffers_.rotary_cos = Rounded(cosines);
  buffers_.rotary_sin = Rounded(sines);
}

void Inputs::FillBackward(std::uint64_t seed) {
  const Problem& p = problem_;
  const DType grad = p.f32_grads ? DType::kF32 : p.dtype;
  const std::int64_t batch = p.ragged ? 1 : p.batch;
  const std::int64_t queries = p.ragged ? p.total_q : p.q_len;
  const std::int64_t keys = p.ragged ? p.total_k : p.k_len;
  const Extent rows{0, batch * p.q_heads * queries};
  const auto extent = [&](std::int64_t len, std::int64_t heads, std::int64_t width,
                          const Strides& s) { return ExtentOf(batch, len, heads, width, s); };
  buffers_.dout = Noise(p.dtype, extent(queries, p.q_heads, p.dim_v, p.dout_strides), seed + 8);
  if (p.dlse) buffers_.dlse = static_cast<float*>(Noise(DType::kF32, rows, seed + 9));
  // With `accumulate` the gradients are read too: noise serves both.
  buffers_.dq = Noise(grad, extent(queries, p.q_heads, p.dim, p.dq_strides), seed + 10);
  buffers_.dk = Noise(grad, extent(keys, p.k_heads, p.dim, p.dk_strides), seed + 11);
  buffers_.dv = Noise(grad, extent(keys, p.k_heads, p.dim_v, p.dv_strides), seed + 12);
  if (p.want_dbias) {
    buffers_.dbias = Noise(p.f32_grads ? DType::kF32 : p.bias_dtype, ExtentOf(p.bias), seed + 13);
  }
  if (p.want_dsinks) buffers_.dsinks = static_cast<float*>(Noise(DType::kF32, {0, p.q_heads}, 14));
}

Result<Inputs> Inputs::Make(const Problem& problem, const Patterns& patterns, std::uint64_t seed,
                            bool huge_keys) {
  Result<Arrays> arrays = Arrays::Make(problem, patterns, seed);
  if (!arrays) return arrays.status();
  Inputs inputs;
  inputs.problem_ = problem;
  inputs.huge_keys_ = huge_keys;
  inputs.arrays_ = std::move(*arrays);
  const Problem& p = inputs.problem_;
  const std::int64_t batch = p.ragged ? 1 : p.batch, queries = p.ragged ? p.total_q : p.q_len;
  const Extent q = ExtentOf(batch, queries, p.q_heads, p.dim, p.q_strides);
  const Extent o = ExtentOf(batch, queries, p.q_heads, p.dim_v, p.o_strides);
  const std::int64_t slots = p.cache.given ? p.cache.slots : batch;
  const std::int64_t keys = p.cache.given ? p.cache.rows : p.ragged ? p.total_k : p.k_len;
  const Extent k = ExtentOf(slots, keys, p.k_heads, p.dim, p.k_strides);
  const Extent v = ExtentOf(slots, keys, p.k_heads, p.dim_v, p.v_strides);
  const double bytes =
      static_cast<double>(SizeOf(p.dtype)) *
          (static_cast<double>(q.elements) + static_cast<double>(o.elements) +
           static_cast<double>(k.elements) +
           (patterns.v_in_k ? 0 : static_cast<double>(v.elements))) +
      (p.bias.given ? static_cast<double>(ExtentOf(p.bias).elements * SizeOf(p.bias_dtype)) : 0);
  const auto too_much = [&](double need) {
    return Status(StatusCode::kRefused, "the tensors take " + std::to_string(need / 1e9) +
                                            " GB, more than this machine has free");
  };
  const std::int64_t free = AvailableMemory();
  if (free > 0 && bytes > 0.9 * static_cast<double>(free)) return too_much(bytes);
  try {
    Buffers& b = inputs.buffers_;
    inputs.arrays_.AddTo(&b);
    b.q = inputs.Noise(p.dtype, q, seed + 1);
    if (p.cache.given) {
      inputs.FillCache(patterns.v_in_k, seed);
    } else {
      inputs.FillKeysAndValues(patterns.v_in_k, seed);
    }
    b.o = inputs.Blank(p.out_dtype.value_or(p.dtype), o);
    const std::int64_t rows = p.q_heads * batch * queries;
    if (p.want_lse || p.op == Op::kBackward) {
      b.lse = static_cast<float*>(inputs.Blank(DType::kF32, {0, rows}));
    }
    if (p.want_probs) {
      b.probs =
          inputs.Blank(p.out_dtype.value_or(p.dtype), {0, p.batch * p.q_heads * p.q_len * p.k_len});
    }
    inputs.FillScoreTerms(seed);
    if (p.op == Op::kBackward) inputs.FillBackward(seed);
  } catch (const std::bad_alloc&) {
    return too_much(bytes);
  }
  return inputs;
}

}  // namespace heed::bench
