// cli/explain.cpp: `heed explain`: the Plan of a problem, or every reason why there is none.
#include <fmt/format.h>

#include "bench/peak.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/words.h"
#include "heed/heed.h"

namespace heed::cli {
namespace {

constexpr const char* kExamples =
    "  heed explain --sq 8192 --heads 32 --kv-heads 8 --d 128 --dtype bf16 --causal\n"
    "  heed explain --sq 1 --sk 65536 --heads 32 --kv-heads 8 --d 128 --dtype bf16\n"
    "  heed explain --sq 4096 --softcap 30                 # refused options say why\n"
    "  heed explain --sq 512 --op backward --backend reference --json";

struct Options {
  ProblemOptions problem;
  PlanOptions plan;
  bool json = false;
};

Json RefusalsJson(const std::vector<Refusal>& refused) {
  Json list = Json::array();
  for (const Refusal& r : refused) list.push_back({{"backend", r.backend}, {"reason", r.reason}});
  return list;
}

// What the arithmetic alone takes on this machine: a probe of a few milliseconds. No peak (0) where
// the backend has no instruction set.
struct Limit {
  double peak = 0;  // flops per second
  std::string unit;
  double seconds = 0;
};

Limit LimitOf(const Plan& plan, const PlanInfo& info) {
  bench::PeakProbe probe(info.isa, plan.problem().dtype, info.threads);
  probe.Sample(8);
  if (probe.best() <= 0) return {};
  return {.peak = probe.best(), .unit = probe.unit(), .seconds = info.flops / probe.best()};
}

Json PlanJson(const Plan& plan) {
  const PlanInfo i = plan.Info();
  const Limit limit = LimitOf(plan, i);
  return {{"status", "ok"},
          {"problem", ToJson(plan.problem())},
          {"backend", i.backend},
          {"isa", i.isa},
          {"kernel", i.kernel},
          {"threads", i.threads},
          {"tile_rows", i.tile_rows},
          {"tile_keys", i.tile_keys},
          {"block_rows", i.block_rows},
          {"block_keys", i.block_keys},
          {"items", i.items},
          {"tiles_full", i.tiles_full},
          {"tiles_edge", i.tiles_edge},
          {"tiles_empty", i.tiles_empty},
          {"visible_pairs", Number(i.visible_pairs)},
          {"flops", Number(i.flops)},
          {"dense_flops", Number(i.dense_flops)},
          {"bytes_min", Number(i.bytes_min)},
          {"bytes_moved", Number(i.bytes_moved)},
          {"bytes_standard", Number(i.bytes_standard)},
          {"peak_gflops", limit.peak > 0 ? Number(limit.peak / 1e9) : Json(nullptr)},
          {"seconds_at_peak", limit.peak > 0 ? Number(limit.seconds) : Json(nullptr)},
          {"workspace_bytes", i.workspace_bytes},
          {"workspace_formula", i.workspace_formula},
          {"besides", RefusalsJson(i.besides)},
          {"refused", RefusalsJson(i.refused)}};
}

// Every backend is asked by name, so that each gives its own reason.
int ExplainRefusal(const Status& status, const Options& options, const Problem& problem) {
  std::vector<Refusal> refused;
  std::vector<std::string> serving;
  if (status.code() == StatusCode::kRefused) {
    for (const BackendInfo& backend : Backends()) {
      PlanOptions named = options.plan;
      named.backend = backend.name;
      const Result<Plan> plan = MakePlan(problem, named);
      if (plan) {
        serving.push_back(backend.name);
      } else {
        const std::string &why = plan.status().message(),
                          said = "the " + backend.name + " backend refuses: ";
        refused.push_back({backend.name, why.rfind(said, 0) == 0 ? why.substr(said.size()) : why});
      }
    }
  }
  const char* word = status.code() == StatusCode::kRefused ? "refused" : "invalid";
  if (options.json) {
    Print({{"status", word},
           {"reason", status.message()},
           {"problem", ToJson(problem)},
           {"refused", RefusalsJson(refused)},
           {"would_serve", serving}});
  } else {
    for (const Refusal& r : refused) fmt::print("refused   {}: {}\n", r.backend, r.reason);
    for (const std::string& name : serving) {
      fmt::print("serves    {}, when asked for by name: --backend {}\n", name, name);
    }
  }
  return FailProblem(status);
}

int Explain(const Options& options) {
  const Problem problem = options.problem.Over({.q_len = 2048, .dim = 64});
  const Result<Plan> plan = MakePlan(problem, options.plan);
  if (!plan) return ExplainRefusal(plan.status(), options, problem);
  if (options.json) {
    Print(PlanJson(*plan));
    return kDone;
  }
  const std::string text = plan->Describe();
  fmt::print("{}{}", text, text.empty() || text.back() == '\n' ? "" : "\n");
  const PlanInfo info = plan->Info();
  if (const Limit limit = LimitOf(*plan, info); limit.peak > 0) {
    fmt::print(
        "expected  {} or more: the arithmetic at {:.1f} GFLOP/s, the peak of {} thread{} here "
        "({})\n",
        Seconds(limit.seconds), limit.peak / 1e9, info.threads, info.threads == 1 ? "" : "s",
        limit.unit);
  }
  return kDone;
}

}  // namespace

void AddExplain(CLI::App& program, Action* action) {
  CLI::App* command = AddCommand(
      program, "explain",
      "How a problem would be computed (tiles, memory, flops, bytes), or why it is refused",
      kExamples);
  auto options = std::make_shared<Options>();
  options->problem.AddTo(*command, ProblemOptions::kAll);
  AddPlanOptions(*command, &options->plan);
  command->add_flag("--json", options->json, "print JSON");
  command->callback([action, options] { *action = [options] { return Explain(*options); }; });
}

}  // namespace heed::cli
