// merge.cpp: _core.merge. Not here: which dtypes a caller may give (the package's Python files).
#include <memory>
#include <string>
#include <vector>

#include "call.h"
#include "functions.h"
#include "gil.h"

namespace heed::python {
namespace {

Element ElementNamed(const char* name) {
  for (const Element e : {Element::kF32, Element::kBF16, Element::kF16}) {
    if (std::string(Name(ToDType(e))) == name) return e;
  }
  Raise(std::string("dtype is ") + name + ": merged results are f32, bf16 or f16");
}

nb::object MergeParts(nb::sequence outs, nb::sequence lses, const char* dtype) {
  const Element element = ElementNamed(dtype);
  const std::size_t count = nb::len(outs);
  if (count != nb::len(lses)) {
    Raise("outs has " + std::to_string(count) + " parts and lses has " +
          std::to_string(nb::len(lses)) + ": there must be one lse for each output");
  }
  if (count == 0) Raise("outs has no parts: there must be one at least");
  const nb::object one = outs[0];
  const View first = [&] {
    Arrays arrays(one, "outs[0]");
    return arrays.Read(one, "outs[0]");
  }();
  if (first.ndim != 3 && first.ndim != 4) {
    Raise("outs[0] has the shape " + ShapeText(first) + ": it must be (B, S, H, D) or (T, H, D)");
  }
  const int n = first.ndim;
  Merged merged;
  merged.batch = n == 4 ? first.shape[0] : 1;
  merged.q_len = first.shape[n - 3];
  merged.q_heads = first.shape[n - 2];
  merged.dim_v = first.shape[n - 1];
  merged.out_dtype = ToDType(element);

  std::vector<Partial> parts;
  std::vector<nb::object> held;
  // A buffer for each array: the parts may be more than a call's arguments.
  std::vector<std::unique_ptr<Arrays>> arrays;
  const auto read = [&](nb::object array, const std::string& name) {
    held.push_back(array);
    arrays.push_back(std::make_unique<Arrays>(one, "outs[0]"));
    const View view = arrays.back()->Read(array, name.c_str());
    if (view.element != Element::kF32) {
      Raise(name + " has the dtype " + ElementText(view, array) + ": parts must be float32");
    }
    return view;
  };
  for (std::size_t i = 0; i < count; i++) {
    const std::string index = "[" + std::to_string(i) + "]";
    const View o = read(outs[i], "outs" + index);
    bool same = o.ndim == n;
    for (int axis = 0; same && axis < n; axis++) same = o.shape[axis] == first.shape[axis];
    if (!same) {
      Raise("outs" + index + " has the shape " + ShapeText(o) + " and outs[0] has " +
            ShapeText(first) + ": parts must be of one shape");
    }
    if (o.shape[n - 1] > 1 && o.strides[n - 1] != 1) {
      Raise("outs" + index + " has a stride of " + std::to_string(o.strides[n - 1]) +
            " in its last axis: it must be 1");
    }
    const View lse = read(lses[i], "lses" + index);
    if (n == 4) {
      CheckShape(lse, ("lses" + index).c_str(), {merged.batch, merged.q_heads, merged.q_len},
                 "(B, H, S)");
    } else {
      CheckShape(lse, ("lses" + index).c_str(), {merged.q_heads, merged.q_len}, "(H, T)");
    }
    if (!lse.contiguous()) Raise("lses" + index + " is not contiguous: make a contiguous copy");
    parts.push_back({static_cast<const float*>(AddressOf(o)),
                     static_cast<const float*>(AddressOf(lse)), RowStrides(o)});
  }
  nb::object out, lse;
  Arrays& all = *arrays.front();
  View view =
      n == 4 ? all.New(element, {merged.batch, merged.q_len, merged.q_heads, merged.dim_v}, &out)
             : all.New(element, {merged.q_len, merged.q_heads, merged.dim_v}, &out);
  merged.o = AddressOf(view);
  view = n == 4 ? all.New(Element::kF32, {merged.batch, merged.q_heads, merged.q_len}, &lse)
                : all.New(Element::kF32, {merged.q_heads, merged.q_len}, &lse);
  merged.lse = static_cast<float*>(AddressOf(view));
  const auto count_of = static_cast<std::int64_t>(parts.size());
  Check(WithoutGil([&] { return Merge(parts.data(), count_of, merged); }));
  return nb::make_tuple(out, lse);
}

}  // namespace

void AddMerge(nb::module_& m) {
  m.def("merge", &MergeParts, nb::arg("outs"), nb::arg("lses"), nb::arg("dtype"),
        "heed.merge on float32 parts; dtype: 'f32', 'bf16' or 'f16'.");
}

}  // namespace heed::python
