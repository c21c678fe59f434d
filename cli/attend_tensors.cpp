// cli/attend_tensors.cpp: axes, conversion, expected shapes. Not here: what the tensors mean.
#include "cli/attend_tensors.h"

#include "io/convert.h"

namespace heed::cli {

using io::ElementType;
using io::Tensor;
using io::TensorFile;

Axes AxesOf(const Tensor& t, bool head_first) {
  const std::size_t n = t.shape.size();
  if (n == 2) return {1, t.shape[0], 1, t.shape[1]};
  Axes a{n == 4 ? t.shape[0] : 1, t.shape[n - 3], t.shape[n - 2], t.shape[n - 1]};
  if (head_first) std::swap(a.rows, a.heads);
  return a;
}

Strides HeadFirst(const Axes& a) { return {a.heads * a.rows * a.width, a.width, a.rows * a.width}; }

void SetSizes(const Axes& q, const Axes& k, const Axes& v, bool head_first, Problem* p) {
  p->batch = q.batch;
  p->q_len = q.rows;
  p->q_heads = q.heads;
  p->k_heads = k.heads;
  p->dim = q.width;
  p->dim_v = v.width;
  if (!head_first) return;
  p->q_strides = HeadFirst(q);
  p->k_strides = HeadFirst(k);
  p->v_strides = HeadFirst(v);
  p->o_strides = HeadFirst({q.batch, q.rows, q.heads, v.width});
}

Status ConvertTo(TensorFile& file, const char* name, ElementType type) {
  auto* tensor = const_cast<Tensor*>(file.Find(name));
  if (tensor == nullptr || tensor->type == type) return {};
  Result<Tensor> converted = io::Convert(*tensor, type);
  if (!converted) return converted.status();
  *tensor = std::move(*converted);
  return {};
}

Status ExpectNumbers(const TensorFile& file, const char* name) {
  const ElementType type = file.Find(name)->type, of_q = file.Find("q")->type;
  if (!io::ToDType(type)) {
    return Invalid("{} is {}; F32, BF16, F16 or F64 is needed", name, io::Name(type));
  }
  if (type == of_q) return {};
  return Invalid("{} is {} and q is {}; they must be the same, and --dtype converts them", name,
                 io::Name(type), io::Name(of_q));
}

Status Expect(const TensorFile& file, const char* name, ElementType type,
              const std::vector<std::int64_t>& shape) {
  const Tensor* t = file.Find(name);
  if (t == nullptr || (t->type == type && t->shape == shape)) return {};
  return Invalid("{} is {} of shape {}; {} of shape {} is needed", name, io::Name(t->type),
                 t->shape, io::Name(type), shape);
}

}  // namespace heed::cli
