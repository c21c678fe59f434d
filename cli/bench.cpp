// cli/bench.cpp: `heed bench`: one problem timed, beside the peak of this machine and, on request,
// the standard way. Not here: measuring (bench/).
#include <fmt/format.h>

#include "bench/measure.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/options_parse.h"
#include "cli/words.h"
#include "heed/heed.h"

namespace heed::cli {
namespace {

constexpr const char* kExamples =
    "  heed bench                                       one head, 2048 tokens, d = 64, f32\n"
    "  heed bench --sq 8192 --d 128 --dtype bf16 --causal --threads 1\n"
    "  heed bench --sq 4096 --standard                  beside OpenBLAS and a softmax of all "
    "scores\n"
    "  heed bench --sq 1 --sk 16 --threads 1 --one-shot latency of a call that plans every time\n"
    "  heed bench --batch 8 --heads 12 --sq 128 --json";

struct Options {
  ProblemOptions problem;
  bench::Request request;
  bool json = false;
};

Json ReportJson(const bench::Report& report) {
  const Problem& p = report.problem;
  const PlanInfo& i = report.info;
  const double rate = i.flops / report.times.median;
  Json j = {{"op", Name(p.op)},
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
            {"flops", Number(i.flops)},
            {"gflops_median", Number(rate / 1e9)},
            {"peak_gflops", report.peak > 0 ? Number(report.peak / 1e9) : Json(nullptr)},
            {"fraction_of_peak", report.peak > 0 ? Number(rate / report.peak) : Json(nullptr)},
            {"workspace_bytes", i.workspace_bytes}};
  if (report.stream) {
    const double bytes = i.bytes_min / report.times.median;
    j["bytes"] = Number(i.bytes_min);
    j["gbytes_per_second"] = Number(bytes / 1e9);
    j["stream_gbytes_per_second"] = Number(*report.stream / 1e9);
    j["fraction_of_stream"] = Number(bytes / *report.stream);
  }
  if (report.standard) {
    j["standard_seconds_median"] = Number(report.standard->times.median);
    j["standard_bytes"] = report.standard->bytes;
    j["max_abs_difference"] = Number(report.standard->max_abs_difference);
  }
  return j;
}

std::string Shape(const Problem& p) {
  std::string text = fmt::format("{} {} · batch {} · {} queries, {} keys · heads {}", Name(p.op),
                                 heed::Name(p.dtype), p.batch, p.q_len, p.k_len, p.q_heads);
  if (p.k_heads != p.q_heads) text += fmt::format(" over {}", p.k_heads);
  text += p.dim == p.dim_v ? fmt::format(" · d {}", p.dim)
                           : fmt::format(" · d {}, dv {}", p.dim, p.dim_v);
  return p.causal ? text + " · causal" : text;
}

void PrintText(const bench::Report& report, bool one_shot) {
  const PlanInfo& i = report.info;
  const bench::Times& t = report.times;
  fmt::print("problem   {}\n", Shape(report.problem));
  fmt::print("plan      {}{}{} · {} · {} thread{}\n", i.backend, i.isa.empty() ? "" : " · ", i.isa,
             i.kernel, i.threads, i.threads == 1 ? "" : "s");
  fmt::print("time      {} median, {} best of {} calls{}\n", Seconds(t.median), Seconds(t.min),
             Count(static_cast<double>(t.runs)), one_shot ? ", planning included" : "");
  const double rate = i.flops / t.median;
  fmt::print("rate      {:.1f} GFLOP/s of {} visible", rate / 1e9, Flops(i.flops));
  if (report.peak > 0) {
    fmt::print("; {} of the peak of {:.1f} measured beside it ({})", Percent(rate / report.peak),
               report.peak / 1e9, report.peak_unit);
  }
  fmt::print("\n");
  if (report.stream) {
    const double bytes = i.bytes_min / t.median;
    fmt::print("stream    {:.1f} GB/s of {}; {} of a sequential read of {:.1f} GB/s\n", bytes / 1e9,
               Bytes(i.bytes_min), Percent(bytes / *report.stream), *report.stream / 1e9);
  }
  fmt::print("memory    {} of workspace\n", Bytes(static_cast<double>(i.workspace_bytes)));
  if (!report.standard) return;
  const bench::StandardReport& s = *report.standard;
  fmt::print("standard  {} median ({:.2f} times as long), {} of memory; OpenBLAS as {}\n",
             Seconds(s.times.median), s.times.median / t.median,
             Bytes(static_cast<double>(s.bytes)), s.core);
  fmt::print("          the two outputs differ by {:.1e} at most\n", s.max_abs_difference);
}

int Bench(Options& options) {
  Progress progress;
  options.request.progress = [&](const std::string& what) { progress.Show(what); };
  options.request.problem = options.problem.Over({.q_len = 2048, .dim = 64});
  const Result<bench::Report> report = bench::Measure(options.request);
  if (!report) return FailProblem(report.status());
  if (options.json) {
    Print(ReportJson(*report), -1);
  } else {
    PrintText(*report, options.request.one_shot);
  }
  return kDone;
}

}  // namespace

void AddBench(CLI::App& program, Action* action) {
  CLI::App* command = AddCommand(
      program, "bench",
      "Time a problem on random inputs, as a share of the peak measured beside it", kExamples);
  auto options = std::make_shared<Options>();
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
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([action, options] { *action = [options] { return Bench(*options); }; });
}

}  // namespace heed::cli
