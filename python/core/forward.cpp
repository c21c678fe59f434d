// forward.cpp: _core.attention. Not here: how its keywords are read (call_options.cpp).
#include "call.h"
#include "functions.h"

namespace heed::python {
namespace {

Watcher WatcherOf(nb::handle q, nb::handle k, nb::handle v, const nb::handle* o, Guard guard) {
  nb::handle tensors[12];
  int n = 0;
  const auto add = [&](nb::handle t) {
    if (IsTorch(t)) tensors[n++] = t;  // what else it may be is refused with a sentence
  };
  for (const nb::handle t : {q, k, v}) add(t);
  for (int i = 0; i < kOptions; i++) {
    if (IsArrayOption(i) && Given(o[i])) add(o[i]);
  }
  return TorchWatcher(tensors, n, guard);
}

// Whether a backward that is given these values will find them as they are now.
bool StaysAsItIs(nb::handle value) {
  PyObject* p = value.ptr();
  if (p == Py_None || PyFloat_CheckExact(p) || PyLong_CheckExact(p) || PyBool_Check(p) ||
      PyUnicode_CheckExact(p)) {
    return true;
  }
  if (!PyTuple_CheckExact(p)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_Size(p); i++) {
    if (!PyLong_CheckExact(PyTuple_GetItem(p, i))) return false;
  }
  return true;
}

// The options of a call as the backward will take them: numbers, and apart from them the arrays, which
// autograd keeps, with their places. Invalid where one may change in between.
nb::object ForBackward(const nb::handle* o) {
  nb::object numbers = nb::steal(PyTuple_New(kOptions));
  nb::list arrays, places;
  for (int i = 0; i < kOptions; i++) {
    PyObject* kept = o[i].ptr();
    if (IsTorch(o[i])) {
      if (!IsArrayOption(i)) return {};  // a number in a tensor
      arrays.append(o[i]);
      places.append(i);
      kept = Py_None;
    } else if (!StaysAsItIs(o[i])) {
      return {};
    }
    Py_INCREF(kept);
    PyTuple_SetItem(numbers.ptr(), i, kept);
  }
  return nb::make_tuple(numbers, arrays, places);
}

struct Wanted {
  bool lse, probs, f32, heads_first;
  Guard guard;
};

nb::object Forward(nb::handle q, nb::handle k, nb::handle v, const nb::handle* o, Wanted wanted) {
  nb::object for_backward;
  if (wanted.guard != Guard::kNone && IsTorch(q)) {
    const Watcher watcher = WatcherOf(q, k, v, o, wanted.guard);
    if (watcher == Watcher::kOthers) return NotHere();
    if (watcher == Watcher::kAutograd) {
      const nb::handle slopes = o[kAlibiSlopes];
      if (IsTorch(slopes) && TorchRequiresGrad(slopes)) return NotHere();  // it has none
      for_backward = ForBackward(o);
      if (!for_backward.is_valid()) return NotHere();
      wanted.lse = true;
    }
  }
  Call call(q, "q");
  if (wanted.heads_first) call.TakeHeadsFirst();
  call.ReadQkv(q, k, v, Given(o[kCuSeqlensQ]));
  call.ReadOptions(o);
  Problem& p = call.problem;
  p.want_lse = wanted.lse;
  p.want_probs = wanted.probs;
  if (wanted.f32) p.out_dtype = DType::kF32;
  const Call::Rows rows{p.q_len, p.total_q, p.q_heads, p.dim_v, call.dense_q};
  p.o_strides = call.StridesOf(rows);
  // Before any memory is taken for results.
  const Plan plan = call.MakePlan();

  const Element element = FromDType(p.out_dtype.value_or(p.dtype));
  nb::object out, lse, probs;
  call.buffers.o = call.NewRows(element, rows, &out);
  if (wanted.lse) call.buffers.lse = call.NewRowState(&lse);
  if (wanted.probs) {
    View view = call.arrays.New(element, {p.batch, p.q_heads, p.q_len, p.k_len}, &probs);
    call.buffers.probs = AddressOf(view);
  }
  call.Run(plan);
  if (for_backward.is_valid()) {
    nb::list pending;
    pending.append(out);
    pending.append(lse);
    pending.append(wanted.probs ? probs : nb::none());
    pending.append(for_backward);
    return pending;
  }
  if (wanted.lse && wanted.probs) return nb::make_tuple(out, lse, probs);
  if (wanted.lse) return nb::make_tuple(out, lse);
  if (wanted.probs) return nb::make_tuple(out, probs);
  return out;
}

template <std::size_t... I>
void Add(nb::module_& m, std::index_sequence<I...>) {
  m.def(
      "attention",
      [](nb::handle q, nb::handle k, nb::handle v, Each<I>... options, nb::handle return_lse,
         nb::handle return_probs, bool f32_out, int guard, bool heads_first) {
        const nb::handle o[] = {options...};
        return Forward(q, k, v, o,
                       {Flag(return_lse, "return_lse"), Flag(return_probs, "return_probs"), f32_out,
                        heads_first, static_cast<Guard>(guard)});
      },
      nb::arg("q").none(), nb::arg("k").none(), nb::arg("v").none(),
      nb::arg(kOptionNames[I]).none()..., nb::arg("return_lse"), nb::arg("return_probs"),
      nb::arg("f32_out"), nb::arg("guard"), nb::arg("heads_first"),
      "heed.attention on arrays of one library. f32_out: the output and probabilities in float32.\n"
      "heads_first, torch alone: (B, H, S, D) in and out, which lies contiguous if q does, else "
      "as\n"
      "(B, S, H, D).\n"
      "guard: 1 looks who else has a say in a call on torch tensors. A dispatch mode, a function\n"
      "transform, tracing, autocast, tensors that are not plain: NotImplemented. Autograd alone:\n"
      "[out, lse, probs or None, (options without arrays, arrays, their places)], for its graph.\n"
      "2 does not look at autocast; 0 does not look.");
}

}  // namespace

void AddAttention(nb::module_& m) { Add(m, OptionIndices{}); }

}  // namespace heed::python
