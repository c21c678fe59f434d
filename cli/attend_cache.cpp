// cli/attend_cache.cpp: shapes of a cache, of what is appended to it, and of its index arrays. Not
// here: what the index arrays hold, which is the library's to check.
#include "cli/attend_cache.h"

#include <tuple>

#include "cli/attend_tensors.h"

namespace heed::cli {
namespace {

using io::ElementType;
using io::Tensor;
using io::TensorFile;

constexpr const char* kNumbers[] = {"q", "k_cache", "v_cache", "k_new", "v_new"};

// Present, of q's type, with 4 dimensions.
Status NeedNumbers(const TensorFile& file, const char* name) {
  const Tensor* t = file.Find(name);
  if (t == nullptr) return Invalid("there is no tensor '{}'; a call over a cache needs it", name);
  if (t->shape.size() != 4) {
    return Invalid("{} has the shape {}; a call over a cache needs 4 dimensions", name, t->shape);
  }
  return ExpectNumbers(file, name);
}

Status ConvertNumbers(TensorFile& file, std::optional<DType> dtype) {
  for (const char* name : kNumbers) {
    if (!dtype) break;
    if (Status s = ConvertTo(file, name, io::FromDType(*dtype)); !s) return s;
  }
  for (const char* name : {"q", "k_cache", "v_cache"}) {
    if (Status s = NeedNumbers(file, name); !s) return s;
  }
  for (const char* name : {"rotary_cos", "rotary_sin"}) {
    if (Status s = ConvertTo(file, name, file.Find("q")->type); !s) return s;
  }
  return {};
}

Status FitShapes(const TensorFile& file, bool head_first, Problem* p) {
  const Axes q = AxesOf(*file.Find("q"), head_first);
  const Axes k = AxesOf(*file.Find("k_cache"), head_first);
  const Axes v = AxesOf(*file.Find("v_cache"), head_first);
  if (v.batch != k.batch || v.rows != k.rows || v.heads != k.heads) {
    return Invalid(
        "k_cache has {} slots of {} rows of {} heads, v_cache {} of {} of {}; they must "
        "be equal",
        k.batch, k.rows, k.heads, v.batch, v.rows, v.heads);
  }
  if (k.width != q.width || k.heads == 0 || q.width == 0 || v.width == 0) {
    return Invalid(
        "rows of q, k_cache and v_cache have {}, {} and {} entries and there are {} key "
        "heads; q's and k_cache's must be equal, and all of them 1 or more",
        q.width, k.width, v.width, k.heads);
  }
  SetSizes(q, k, v, head_first, p);
  p->cache.given = true;
  p->cache.slots = k.batch;
  p->cache.rows = k.rows;
  return {};
}

Status FitNew(const TensorFile& file, bool head_first, Problem* p) {
  if (file.Find("k_new") == nullptr && file.Find("v_new") == nullptr) return {};
  for (const char* name : {"k_new", "v_new"}) {
    if (Status s = NeedNumbers(file, name); !s) return s;
  }
  const Axes k = AxesOf(*file.Find("k_new"), head_first);
  Axes v = AxesOf(*file.Find("v_new"), head_first);
  for (const auto& [name, axes, width] :
       {std::tuple{"k_new", k, p->dim}, std::tuple{"v_new", v, p->dim_v}}) {
    if (axes.batch == p->batch && axes.rows == k.rows && axes.heads == p->k_heads &&
        axes.width == width) {
      continue;
    }
    return Invalid(
        "{} has {} entries of {} rows of {} heads of {}; {} of {} of {} of {} are needed", name,
        axes.batch, axes.rows, axes.heads, axes.width, p->batch, k.rows, p->k_heads, width);
  }
  p->cache.new_len = k.rows;
  if (head_first) {
    p->k_new_strides = HeadFirst(k);
    p->v_new_strides = HeadFirst(v);
  }
  return {};
}

Status FitRotary(const TensorFile& file, Problem* p) {
  if (p->cache.rotary == Rotary::kNone) return {};
  const Tensor* table = file.Find("rotary_cos");
  if (table == nullptr || file.Find("rotary_sin") == nullptr || table->shape.size() != 2) {
    return Invalid(
        "rotary embedding needs rotary_cos and rotary_sin of 2 dimensions (rows, R / 2)");
  }
  p->cache.rotary_rows = table->shape[0];
  p->cache.rotary_dim = 2 * table->shape[1];
  return Expect(file, "rotary_sin", table->type, table->shape);
}

Status FitIndices(const TensorFile& file, Problem* p) {
  Cache& c = p->cache;
  if (file.Find("cache_seqlens") == nullptr) {
    return Invalid("there is no tensor 'cache_seqlens'; a call over a cache needs it");
  }
  c.batch_idx = file.Find("cache_batch_idx") != nullptr;
  c.leftpad = file.Find("cache_leftpad") != nullptr;
  for (const char* name : {"cache_seqlens", "cache_batch_idx", "cache_leftpad"}) {
    if (Status s = Expect(file, name, ElementType::kI32, {p->batch}); !s) return s;
  }
  const Tensor* table = file.Find("block_table");
  if (table == nullptr) return {};
  if (table->shape.size() != 2) {
    return Invalid("block_table has the shape {}; 2 dimensions (B, blocks) are needed",
                   table->shape);
  }
  c.blocks = table->shape[1];
  return Expect(file, "block_table", ElementType::kI32, {p->batch, c.blocks});
}

}  // namespace

bool HasCache(const TensorFile& file) {
  return file.Find("k_cache") != nullptr || file.Find("v_cache") != nullptr ||
         file.Find("block_table") != nullptr || file.Find("cache_seqlens") != nullptr;
}

Status FitCache(TensorFile& file, std::optional<DType> dtype, bool head_first, Problem* problem) {
  for (const char* name : {"k", "v", "cu_seqlens", "cu_seqlens_q", "cu_seqlens_k"}) {
    if (file.Find(name) == nullptr) continue;
    return Invalid(
        "there is a cache and a tensor '{}': keys and values come from the one or the "
        "other",
        name);
  }
  if (file.Find("q") == nullptr) return Invalid("there is no tensor 'q'");
  if (Status s = ConvertNumbers(file, dtype); !s) return s;
  problem->dtype = *io::ToDType(file.Find("q")->type);
  if (Status s = FitShapes(file, head_first, problem); !s) return s;
  if (Status s = FitIndices(file, problem); !s) return s;
  if (Status s = FitNew(file, head_first, problem); !s) return s;
  return FitRotary(file, problem);
}

}  // namespace heed::cli
