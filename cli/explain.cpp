// cli/explain.cpp: `heed explain`: the Plan of a problem, or every reason why there is none.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <optional>

#include "bench/arrays.h"
#include "bench/needs.h"
#include "bench/peak.h"
#include "bench/stream.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/options_parse.h"
#include "cli/tile_svg.h"
#include "cli/words.h"
#include "heed/heed.h"

namespace heed::cli {
namespace {

constexpr const char* kExplainExamples =
    "  heed explain --sq 8192 --heads 32 --kv-heads 8 --d 128 --dtype bf16 --causal\n"
    "  heed explain --sq 1 --sk 65536 --heads 32 --kv-heads 8 --d 128 --dtype bf16\n"
    "  heed explain --sq 4096 --mask blocks:64:0.25 --svg tiles.svg\n"
    "  heed explain --lengths 128-2048:16 --causal         # a packed batch of 16 sequences\n"
    "  heed explain --sq 4096 --dtype f64                  # refused requests say why\n"
    "  heed explain --sq 4096 --heads 8 --op backward      # gradients: products, workspace\n"
    "  heed explain --sq 512 --op backward --backend reference --json\n"
    "  heed explain --sq 4096 --heads 32 --d 128 --dtype bf16 --backend cuda --arch sm_80   # no "
    "GPU needed";

struct ExplainOptions {
  ProblemOptions problem;
  PlanOptions plan;
  bool json = false;
  std::string svg;   // a file for the map of tiles
  std::string head;  // "B,H" of the map
};

Json RefusalsJson(const std::vector<Refusal>& refused) {
  Json list = Json::array();
  for (const Refusal& r : refused) list.push_back({{"backend", r.backend}, {"reason", r.reason}});
  return list;
}

// What the arithmetic alone takes on this machine, and where memory may bound the call the reading:
// probes of some milliseconds. No peak (0) where the backend has no instruction set.
struct Limit {
  double peak = 0;  // flops per second
  std::string unit;
  double stream = 0;  // bytes per second

