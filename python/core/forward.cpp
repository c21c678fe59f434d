// forward.cpp: _core.attention. Not here: how its keywords are read (call_options.cpp).
#include "call.h"
#include "functions.h"
#include "plans.h"

namespace heed::python {
namespace {

// Every array that a call of these arguments may have.
constexpr int kArrayOptions[] = {kAlibiSlopes, kBias,       kMask,       kBlockMap,   kSinks,
                                 kKeyLengths,  kCuSeqlensQ, kCuSeqlensK, kQueryOffset};

bool MayComputeAtOnce(nb::handle q, nb::handle k, nb::handle v, const nb::handle* o) {
  nb::handle tensors[12];
  int n = 0;
  const auto add = [&](nb::handle t) {
    if (IsTorch(t)) tensors[n++] = t;  // what else it may be is refused with a sentence
  };
  for (const nb::handle t : {q, k, v}) add(t);
  for (const int option : kArrayOptions) {
    if (Given(o[option])) add(o[option]);
  }
  return TorchMayComputeAtOnce(tensors, n);
}

struct Wanted {
  bool lse, probs, f32, guarded;
};

nb::object Forward(nb::handle q, nb::handle k, nb::handle v, const nb::handle* o,
                   const Wanted& wanted) {
  if (wanted.guarded && IsTorch(q) && !MayComputeAtOnce(q, k, v, o)) return NotHere();
  Call call(q, "q");
  call.ReadQkv(q, k, v, Given(o[kCuSeqlensQ]));
  call.ReadOptions(o);
  Problem& p = call.problem;
  p.want_lse = wanted.lse;
  p.want_probs = wanted.probs;
  if (wanted.f32) p.out_dtype = DType::kF32;
  // Before any memory is taken for results.
  const Plan plan = PlanFor(p, call.options);

  const Element element = FromDType(p.out_dtype.value_or(p.dtype));
  nb::object out, lse, probs;
  View view = p.ragged ? call.arrays.New(element, {p.total_q, p.q_heads, p.dim_v}, &out)
                       : call.arrays.New(element, {p.batch, p.q_len, p.q_heads, p.dim_v}, &out);
  call.buffers.o = AddressOf(view);
  if (wanted.lse) {
    view = p.ragged ? call.arrays.New(Element::kF32, {p.q_heads, p.total_q}, &lse)
                    : call.arrays.New(Element::kF32, {p.batch, p.q_heads, p.q_len}, &lse);
    call.buffers.lse = static_cast<float*>(AddressOf(view));
  }
  if (wanted.probs) {
    view = call.arrays.New(element, {p.batch, p.q_heads, p.q_len, p.k_len}, &probs);
    call.buffers.probs = AddressOf(view);
  }
  RunPlan(plan, call.buffers);
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
         nb::handle return_probs, bool f32_out, bool guarded) {
        const nb::handle o[] = {options...};
        return Forward(
            q, k, v, o,
            {Flag(return_lse, "return_lse"), Flag(return_probs, "return_probs"), f32_out, guarded});
      },
      nb::arg("q").none(), nb::arg("k").none(), nb::arg("v").none(),
      nb::arg(kOptionNames[I]).none()..., nb::arg("return_lse"), nb::arg("return_probs"),
      nb::arg("f32_out"), nb::arg("guarded"),
      "heed.attention on arrays of one library. f32_out: the output and probabilities in float32.\n"
      "guarded: with torch tensors, NotImplemented unless neither gradient, dispatch mode, "
      "function\n"
      "transform, tracing nor autocast is at work.");
}

}  // namespace

void AddAttention(nb::module_& m) { Add(m, OptionIndices{}); }

}  // namespace heed::python
