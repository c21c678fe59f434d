// cli/demo_long.cpp: a long sequence by the engine and the standard way, side by side.
#include <algorithm>
#include <cmath>
#include <memory>

#include "bench/inputs.h"
#include "bench/measure.h"
#include "bench/standard.h"
#include "cli/command.h"
#include "cli/demo.h"
#include "cli/words.h"
#include "verify/layout.h"
#include "verify/tolerance.h"

namespace heed::cli::demo {
namespace {

constexpr std::int64_t kSampled = 32;  // rows that are compared with float64

struct Row {
  std::string name;
  double seconds = 0, bytes = 0;
  verify::Comparison error;
};

// Every (n / kSampled)-th row of one head as a problem of its own: only strides change.
Problem Sampled(Problem p) {
  const std::int64_t step = std::max<std::int64_t>(1, p.q_len / kSampled);
  p.q_len = std::min(p.q_len, kSampled);
  p.q_strides = {.row = step * p.dim};
  p.o_strides = {.row = step * p.dim_v};
  p.want_lse = false;
  return p;
}

struct Truth {
  verify::Results expected, bounds;
};

Result<Truth> TruthOf(const Problem& sampled, const Buffers& buffers) {
  Result<verify::Results> expected = Reference(sampled, buffers);
  if (!expected) return expected.status();
  verify::Results bounds = verify::BoundsFor(sampled, buffers, *expected);
  return Truth{std::move(*expected), std::move(bounds)};
}

verify::Comparison CompareRows(const Truth& truth, const Problem& sampled, const void* o) {
  return verify::Compare(truth.expected.o, truth.bounds.o,
                         verify::ViewOf(sampled, verify::Role::kO, o));
}

void Show(const Row& row, double base, const Screen& screen) {
  screen.Print("    {} {:>10} {:>8} {:>10}   {:.1e} (bound {:.1e})\n", Column(row.name, 36),
               Seconds(row.seconds), fmt::format("{:.2f} x", row.seconds / base), Bytes(row.bytes),
               row.error.error, row.error.bound);
}

Json RowJson(const Row& row) {
  return {{"name", row.name},
          {"seconds", Number(row.seconds)},
          {"bytes", Number(row.bytes)},
          {"max_error", Number(row.error.error)},
          {"bound", Number(row.error.bound)}};
}

// One dtype by the engine; with `standard` also the standard way on the same tensors.
Status Compute(const Problem& problem, const PlanOptions& options, Tally* tally, bool standard,
               std::vector<Row>* rows, std::string* why_not) {
  const Result<Plan> plan = MakePlan(problem, options);
  if (!plan) return plan.status();
  const Result<bench::Inputs> inputs = bench::Inputs::Make(plan->problem(), {}, /*seed=*/1);
  if (!inputs) return inputs.status();
  Buffers buffers = inputs->buffers();
  std::vector<std::byte> workspace(static_cast<std::size_t>(plan->workspace_bytes()));
  buffers.workspace = workspace;
  if (Status s = Run(*plan, buffers); !s) return s;
  const bench::Times times = bench::Repeat(
      1, 3, [&] { static_cast<void>(Run(*plan, buffers)); }, [] {});
  const Problem sampled = Sampled(problem);
  const Result<Truth> truth = TruthOf(sampled, buffers);
  if (!truth) return truth.status();
  rows->push_back({fmt::format("heed {} ({})", Name(problem.dtype), plan->Info().isa), times.median,
                   static_cast<double>(plan->workspace_bytes()),
                   CompareRows(*truth, sampled, buffers.o)});
  tally->Add(rows->back().error.passed());
  if (!standard) return {};

  const Result<std::unique_ptr<bench::Standard>> made = bench::Standard::Make(
      {.problem = plan->problem(), .buffers = buffers, .threads = plan->Info().threads});
  if (!made) {
    *why_not = made.status().message();
    return {};
  }
  bench::Standard& baseline = **made;
  baseline.Run();
  const bench::Times slow = bench::Repeat(
      1, 2, [&] { baseline.Run(); }, [] {});
  rows->push_back({"standard f32 (OpenBLAS " + baseline.core() + ")", slow.median,
                   static_cast<double>(baseline.bytes()),
                   CompareRows(*truth, sampled, baseline.out())});
  return {};
}

}  // namespace

Status ShowLong(std::int64_t tokens, const PlanOptions& options, const Screen& screen, Tally* tally,
                Json* json) {
  Problem problem{.q_len = tokens, .k_len = tokens, .dim = 64, .dim_v = 64};
  screen.Print(
      "\nA long sequence: {} tokens, one head, d = 64, noise, every token sees every other\n",
      Count(static_cast<double>(tokens)));
  std::vector<Row> rows;
  std::string why_not;
  {
    Progress progress;
    progress.Show("attention over a long sequence");
    if (Status s = Compute(problem, options, tally, true, &rows, &why_not); !s) return s;
    problem.dtype = DType::kBF16;
    if (Status s = Compute(problem, options, tally, false, &rows, &why_not); !s) return s;
  }
  screen.Print("\n    {} {:>10} {:>8} {:>10}   {} rows against float64\n", Column("", 36), "time",
               "", "memory", kSampled);
  for (const Row& row : rows) Show(row, rows.front().seconds, screen);
  if (!why_not.empty()) screen.Print("    {}\n", why_not);
  (*json)["long"] = {{"tokens", tokens}, {"rows", Json::array()}};
  for (const Row& row : rows) (*json)["long"]["rows"].push_back(RowJson(row));
  return {};
}

}  // namespace heed::cli::demo
