// cli/check.cpp: `heed check`: conformance cases through the runner, a line each. Not here: judging
// (verify/).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/options_parse.h"
#include "cli/words.h"
#include "heed/heed.h"
#include "verify/conformance.h"

namespace heed::cli {
namespace {

constexpr const char* kCheckExamples =
    "  heed check tests/data/conformance --backend reference --backward\n"
    "  heed check tests/data/conformance/causal_square.safetensors --dtype bf16\n"
    "  heed check tests/data/conformance --isa avx2 --threads 2 --json\n"
    "\n"
    "The exit code is 0 only if no case failed and none was refused.";

struct CheckOptions {
  std::vector<std::string> paths;
  std::string dtype = "f32";
  verify::RunOptions run;
  bool json = false;
};

void PrintCase(const verify::CaseResult& result, bool json) {
  if (json) {
    Print({{"case", result.name},
           {"status", verify::Name(result.status)},
           {"reason", result.reason},
           {"max_error", Number(result.max_error)},
           {"bound", Number(result.bound)}},
          -1);
    return;
  }
  std::string line = Column(verify::Name(result.status), 9) + Column(result.name, 40);
  if (!result.tensor.empty()) {
    line += fmt::format(" {:<6} worst error {:.2e} of {:.2e} at [{}]", result.tensor,
                        result.max_error, result.bound, fmt::join(result.at, ", "));
  }
  if (!result.reason.empty()) line += "  " + result.reason;
  fmt::print("{}\n", line);
}

int Check(const CheckOptions& options) {
  verify::RunOptions run = options.run;
  run.dtype = *DTypeNamed(options.dtype);
  // A backend or instruction set that does not exist is one error, not one of every case.
  const Result<Plan> plan =
      MakePlan({.q_len = 1, .k_len = 1, .dim = 1, .dtype = run.dtype}, run.plan);
  if (!plan) return FailProblem(plan.status());
  const Result<std::vector<std::string>> files = verify::ExpandPaths(options.paths);
  if (!files) return FailFile(files.status());

  int passed = 0, failed = 0, refused = 0;
  for (const std::string& path : *files) {
    verify::CaseResult result;
    {
      Progress progress;  // gone before the line is printed
      progress.Show(fmt::format("{} of {}", passed + failed + refused + 1, files->size()));
      result = verify::RunCase(path, run);
    }
    switch (result.status) {
      case verify::CaseStatus::kPass:
        ++passed;
        break;
      case verify::CaseStatus::kFail:
        ++failed;
        break;
      case verify::CaseStatus::kRefused:
        ++refused;
        break;
    }
    PrintCase(result, options.json);
  }
  if (options.json) {
    Print({{"passed", passed}, {"failed", failed}, {"refused", refused}}, -1);
  } else {
    fmt::print("{} passed, {} failed, {} refused\n", passed, failed, refused);
  }
  return failed + refused == 0 ? kDone : kFailed;
}

}  // namespace

void AddCheck(CLI::App& program, Action* action) {
  CLI::App* command =
      AddCommand(program, "check", "Run conformance cases and compare with the derived tolerance",
                 kCheckExamples);
  auto options = std::make_shared<CheckOptions>();
  command->add_option("PATH", options->paths, "case files (.safetensors), or folders of them")
      ->required();
  command->add_option("--dtype", options->dtype, "round the inputs to f32 (default), bf16 or f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->type_name("TYPE");
  command->add_flag("--backward", options->run.backward, "compare the gradients, too");
  command->add_flag("--json", options->json, "print one JSON object a line");
  AddPlanOptions(*command, &options->run.plan);
  command->callback([action, options] { *action = [options] { return Check(*options); }; });
}

}  // namespace heed::cli
