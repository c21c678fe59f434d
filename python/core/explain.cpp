// explain.cpp: a Plan as an object of Python, and what the build and the machine offer. Not here:
// what a plan says of itself (heed::Plan::Describe).
#include <string>

#include "call.h"
#include "functions.h"

namespace heed::python {
namespace {

// A Plan with its facts taken once.
struct PlanView {
  PlanInfo info;
  std::string text;
};

Plan PlanOf(nb::handle q, nb::handle k, nb::handle v, const nb::handle* o, bool backward, bool lse,
            bool probs, bool dbias, bool dsinks) {
  Call call(q, "q", true);
  call.ReadQkv(q, k, v, Given(o[kCuSeqlensQ]));
  call.ReadOptions(o);
  Problem& p = call.problem;
  p.op = backward ? Op::kBackward : Op::kForward;
  p.want_lse = lse;
  p.want_probs = probs && !backward;
  p.want_dbias = dbias;
  p.want_dsinks = dsinks;
  return call.MakePlan();
}

nb::list Pairs(const std::vector<Refusal>& refusals) {
  nb::list list;
  for (const Refusal& r : refusals)
    list.append(nb::make_tuple(r.backend.c_str(), r.reason.c_str()));
  return list;
}

nb::list BackendList() {
  nb::list list;
  for (const BackendInfo& b : Backends()) {
    nb::list isas;
    for (const IsaInfo& i : b.isas) {
      isas.append(nb::make_tuple(i.name.c_str(), i.usable, i.reason.c_str()));
    }
    list.append(nb::make_tuple(b.name.c_str(), b.available, b.reason.c_str(), isas));
  }
  return list;
}

template <std::size_t... I>
void AddFunction(nb::module_& m, std::index_sequence<I...>) {
  m.def(
      "explain",
      [](nb::handle q, nb::handle k, nb::handle v, Each<I>... options, nb::handle backward,
         nb::handle return_lse, nb::handle return_probs, nb::handle want_dbias,
         nb::handle want_dsinks) {
        const nb::handle o[] = {options...};
        const Plan plan =
            PlanOf(q, k, v, o, Flag(backward, "backward"), Flag(return_lse, "return_lse"),
                   Flag(return_probs, "return_probs"), Flag(want_dbias, "return_dbias"),
                   Flag(want_dsinks, "return_dsinks"));
        return PlanView{plan.Info(), plan.Describe()};
      },
      nb::arg("q").none(), nb::arg("k").none(), nb::arg("v").none(),
      nb::arg(kOptionNames[I]).none()..., nb::arg("backward"), nb::arg("return_lse"),
      nb::arg("return_probs"), nb::arg("want_dbias"), nb::arg("want_dsinks"),
      "The Plan of a call. Nothing is computed; tensors need hold no data.");
  m.def(
      "check",
      [](nb::handle q, nb::handle k, nb::handle v, Each<I>... options, nb::handle return_probs) {
        if (IsTorch(q) &&
            (TorchStandsForOthers() || (TorchIsOnDevice(q) && !TorchIsPlain(&q, 1)))) {
          return;
        }
        const nb::handle o[] = {options...};
        PlanOf(q, k, v, o, false, true, Flag(return_probs, "return_probs"), false, false);
      },
      nb::arg("q").none(), nb::arg("k").none(), nb::arg("v").none(),
      nb::arg(kOptionNames[I]).none()..., nb::arg("return_probs"),
      "Fails as attention would, before anything is computed.");
}

}  // namespace

void AddExplain(nb::module_& m) {
  nb::class_<PlanView> plan(
      m, "Plan",
      "How a call is computed. Printing it gives the lines of `heed explain`. "
      "Counts are of tiles, pairs, operations and bytes.");
  const auto text = [&](const char* name, std::string PlanInfo::*field, const char* doc) {
    plan.def_prop_ro(
        name, [field](const PlanView& v) { return nb::str((v.info.*field).c_str()); }, doc);
  };
  text("backend", &PlanInfo::backend, "the backend that computes: 'cpu', 'cuda', 'reference'");
  text("isa", &PlanInfo::isa, "the instruction set; empty where there is none");
  text("arch", &PlanInfo::arch, "the architecture, 'sm_80'; empty where there is none");
  text("kernel", &PlanInfo::kernel, "what runs");
  text("expected_limit", &PlanInfo::expected_limit, "what bounds that: 'compute', 'memory'");
  text("assumes", &PlanInfo::assumes, "what that takes of the device");
  text("workspace_formula", &PlanInfo::workspace_formula, "what the workspace is made of");
  const auto number = [&](const char* name, auto PlanInfo::*field, const char* doc) {
    plan.def_prop_ro(
        name, [field](const PlanView& v) { return v.info.*field; }, doc);
  };
  number("threads", &PlanInfo::threads, "threads it may use");
  number("tile_rows", &PlanInfo::tile_rows, "queries of a score tile");
  number("tile_keys", &PlanInfo::tile_keys, "keys of a score tile");
  number("block_rows", &PlanInfo::block_rows, "queries that share a pass over a block of keys");
  number("block_keys", &PlanInfo::block_keys, "keys of that block");
  number("items", &PlanInfo::items, "independent pieces of work");
  number("tiles_full", &PlanInfo::tiles_full, "tiles computed without a mask");
  number("tiles_edge", &PlanInfo::tiles_edge, "tiles computed and masked");
  number("tiles_empty", &PlanInfo::tiles_empty, "tiles skipped");
  number("workspace_bytes", &PlanInfo::workspace_bytes, "bytes of scratch memory");
  number("block_shared_bytes", &PlanInfo::block_shared_bytes,
         "shared memory of a block on a device");
  number("launches", &PlanInfo::launches, "kernels launched on a device");
  number("block_threads", &PlanInfo::block_threads, "threads of a block on a device");
  number("blocks_at_once", &PlanInfo::blocks_at_once, "blocks of a multiprocessor at a time");
  number("visible_pairs", &PlanInfo::visible_pairs,
         "pairs of a query and a key that see each other");
  number("flops", &PlanInfo::flops, "operations for these pairs");
  number("dense_flops", &PlanInfo::dense_flops, "operations for all pairs");
  number("expected_seconds", &PlanInfo::expected_seconds, "on a device, at best");
  number("bytes_min", &PlanInfo::bytes_min, "bytes, each input read and each output written once");
  number("bytes_moved", &PlanInfo::bytes_moved, "bytes from the outer caches into the cores");
  number("bytes_standard", &PlanInfo::bytes_standard,
         "bytes that attention with its matrices stored moves");
  plan.def_prop_ro(
      "besides", [](const PlanView& v) { return Pairs(v.info.besides); },
      "(backend, when): who would serve it, too");
  plan.def_prop_ro(
      "refused", [](const PlanView& v) { return Pairs(v.info.refused); },
      "(backend, reason): who would not");
  const auto describe = [](const PlanView& v) { return nb::str(v.text.c_str()); };
  plan.def("__str__", describe);
  plan.def("__repr__", describe);
  AddFunction(m, OptionIndices{});

  m.def(
      "version", [] { return nb::str(Version()); }, "\"major.minor.patch\" of the library.");
  m.def(
      "backends", &BackendList,
      "[(name, available, reason, [(instruction set, usable, reason)])], in the order of choice.");
  m.def("has_cuda_kernels", &HasCudaKernels,
        "Whether this build has CUDA kernels; there may be no device all the same.");
  m.def("available_threads", &AvailableThreads,
        "Threads that this process may use: affinity and cgroup limits respected.");
  m.def(
      "last_isa", [] { return nb::str(LastIsa()); },
      "The instruction set whose kernels ran last on this thread; for tests.");
  m.def("forget_plans", &ForgetPlans,
        "Forgets the plans kept, so that the next see HEED_ISA as it is.");
  m.def("plans_kept", &PlansKept, "How many plans are kept now.");
}

}  // namespace heed::python
