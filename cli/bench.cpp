// cli/bench.cpp: `heed bench`: one problem timed, beside the peak of this machine and, on request,
// the standard way. Not here: measuring (bench/).
#include <fmt/format.h>

#include "bench/measure.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/options_parse.h"
#include "cli/tile_svg.h"
#include "cli/words.h"
#include "heed/heed.h"

namespace heed::cli {
namespace {

constexpr const char* kBenchExamples =
    "  heed bench                                       one head, 2048 tokens, d = 64, f32\n"
    "  heed bench --sq 8192 --d 128 --dtype bf16 --causal --threads 1\n"
    "  heed bench --sq 4096 --standard                  beside OpenBLAS and a softmax of all "
    "scores\n"
    "  heed bench --sq 1 --sk 16 --threads 1 --one-shot latency of a call that plans every time\n"
    "  heed bench --batch 8 --heads 12 --sq 128 --json\n"
    "  heed bench --sq 4096 --mask blocks:64:0.25 --alibi --dropout 0.1\n"
    "  heed bench --lengths 128-2048:16 --causal        a packed batch of 16 sequences\n"
    "  heed bench --op backward --d 128 --causal --threads 1   gradients; forward+backward for "
    "both\n"
    "  heed bench --op decode --kv-total-mb 256 --heads 64 --kv-heads 8 --d 128 --dtype bf16\n"
    "  heed bench --op decode --sk 16384 --page-size 16 --layout bhsd --d 128";

struct BenchOptions {
  ProblemOptions problem;
  bench::Request request;
  bool json = false;
};

Json OrNull(double x, double unit) { return x > 0 ? Number(x / unit) : Json(nullptr); }

// The name of what is timed, as --op has it.
const char* Timed(const bench::Request& r) {
  return r.decode ? "decode" : r.with_forward ? "forward+backward" : Name(r.problem.op);
}

Json ReportJson(const bench::Report& report, const bench::Request& request) {
  const Problem& p = report.problem;
  const PlanInfo& i = report.info;
  const bench::Needs& needs = report.needs;
  const double stream = report.stream.value_or(0);
  Json j = {
      {"op", Timed(request)},
      {"dtype", heed::Name(p.dtype)},
      {"batch", p.batch},
      {"sq", p.q_len},
      {"sk", p.k_len},
      {"hq", p.q_heads},
      {"hk", p.k_heads},
      {"d", p.dim},
      {"dv", p.dim_v},
      {"causal", p.causal},
      {"isa", i.isa},
      {"backend", i.backend},
      {"kernel", i.kernel},
      {"threads", i.threads},
      {"seconds_median", Number(report.times.median)},
      {"seconds_min", Number(report.times.min)},
      {"flops", Number(needs.flops)},
      {"gflops_median", Number(report.flops_rate() / 1e9)},
      {"peak_gflops", OrNull(report.peak, 1e9)},
      {"fraction_of_peak", report.peak > 0 ? Number(report.flops_rate() / report.peak) : Json()},
      {"workspace_bytes", i.workspace_bytes},
      {"visible_pairs", Number(needs.tiles.visible_pairs)},
      {"dense_flops", Number(i.dense_flops)},
      {"bytes", Number(needs.bytes)},
      {"gbps", Number(report.bytes_rate() / 1e9)},
      {"stream_gbps", OrNull(stream, 1e9)},
      {"fraction_of_stream", stream > 0 ? Number(report.bytes_rate() / stream) : Json()},
      {"fraction_of_limit", OrNull(report.fraction_of_limit(), 1)}};
  if (report.standard) {
    j["standard_seconds_median"] = Number(report.standard->times.median);
    j["standard_bytes"] = report.standard->bytes;
    j["max_abs_difference"] = Number(report.standard->max_abs_difference);
  }
  return j;
}

// Terms of the score that hide nothing.
std::string Terms(const Problem& p) {
  std::vector<std::string> said;
  if (p.softcap > 0) said.push_back(fmt::format("softcap {}", p.softcap));
  if (p.alibi != Alibi::kNone) said.emplace_back("ALiBi");
  if (p.bias.given) {
    said.push_back(fmt::format("bias {},{},{},{} {}", p.bias.batch, p.bias.heads, p.bias.rows,
                               p.bias.cols, heed::Name(p.bias_dtype)));
  }
  if (p.sinks) said.emplace_back("sinks");
  if (p.dropout_p > 0) said.push_back(fmt::format("dropout {}", p.dropout_p));
  if (p.cache.blocks > 0) said.push_back(fmt::format("pages of {}", p.cache.rows));
  return Join(said, ", ");
}

std::string Shape(const Problem& p, const BenchOptions& o) {
  std::string text =
      fmt::format("{} {} · batch {} · {} queries, {} keys · heads {}", Timed(o.request),
                  heed::Name(p.dtype), p.batch, p.q_len, p.k_len, p.q_heads);
  if (p.k_heads != p.q_heads) text += fmt::format(" over {}", p.k_heads);
  text += p.dim == p.dim_v ? fmt::format(" · d {}", p.dim)
                           : fmt::format(" · d {}, dv {}", p.dim, p.dim_v);
  for (const std::string& more : {Describe(p, o.request.patterns), Terms(p)}) {
    if (!more.empty()) text += " · " + more;
  }
  return text;
}

void PrintText(const bench::Report& report, const BenchOptions& options) {
  const PlanInfo& i = report.info;
  const bench::Times& t = report.times;
  fmt::print("problem   {}\n", Shape(report.problem, options));
  fmt::print("plan      {}{}{} · {} · {} thread{}\n", i.backend, i.isa.empty() ? "" : " · ", i.isa,
             i.kernel, i.threads, i.threads == 1 ? "" : "s");
  fmt::print("time      {} median, {} best of {} calls{}\n", Seconds(t.median), Seconds(t.min),
             Count(static_cast<double>(t.runs)),
             options.request.one_shot ? ", planning included" : "");
  const double rate = report.flops_rate();
  fmt::print("rate      {:.1f} GFLOP/s of {} visible", rate / 1e9, Flops(report.needs.flops));
  if (report.peak > 0) {
    fmt::print("; {} of the peak of {:.1f} measured beside it ({})", Percent(rate / report.peak),
               report.peak / 1e9, report.peak_unit);
  }
  fmt::print("\n");
  if (report.stream) {
    fmt::print("stream    {:.1f} GB/s of {}; {} of a sequential read of {:.1f} GB/s beside it\n",
               report.bytes_rate() / 1e9, Bytes(report.needs.bytes),
               Percent(report.bytes_rate() / *report.stream), *report.stream / 1e9);
  }
  fmt::print("memory    {} of workspace\n", Bytes(static_cast<double>(i.workspace_bytes)));
  if (!report.standard) return;
  const bench::StandardReport& s = *report.standard;
  fmt::print("standard  {} median ({:.2f} times as long), {} of memory; OpenBLAS as {}\n",
             Seconds(s.times.median), s.times.median / t.median,
             Bytes(static_cast<double>(s.bytes)), s.core);
  fmt::print("          the two {} differ by {:.1e} at most\n",
             report.problem.op == Op::kBackward ? "sets of gradients" : "outputs",
             s.max_abs_difference);
}

int Bench(BenchOptions& options) {
  Progress progress;
  options.request.progress = [&](const std::string& what) { progress.Show(what); };
  options.request.problem = options.problem.Over({.q_len = 2048, .dim = 64});
  options.request.patterns = options.problem.patterns();
  options.request.decode = options.problem.decode();
  options.request.with_forward = options.problem.with_forward();
  const Result<bench::Report> report = bench::Measure(options.request);
  if (!report) return FailProblem(report.status());
  if (options.json) {
    Print(ReportJson(*report, options.request), -1);
  } else {
    PrintText(*report, options);
  }
  return kDone;
}

}  // namespace

void AddBench(CLI::App& program, Action* action) {
  CLI::App* command = AddCommand(
      program, "bench",
      "Time a problem on random inputs, as a share of the peak measured beside it", kBenchExamples);
  auto options = std::make_shared<BenchOptions>();
  options->problem.AddTo(*command, ProblemOptions::kAll);
  AddPlanOptions(*command, &options->request.plan);
  command
      ->add_option("--seconds", options->request.seconds,
                   "how long to time (default 1); at least three calls are made")
      ->type_name("S")
      ->check(CLI::Range(0.0, 3600.0));
  command->add_flag("--standard", options->request.standard,
                    "also time standard attention: OpenBLAS and all scores in memory");
  command->add_flag("--one-shot", options->request.one_shot,
                    "time heed::Forward, which plans on every call, instead of heed::Run");
  command
      ->add_option_function<double>(
          "--usual-peak",
          [options](const double& gigaflops) { options->request.usual_peak = gigaflops * 1e9; },
          "the peak that this machine has when it is idle, GFLOP/s: where less than 0.8 of it is "
          "measured, nothing is reported")
      ->type_name("X");
  command->add_flag("--any-peak", options->request.any_peak,
                    "report even if the peak fell below 0.8 of its best, as beside other work");
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([action, options] { *action = [options] { return Bench(*options); }; });
}

}  // namespace heed::cli
