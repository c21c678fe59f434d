// backward.cpp: _core.attention_backward. Not here: how its keywords are read (call_options.cpp).
#include "call.h"
#include "functions.h"

namespace heed::python {
namespace {

struct Results {
  nb::handle dout, o, lse, dlse;
};
struct Wanted {
  bool dbias, dsinks, f32, guarded, heads_first;
};

bool IsPlain(const Results& given, nb::handle q, nb::handle k, nb::handle v, const nb::handle* o) {
  nb::handle tensors[7 + kOptions];
  int n = 0;
  for (const nb::handle t : {given.dout, given.o, given.lse, given.dlse, q, k, v}) {
    if (IsTorch(t)) tensors[n++] = t;
  }
  for (int i = 0; i < kOptions; i++) {
    if (IsTorch(o[i])) tensors[n++] = o[i];
  }
  return TorchIsPlain(tensors, n);
}

// lse or its gradient: f32, contiguous.
const float* RowState(Call& call, nb::handle array, const char* name) {
  const Problem& p = call.problem;
  const View view = call.Read(array, name);
  if (view.element != Element::kF32) {
    Raise(std::string(name) + " has the dtype " + ElementText(view, array) +
          ": it must be float32");
  }
  if (p.ragged) {
    CheckShape(view, name, {p.q_heads, p.total_q}, "(H, T)");
  } else {
    CheckShape(view, name, {p.batch, p.q_heads, p.q_len}, "(B, H, Sq)");
  }
  if (!view.contiguous()) Raise(std::string(name) + " is not contiguous: make a contiguous copy");
  return static_cast<const float*>(AddressOf(view));
}

View OutputLike(Call& call, nb::handle array, const char* name) {
  const Problem& p = call.problem;
  const View view = call.ReadRows(array, name, p.ragged ? 3 : 4);
  if (view.element != FromDType(p.dtype)) {
    Raise(std::string(name) + " is " + ElementText(view, array) + " and q is " + Name(p.dtype) +
          ": they must be of one dtype");
  }
  if (p.ragged) {
    CheckShape(view, name, {p.total_q, p.q_heads, p.dim_v}, "(T, H, Dv)");
  } else {
    CheckShape(view, name, {p.batch, p.q_len, p.q_heads, p.dim_v}, "(B, Sq, H, Dv)");
  }
  return view;
}

nb::object Backward(nb::handle q, nb::handle k, nb::handle v, const Results& given,
                    const nb::handle* o, const Wanted& wanted) {
  if (wanted.guarded && IsTorch(q) && !IsPlain(given, q, k, v, o)) return NotHere();
  Call call(q, "q");
  if (wanted.heads_first) call.TakeHeadsFirst();
  call.ReadQkv(q, k, v, Given(o[kCuSeqlensQ]));
  call.ReadOptions(o);
  Problem& p = call.problem;
  Buffers& b = call.buffers;
  p.op = Op::kBackward;
  p.want_dbias = wanted.dbias;
  p.want_dsinks = wanted.dsinks;
  p.f32_grads = wanted.f32;
  View view = OutputLike(call, given.dout, "dout");
  p.dout_strides = RowStrides(view);
  b.dout = AddressOf(view);
  view = OutputLike(call, given.o, "o");
  p.o_strides = RowStrides(view);
  b.o = AddressOf(view);
  b.lse = const_cast<float*>(RowState(call, given.lse, "lse"));
  if (Given(given.dlse)) {
    p.dlse = true;
    b.dlse = RowState(call, given.dlse, "dlse");
  }
  const Call::Rows q_rows{p.q_len, p.total_q, p.q_heads, p.dim, call.dense_q};
  const Call::Rows k_rows{p.k_len, p.total_k, p.k_heads, p.dim, call.dense_k};
  const Call::Rows v_rows{p.k_len, p.total_k, p.k_heads, p.dim_v, call.dense_v};
  p.dq_strides = call.StridesOf(q_rows);
  p.dk_strides = call.StridesOf(k_rows);
  p.dv_strides = call.StridesOf(v_rows);
  const Plan plan = call.MakePlan();

  const Element element = wanted.f32 ? Element::kF32 : FromDType(p.dtype);
  nb::object dq, dk, dv, dbias = nb::none(), dsinks = nb::none();
  b.dq = call.NewRows(element, q_rows, &dq);
  b.dk = call.NewRows(element, k_rows, &dk);
  b.dv = call.NewRows(element, v_rows, &dv);
  if (wanted.dbias) {
    const Element of_bias = wanted.f32 ? Element::kF32 : FromDType(p.bias_dtype);
    view = call.arrays.New(of_bias, {p.bias.batch, p.bias.heads, p.bias.rows, p.bias.cols}, &dbias);
    b.dbias = AddressOf(view);
  }
  if (wanted.dsinks) {
    view = call.arrays.New(Element::kF32, {p.q_heads}, &dsinks);
    b.dsinks = static_cast<float*>(AddressOf(view));
  }
  call.Run(plan);
  return nb::make_tuple(dq, dk, dv, dbias, dsinks);
}

template <std::size_t... I>
void Add(nb::module_& m, std::index_sequence<I...>) {
  m.def(
      "attention_backward",
      [](nb::handle dout, nb::handle q, nb::handle k, nb::handle v, nb::handle out, nb::handle lse,
         nb::handle dlse, Each<I>... options, nb::handle want_dbias, nb::handle want_dsinks,
         nb::handle f32_grads, bool guarded, bool heads_first) {
        const nb::handle o[] = {options...};
        return Backward(q, k, v, {dout, out, lse, dlse}, o,
                        {Flag(want_dbias, "return_dbias"), Flag(want_dsinks, "return_dsinks"),
                         Flag(f32_grads, "f32_grads"), guarded, heads_first});
      },
      nb::arg("dout").none(), nb::arg("q").none(), nb::arg("k").none(), nb::arg("v").none(),
      nb::arg("o").none(), nb::arg("lse").none(), nb::arg("dlse").none(),
      nb::arg(kOptionNames[I]).none()..., nb::arg("want_dbias"), nb::arg("want_dsinks"),
      nb::arg("f32_grads"), nb::arg("guarded"), nb::arg("heads_first"),
      "(dq, dk, dv, dbias, dsinks), the last two None where they are not wanted. dbias has four "
      "axes.\n"
      "guarded: NotImplemented where torch tensors are not plain. heads_first: as in attention.");
}

}  // namespace

void AddBackward(nb::module_& m) { Add(m, OptionIndices{}); }

}  // namespace heed::python
