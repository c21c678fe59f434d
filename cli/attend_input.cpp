// cli/attend_input.cpp: shapes of q, k, v and of the tensors that options bring. Not here:
// metadata, the cache (attend_cache.cpp).
#include "cli/attend_input.h"

#include <algorithm>
#include <utility>

#include "cli/attend_cache.h"
#include "cli/attend_metadata.h"
#include "cli/attend_tensors.h"

namespace heed::cli {
namespace {

using io::ElementType;
using io::Tensor;
using io::TensorFile;

Status CheckQkv(TensorFile& file, std::optional<DType> dtype) {
  for (const char* name : {"q", "k", "v"}) {
    const Tensor* tensor = file.Find(name);
    if (tensor == nullptr) return Invalid("there is no tensor '{}'; q, k and v are needed", name);
    const std::size_t rank = tensor->shape.size();
    if (rank != file.Find("q")->shape.size() || rank < 2 || rank > 4) {
      return Invalid(
          "{} has the shape {}; q, k and v must all have 4 dimensions (B, S, H, D), or 3 "
          "(S, H, D), or 2 (S, D)",
          name, tensor->shape);
    }
    if (dtype) {
      if (Status s = ConvertTo(file, name, io::FromDType(*dtype)); !s) return s;
    }
    if (Status s = ExpectNumbers(file, name); !s) return s;
  }
  return {};
}

Status FitQkv(const TensorFile& file, bool head_first, Problem* p) {
  const Axes q = AxesOf(*file.Find("q"), head_first);
  const Axes k = AxesOf(*file.Find("k"), head_first);
  const Axes v = AxesOf(*file.Find("v"), head_first);
  if (k.batch != q.batch || v.batch != q.batch) {
    return Invalid("q, k, v have batches of {}, {} and {}; they must be equal", q.batch, k.batch,
                   v.batch);
  }
  if (v.rows != k.rows || v.heads != k.heads) {
    return Invalid("k has {} rows and {} heads, v has {} and {}; they must be equal", k.rows,
                   k.heads, v.rows, v.heads);
  }
  if (k.width != q.width) {
    return Invalid("q has {} entries a row and k has {}; they must be equal", q.width, k.width);
  }
  if (k.heads == 0) return Invalid("k has no heads; at least one is needed");
  if (q.width == 0 || v.width == 0) {
    return Invalid("rows of q have {} entries and rows of v {}; 1 to 1024 are accepted", q.width,
                   v.width);
  }
  SetSizes(q, k, v, head_first, p);
  p->k_len = k.rows;
  return {};
}

Status Spread(const TensorFile& file, const char* name, Broadcast* b) {
  const Tensor* t = file.Find(name);
  if (t == nullptr) return {};
  if (t->shape.size() != 4) {
    return Invalid("{} has the shape {}; 4 dimensions, each full or 1, are needed", name, t->shape);
  }
  b->given = true;
  b->batch = t->shape[0];
  b->heads = t->shape[1];
  b->rows = t->shape[2];
  b->cols = t->shape[3];
  return {};
}

Status FitRagged(TensorFile& file, Problem* p) {
  if (const Tensor* both = file.Find("cu_seqlens")) {
    for (const char* name : {"cu_seqlens_q", "cu_seqlens_k"}) {
      if (file.Find(name) != nullptr) continue;
      Tensor copy = *both;
      copy.name = name;
      file.tensors.push_back(std::move(copy));
      both = file.Find("cu_seqlens");
    }
  }
  const Tensor* q = file.Find("cu_seqlens_q");
  const Tensor* k = file.Find("cu_seqlens_k");
  if (q == nullptr && k == nullptr) return {};
  if (q == nullptr || k == nullptr || p->batch != 1 || file.Find("q")->shape.size() != 3) {
    return Invalid(
        "packed sequences need cu_seqlens_q and cu_seqlens_k and q, k, v of 3 dimensions "
        "(T, H, D)");
  }
  if (q->shape.size() != 1 || q->shape[0] < 1) {
    return Invalid("cu_seqlens_q has the shape {}; one dimension of B + 1 is needed", q->shape);
  }
  for (const char* name : {"cu_seqlens_q", "cu_seqlens_k"}) {
    if (Status s = Expect(file, name, ElementType::kI32, q->shape); !s) return s;
  }
  const auto longest = [](const Tensor& t) {
    std::int64_t most = 0;
    const std::span<const std::int32_t> at = t.As<std::int32_t>();
    for (std::size_t i = 1; i < at.size(); ++i) {
      most = std::max(most, std::int64_t{at[i]} - at[i - 1]);
    }
    return most;
  };
  p->ragged = true;
  p->total_q = p->q_len;
  p->total_k = p->k_len;
  p->batch = q->shape[0] - 1;
  p->q_len = longest(*q);
  p->k_len = longest(*k);
  return {};
}

Status FitArrays(TensorFile& file, Problem* p) {
  if (const Tensor* slopes = file.Find("alibi_slopes")) {
    p->alibi = slopes->shape.size() == 2 ? Alibi::kPerBatchHead : Alibi::kPerHead;
    std::vector<std::int64_t> shape{p->q_heads};
    if (slopes->shape.size() == 2) shape.insert(shape.begin(), p->batch);
    if (Status s = Expect(file, "alibi_slopes", ElementType::kF32, shape); !s) return s;
  }
  if (const Tensor* bias = file.Find("bias");
      bias != nullptr && bias->type != file.Find("q")->type) {
    if (Status s = ConvertTo(file, "bias", ElementType::kF32); !s) return s;
  }
  if (Status s = Spread(file, "bias", &p->bias); !s) return s;
  if (p->bias.given) p->bias_dtype = *io::ToDType(file.Find("bias")->type);
  for (const auto& [name, to] :
       {std::pair{"mask", &p->mask}, std::pair{"block_map", &p->block_map}}) {
    if (Status s = Spread(file, name, to); !s) return s;
    if (to->given && file.Find(name)->type != ElementType::kBool) {
      return Invalid("{} is {}; BOOL is needed", name, io::Name(file.Find(name)->type));
    }
  }
  p->sinks = file.Find("sinks") != nullptr;
  if (Status s = Expect(file, "sinks", ElementType::kF32, {p->q_heads}); !s) return s;
  p->key_lengths = file.Find("key_lengths") != nullptr;
  if (Status s = Expect(file, "key_lengths", ElementType::kI32, {p->batch}); !s) return s;
  const Tensor* offset = file.Find("query_offset");
  if (offset == nullptr) return {};
  if (offset->type == ElementType::kI32 && offset->shape == std::vector<std::int64_t>{1}) {
    p->query_offset = offset->As<std::int32_t>()[0];
    return {};
  }
  p->query_offsets = true;
  return Expect(file, "query_offset", ElementType::kI32, {p->batch});
}

}  // namespace

Result<AttendInput> FromTensors(TensorFile file, std::optional<DType> dtype,
                                const std::string& layout) {
  AttendInput input;
  Problem& p = input.problem;
  std::string said;
  if (Status s = ApplyMetadata(file.metadata, &p, &said); !s) return s;
  const bool head_first = (layout.empty() ? said : layout) == "bhsd";
  if (HasCache(file)) {
    if (Status s = FitCache(file, dtype, head_first, &p); !s) return s;
  } else {
    if (p.cache.rotary != Rotary::kNone) {
      return Invalid("the metadata asks for rotary embedding, which needs a k_cache and a v_cache");
    }
    if (Status s = CheckQkv(file, dtype); !s) return s;
    if (Status s = FitQkv(file, head_first, &p); !s) return s;
    p.dtype = *io::ToDType(file.Find("q")->type);
    if (Status s = FitRagged(file, &p); !s) return s;
  }
  if (Status s = FitArrays(file, &p); !s) return s;

  input.out_shape = file.Find("q")->shape;
  input.out_shape.back() = p.dim_v;
  switch (file.Find("q")->shape.size()) {
    case 4:
      input.lse_shape = {p.batch, p.q_heads, p.q_len};
      break;
    case 3:
      input.lse_shape = {p.q_heads, p.ragged ? p.total_q : p.q_len};
      break;
    default:
      input.lse_shape = {p.q_len};
  }
  input.file = std::move(file);
  return input;
}

Buffers AttendInput::Inputs() {
  const auto data = [&](const char* name) -> const void* {
    static std::byte nothing[64] = {};  // a tensor without elements has no memory of its own
    const Tensor* t = file.Find(name);
    return t == nullptr ? nullptr : t->data.empty() ? nothing : t->data.data();
  };
  const auto ints = [&](const char* name) { return static_cast<const std::int32_t*>(data(name)); };
  Buffers b;
  b.q = data("q");
  b.k = data("k");
  b.v = data("v");
  b.bias = data("bias");
  b.mask = static_cast<const std::uint8_t*>(data("mask"));
  b.block_map = static_cast<const std::uint8_t*>(data("block_map"));
  b.alibi_slopes = static_cast<const float*>(data("alibi_slopes"));
  b.sinks = static_cast<const float*>(data("sinks"));
  b.key_lengths = ints("key_lengths");
  if (problem.query_offsets) b.query_offsets = ints("query_offset");
  b.cu_seqlens_q = ints("cu_seqlens_q");
  b.cu_seqlens_k = ints("cu_seqlens_k");
  if (!problem.cache.given) return b;
  b.k = b.v = nullptr;
  b.k_cache = const_cast<void*>(data("k_cache"));
  b.v_cache = const_cast<void*>(data("v_cache"));
  b.k_new = data("k_new");
  b.v_new = data("v_new");
  if (problem.cache.rotary != Rotary::kNone) {
    b.rotary_cos = data("rotary_cos");
    b.rotary_sin = data("rotary_sin");
  }
  b.cache_seqlens = ints("cache_seqlens");
  b.cache_batch_idx = ints("cache_batch_idx");
  b.cache_leftpad = ints("cache_leftpad");
  b.block_table = ints("block_table");
  return b;
}

}  // namespace heed::cli
