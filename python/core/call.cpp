// call.cpp: see call.h. What a Problem can say, heed::Validate says; here are the sentences about what
// it has no field for: numbers of axes, dtypes, sizes of small arrays.
#include "call.h"

#include <limits>
#include <string>

namespace heed::python {
namespace {

std::string TextOf(std::initializer_list<std::int64_t> shape) {
  View view;
  for (const std::int64_t n : shape) view.shape[view.ndim++] = n;
  return ShapeText(view);
}

}  // namespace

const void* AddressOf(const View& view) {
  static double nothing = 0;
  return view.data != nullptr ? view.data : &nothing;
}

Strides RowStrides(const View& view) {
  const int n = view.ndim;
  const auto stride = [&](int axis) {
    return view.shape[axis] == 1 || view.count() == 0 ? kPacked : view.strides[axis];
  };
  return {n == 4 ? stride(0) : kPacked, stride(n - 3), stride(n - 2)};
}

void CheckShape(const View& view, const char* name, std::initializer_list<std::int64_t> shape,
                const char* symbols) {
  bool same = view.ndim == static_cast<int>(shape.size());
  int i = 0;
  for (const std::int64_t n : shape) same = same && view.shape[i++] == n;
  if (same) return;
  Raise(std::string(name) + " has the shape " + ShapeText(view) + ": it must be " + TextOf(shape) +
        ", which is " + symbols);
}

View Call::ReadRows(nb::handle array, const char* name, int ndim) {
  const View view = Read(array, name);
  if (!IsTensorElement(view.element)) {
    Raise(std::string(name) + " has the dtype " + ElementText(view, array) +
          ": it must be float32, bfloat16, float16 or float64");
  }
  if (view.ndim != ndim) {
    Raise(std::string(name) + " has the shape " + ShapeText(view) + ": it must have " +
          std::to_string(ndim) + " axes, " +
          (ndim == 4 ? "(B, S, H, D); ragged batches (T, H, D) need cu_seqlens_q and cu_seqlens_k"
                     : "(T, H, D), for cu_seqlens are given"));
  }
  // PyTorch gives empty tensors that came from NumPy strides of 0.
  if (view.shape[ndim - 1] > 1 && view.strides[ndim - 1] != 1 && view.count() > 0) {
    Raise(std::string(name) + " has a stride of " + std::to_string(view.strides[ndim - 1]) +
          " in its last axis: it must be 1; the other axes may have any (make a contiguous copy)");
  }
  return heads_first && ndim == 4 ? view.turned() : view;
}

Strides Call::StridesOf(const Rows& rows) const {
  if (!heads_first || !rows.dense || problem.batch * rows.len * rows.heads == 0) return {};
  return {rows.heads * rows.len * rows.dim, rows.dim, rows.len * rows.dim};
}

// Nobody has read cu_seqlens on a device: rows that they leave out are 0, and not what lay there.
void Call::ClearRows(const nb::object& made, double value) {
  if (problem.ragged && arrays.device() != kHost) made.attr("fill_")(value);
}

float* Call::NewRowState(nb::object* out) {
  const Problem& p = problem;
  View view = p.ragged ? arrays.New(Element::kF32, {p.q_heads, p.total_q}, out)
                       : arrays.New(Element::kF32, {p.batch, p.q_heads, p.q_len}, out);
  ClearRows(*out, -std::numeric_limits<double>::infinity());
  return static_cast<float*>(AddressOf(view));
}

void* Call::NewRows(Element element, const Rows& rows, nb::object* out) {
  View view;
  if (problem.ragged) {
    view = arrays.New(element, {rows.total, rows.heads, rows.dim}, out);
    ClearRows(*out, 0);
  } else if (heads_first) {
    view = arrays.NewHeadsFirst(element, {problem.batch, rows.len, rows.heads, rows.dim},
                                rows.dense, out);
  } else {
    view = arrays.New(element, {problem.batch, rows.len, rows.heads, rows.dim}, out);
  }
  return AddressOf(view);
}

void Call::ReadQkv(nb::handle q, nb::handle k, nb::handle v, bool ragged) {
  const int ndim = ragged ? 3 : 4, h = ndim - 2, d = ndim - 1;
  const View qv = ReadRows(q, "q", ndim), kv = ReadRows(k, "k", ndim), vv = ReadRows(v, "v", ndim);
  const auto same_dtype = [&](const View& view, const char* name, nb::handle array) {
    if (view.element == qv.element) return;
    Raise(std::string(name) + " is " + ElementText(view, array) + " and q is " +
          ElementText(qv, q) + ": q, k and v must be of one dtype");
  };
  if (heads_first) {
    dense_q = qv.turned().contiguous();
    dense_k = kv.turned().contiguous();
    dense_v = vv.turned().contiguous();
  }
  same_dtype(kv, "k", k);
  same_dtype(vv, "v", v);
  const auto differ = [&](const char* a, const View& av, const char* b, const View& bv,
                          const char* what) {
    Raise(std::string(a) + " has the shape " + ShapeText(av) + " and " + b + " has " +
          ShapeText(bv) + ": " + what);
  };
  if (!ragged && kv.shape[0] != qv.shape[0]) {
    differ("k", kv, "q", qv, "the first axis, the batch, must be the same");
  }
  if (kv.shape[d] != qv.shape[d]) differ("k", kv, "q", qv, "the last axis must be the same");
  for (int axis = 0; axis < d; axis++) {
    if (vv.shape[axis] != kv.shape[axis]) {
      differ("v", vv, "k", kv, "all axes but the last must be the same");
    }
  }
  if (kv.shape[h] < 1 || qv.shape[h] % kv.shape[h] != 0) {
    differ("k", kv, "q", qv, "the number of q's heads must be a multiple of k's");
  }
  if (vv.shape[d] < 1) {
    Raise(std::string("v has the shape ") + ShapeText(vv) +
          ": its last axis must be from 1 to 1024");
  }
  Problem& p = problem;
  p.dtype = ToDType(qv.element);
  p.q_heads = qv.shape[h];
  p.k_heads = kv.shape[h];
  p.dim = qv.shape[d];
  p.dim_v = vv.shape[d];
  p.ragged = ragged;
  if (ragged) {
    p.total_q = qv.shape[0];
    p.total_k = kv.shape[0];
  } else {
    p.batch = qv.shape[0];
    p.q_len = qv.shape[1];
    p.k_len = kv.shape[1];
  }
  p.q_strides = RowStrides(qv);
  p.k_strides = RowStrides(kv);
  p.v_strides = RowStrides(vv);
  Begin(q, qv);
  buffers.k = AddressOf(kv);
  buffers.v = AddressOf(vv);
}

void Call::Begin(nb::handle q, const View& view) {
  const int device = arrays.device();
  // A plan for a tensor that stands for another asks nothing of a device that may not be here.
  if (device != kHost && (!shapes_alone || TorchIsPlain(&q, 1))) on_device.emplace(device);
  buffers.q = AddressOf(view);
  if (!on_device) return;
  buffers.stream = on_device->stream();
  if (view.count() == 0) {  // PyTorch gives it no address
    void* somewhere = nullptr;
    on_device_copies_.push_back(DeviceBytes(sizeof(double), device, &somewhere));
    buffers.q = somewhere;
  }
}

const void* Call::Dense(nb::handle array, const char* name, const View& view) {
  if (view.contiguous() || shapes_alone) return AddressOf(view);
  if (view.device != kHost) {
    on_device_copies_.push_back(array.attr("contiguous")());
    return AddressOf(Read(on_device_copies_.back(), name));
  }
  // At most two axes, of 4 bytes an element: slopes, sinks, lengths.
  std::vector<std::int32_t> copy(static_cast<std::size_t>(view.count()));
  const std::int64_t rows = view.ndim == 2 ? view.shape[0] : 1;
  const std::int64_t cols = view.shape[view.ndim - 1];
  const auto* from = static_cast<const std::int32_t*>(view.data);
  for (std::int64_t n = 0; n < rows * cols; n++) {
    copy[static_cast<std::size_t>(n)] = from[(view.ndim == 2 ? n / cols * view.strides[0] : 0) +
                                             n % cols * view.strides[view.ndim - 1]];
  }
  copies_.push_back(std::move(copy));
  return copies_.back().data();
}

const float* Call::Floats(nb::handle array, const char* name,
                          std::initializer_list<std::int64_t> shape) {
  const View view = Read(array, name);
  if (view.element != Element::kF32) {
    Raise(std::string(name) + " has the dtype " + ElementText(view, array) +
          ": it must be float32");
  }
  CheckShape(view, name, shape, shape.size() == 2 ? "(B, H)" : "(H,), the heads of q");
  return static_cast<const float*>(Dense(array, name, view));
}

const std::int32_t* Call::Integers(nb::handle array, const char* name, std::int64_t size,
                                   const char* symbols) {
  const View view = Read(array, name);
  if (view.element != Element::kI32) {
    Raise(std::string(name) + " has the dtype " + ElementText(view, array) + ": it must be int32");
  }
  if (size >= 0) CheckShape(view, name, {size}, symbols);
  return static_cast<const std::int32_t*>(Dense(array, name, view));
}

const std::int32_t* Call::Spread(nb::handle tensor, const char* name) {
  on_device_copies_.push_back(tensor.attr("expand")(problem.batch));
  return Integers(on_device_copies_.back(), name, problem.batch);
}

const std::int32_t* Call::Repeated(std::int32_t n) {
  if (arrays.device() != kHost) {
    on_device_copies_.push_back(DeviceIntegers(n, problem.batch, arrays.device()));
    return static_cast<const std::int32_t*>(AddressOf(Read(on_device_copies_.back(), "an array")));
  }
  const std::int64_t count = problem.batch > 0 ? problem.batch : 1;
  copies_.emplace_back(static_cast<std::size_t>(count), n);
  return copies_.back().data();
}

}  // namespace heed::python