  double compute_seconds(const bench::Needs& n) const { return peak > 0 ? n.flops / peak : 0; }
  double memory_seconds(const bench::Needs& n) const { return stream > 0 ? n.bytes / stream : 0; }
  bool memory(const bench::Needs& n) const { return memory_seconds(n) > compute_seconds(n); }
};

Limit LimitOf(const Plan& plan, const PlanInfo& info, const bench::Needs& needs) {
  bench::PeakProbe probe(info.isa, plan.problem().dtype, info.threads);
  probe.Sample(8);
  Limit limit = {.peak = probe.best(), .unit = probe.unit(), .stream = 0};
  if (limit.peak > 0 && needs.memory_bound()) {
    constexpr double kMost = 256e6;
    bench::ReadStream stream(info.isa, info.threads,
                             static_cast<std::int64_t>(std::min(needs.bytes, kMost)));
    for (int n = 0; n < 3; ++n) stream.Sample();
    limit.stream = stream.median();
  }
  return limit;
}

// The plan, and what is known beyond it where arrays are made up.
struct Explained {
  Plan plan;
  PlanInfo info;
  bool arrays = false;  // counts are those of arrays
  bench::Needs needs;
  std::optional<TileMap> map;
};

Result<Explained> Look(const Plan& plan, const ExplainOptions& o, std::int64_t b, std::int64_t h) {
  Explained e = {.plan = plan, .info = plan.Info(), .arrays = false, .needs = {}, .map = {}};
  const bench::Patterns& patterns = o.problem.patterns();
  const PlanInfo& i = e.info;
  e.needs = {.tiles = {i.tiles_full, i.tiles_edge, i.tiles_empty, i.visible_pairs},
             .flops = i.flops,
             .bytes = i.bytes_min};
  e.arrays = patterns.decides();
  if (!e.arrays && o.svg.empty() && !o.problem.decode()) return e;
  const Result<bench::Arrays> arrays = bench::Arrays::Make(plan.problem(), patterns, /*seed=*/1);
  if (!arrays) return arrays.status();
  Buffers buffers;
  arrays->AddTo(&buffers);
  const Result<bench::Needs> needs =
      bench::NeedsOf(plan, buffers, patterns.v_in_k, o.problem.decode());
  if (!needs) return needs.status();
  if (e.arrays || o.problem.decode()) e.needs = *needs;
  if (o.svg.empty()) return e;
  Result<TileMap> map = MapTiles(plan, buffers, b, h);
  if (!map) return map.status();
  e.map = std::move(*map);
  return e;
}

Json OrNull(double x) { return x > 0 ? Number(x) : Json(nullptr); }

Json PlanJson(const Explained& e) {
  const PlanInfo& i = e.info;
  const Limit limit = LimitOf(e.plan, i, e.needs);
  return {{"status", "ok"},
          {"problem", ToJson(e.plan.problem())},
          {"backend", i.backend},
          {"isa", i.isa},
          {"arch", i.arch},
          {"kernel", i.kernel},
          {"threads", i.threads},
          {"tile_rows", i.tile_rows},
          {"tile_keys", i.tile_keys},
          {"block_rows", i.block_rows},
          {"block_keys", i.block_keys},
          {"items", i.items},
          {"launches", i.launches},
          {"block_threads", i.block_threads},
          {"block_shared_bytes", i.block_shared_bytes},
          {"blocks_at_once", i.blocks_at_once},
          {"counts_from", e.arrays ? "arrays" : "geometry"},
          {"tiles_full", e.needs.tiles.full},
          {"tiles_edge", e.needs.tiles.edge},
          {"tiles_empty", e.needs.tiles.empty},
          {"visible_pairs", Number(e.needs.tiles.visible_pairs)},
          {"flops", Number(e.needs.flops)},
          {"dense_flops", Number(i.dense_flops)},
          {"bytes", Number(e.needs.bytes)},
          {"bytes_min", Number(i.bytes_min)},
          {"bytes_moved", Number(i.bytes_moved)},
          {"bytes_standard", Number(i.bytes_standard)},
          {"limit", limit.peak <= 0         ? Json(nullptr)
                    : limit.memory(e.needs) ? "memory"
                                            : "compute"},
          {"peak_gflops", OrNull(limit.peak / 1e9)},
          {"seconds_at_peak", limit.peak > 0 ? Number(limit.compute_seconds(e.needs)) : Json()},
          {"expected_seconds", OrNull(i.expected_seconds)},
          {"expected_limit", i.expected_limit},
          {"assumes", i.assumes},
          {"stream_gbps", OrNull(limit.stream / 1e9)},
          {"seconds_at_stream", OrNull(limit.memory_seconds(e.needs))},
          {"workspace_bytes", i.workspace_bytes},
          {"workspace_formula", i.workspace_formula},
          {"besides", RefusalsJson(i.besides)},
          {"refused", RefusalsJson(i.refused)}};
}

void PrintText(const Explained& e, const bench::Patterns& patterns) {
  const std::string text = e.plan.Describe();
  fmt::print("{}{}", text, text.empty() || text.back() == '\n' ? "" : "\n");
  if (e.arrays) {
    fmt::print("arrays    {}: {}; {} of {} visible pairs\n", Describe(patterns),
               TileCounts(e.needs.tiles), Flops(e.needs.flops), Count(e.needs.tiles.visible_pairs));
  }
  const Limit limit = LimitOf(e.plan, e.info, e.needs);
  if (limit.peak <= 0) return;
  const char* s = e.info.threads == 1 ? "" : "s";
  if (limit.memory(e.needs)) {
    fmt::print(
        "expected  {} or more, limited by memory: {} at {:.1f} GB/s, a sequential read by {} "
        "thread{} here\n",
        Seconds(limit.memory_seconds(e.needs)), Bytes(e.needs.bytes), limit.stream / 1e9,
        e.info.threads, s);
  } else {
    fmt::print(
        "expected  {} or more, limited by compute: the arithmetic at {:.1f} GFLOP/s, the peak of "
        "{} thread{} here ({})\n",
        Seconds(limit.compute_seconds(e.needs)), limit.peak / 1e9, e.info.threads, s, limit.unit);
  }
}

int WriteSvg(const ExplainOptions& o, const Explained& e, std::int64_t b, std::int64_t h) {
  const Problem& p = e.plan.problem();
  std::string title = fmt::format("{} {} × {} keys", e.map->q_len,
                                  e.map->q_len == 1 ? "query" : "queries", e.map->k_len);
  if (p.batch * p.q_heads > 1) title += fmt::format(", head {} of entry {}", h, b);
  const std::string said = Describe(p, o.problem.patterns());
  if (!said.empty()) title += " · " + said;
  std::ofstream file(o.svg, std::ios::binary);
  file << TileSvg(*e.map, title);
  file.close();
  if (!file) return Fail(kFile, o.svg + ": cannot be written");
  return kDone;
}

// Every backend is asked by name, so that each gives its own reason.
int ExplainRefusal(const Status& status, const ExplainOptions& options, const Problem& problem) {
  std::vector<Refusal> refused;
  std::vector<std::string> serving;
  if (status.code() == StatusCode::kRefused) {
    for (const BackendInfo& backend : Backends()) {
      PlanOptions named = options.plan;
      named.backend = backend.name;
      if (backend.archs.empty()) named.arch = "auto";
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

int Explain(ExplainOptions& options) {
  const Problem problem = options.problem.Over({.q_len = 2048, .dim = 64});
  std::vector<std::int64_t> head = {0, 0};
  if (!options.head.empty()) {
    head = ParseIntegers("--svg-head", options.head, 2, "two numbers B,H, both from 0");
  }
  if (options.problem.with_forward()) {
    Reject("--op", "forward+backward", "one plan: forward or backward");
  }
  const Result<Plan> plan = MakePlan(problem, options.plan);
  if (!plan) return ExplainRefusal(plan.status(), options, problem);
  const Result<Explained> e = Look(*plan, options, head[0], head[1]);
  if (!e) return FailProblem(e.status());
  if (e->map) {
    if (const int code = WriteSvg(options, *e, head[0], head[1]); code != kDone) return code;
  }
  if (options.json) {
    Print(PlanJson(*e));
  } else {
    PrintText(*e, options.problem.patterns());
  }
  return kDone;
}

}  // namespace

void AddExplain(CLI::App& program, Action* action) {
  CLI::App* command = AddCommand(
      program, "explain",
      "How a problem would be computed (tiles, memory, flops, bytes), or why it is refused",
      kExplainExamples);
  auto options = std::make_shared<ExplainOptions>();
  options->problem.AddTo(*command, ProblemOptions::kAll);
  AddPlanOptions(*command, &options->plan);
  CLI::Option* svg =
      command->add_option("--svg", options->svg, "draw the map of tiles: skipped, masked, full")
          ->type_name("FILE");
  command
      ->add_option("--svg-head", options->head,
                   "batch entry and query head of the map (default 0,0)")
      ->type_name("B,H")
      ->needs(svg);
  command->add_flag("--json", options->json, "print JSON");
  command->callback([action, options] { *action = [options] { return Explain(*options); }; });
}

}  // namespace heed::cli
