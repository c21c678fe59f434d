// cli/demo.cpp: `heed demo`: attention of a real model on real text, verified, then a long
// sequence.
#include <fmt/format.h>
#include <unistd.h>

#include <climits>
#include <string>

#include "cli/command.h"
#include "cli/demo.h"
#include "cli/options.h"
#include "cli/words.h"

namespace heed::cli {
namespace {

constexpr const char* kDemoExamples =
    "  heed demo\n"
    "  heed demo --threads 1 --isa avx2\n"
    "  heed demo --tokens 8192 --json\n"
    "\n"
    "The exit code is 0 only if every result was within its derived bound.";

struct DemoOptions {
  std::string data;
  std::int64_t tokens = 16384;
  PlanOptions plan;
  bool json = false;
};

// --data, else the source tree that this was built from, else beside the installed program.
std::string DataFolder(const std::string& asked) {
  if (!asked.empty()) return asked;
  if (access(HEED_DATA_DIR "/minilm.safetensors", R_OK) == 0) return HEED_DATA_DIR;
  char program[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", program, sizeof program);
  const std::string path(program, n > 0 ? static_cast<std::size_t>(n) : 0);
  return path.substr(0, path.rfind('/') + 1) + HEED_DATA_INSTALLED;
}

// The beginning of a text, to a whole word.
std::string Beginning(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  return text.substr(0, text.rfind(' ', most)) + " ...";
}

const char* Verdict(const verify::Comparison& c) { return c.passed() ? "ok" : "WRONG"; }

// Attention of every passage of a file; a line each.
Status Attend(const demo::TextFile& text, const PlanOptions& plan, const demo::Screen& screen,
              demo::Tally* tally, Json* json) {
  for (const demo::Passage& passage : text.passages) {
    const Problem problem = text.ProblemOf(passage);
    Buffers buffers = text.InputsOf(passage);
    Result<demo::Answer> answer = demo::Ask(problem, buffers, plan);
    if (!answer) return answer.status();
    buffers.o = answer->o.data();
    buffers.lse = reinterpret_cast<float*>(answer->lse.data());
    const verify::Comparison& reference = answer->out_against_reference;
    const verify::Comparison model = demo::AgainstModel(problem, buffers, text.ModelOut(passage));
    tally->Add(reference.passed());
    tally->Add(answer->lse_against_reference.passed());
    tally->Add(model.passed());
    screen.Print("    {:>6} {:>10}   {:.1e} {}   {:.1e} {}   {}\n", passage.tokens.size(),
                 Seconds(answer->seconds), reference.error, Column(Verdict(reference), 8),
                 model.error, Column(Verdict(model), 8), Beginning(passage.text, 44));
    (*json)["passages"].push_back({{"tokens", passage.tokens.size()},
                                   {"text", Beginning(passage.text, 44)},
                                   {"seconds", Number(answer->seconds)},
                                   {"backend", answer->info.backend},
                                   {"isa", answer->info.isa},
                                   {"error_against_reference", Number(reference.error)},
                                   {"bound", Number(reference.bound)},
                                   {"error_against_model", Number(model.error)}});
  }
  return {};
}

void ShowHeader(const demo::TextFile& text, const char* what, const demo::Screen& screen) {
  screen.Print("\n{} · layer {} · {} heads of {} · {}\n\n", text.model, text.layer, text.heads,
               text.dim, what);
  screen.Print("    tokens       time   worst error against       worst error against\n");
  screen.Print("                        the reference (float64)   the model's own output\n");
}

int Demo(const DemoOptions& options) {
  const demo::Screen screen{.on = !options.json};
  demo::Tally tally;
  Json json = {{"passages", Json::array()}};
  const std::string folder = DataFolder(options.data);
  const Result<demo::TextFile> one = demo::ReadText(folder + "/minilm.safetensors");
  if (!one) return FailFile(one.status());
  const Result<demo::TextFile> packed = demo::ReadText(folder + "/minilm_varlen.safetensors");
  if (!packed) return FailFile(packed.status());

  const demo::Passage& passage = one->passages.front();
  screen.Print("\"{}\"\n    {}\n", Beginning(passage.text, 300), passage.source);
  ShowHeader(*one, "what the model computed while it read this", screen);
  if (Status s = Attend(*one, options.plan, screen, &tally, &json); !s) return FailProblem(s);
  if (!options.json) {
    if (Status s = demo::ShowWords(*one, screen); !s) return FailProblem(s);
  }
  ShowHeader(*packed, "a packed batch, each text on its own", screen);
  if (Status s = Attend(*packed, options.plan, screen, &tally, &json); !s) return FailProblem(s);
  if (Status s = demo::ShowLong(options.tokens, options.plan, screen, &tally, &json); !s) {
    return FailProblem(s);
  }

  json["verified"] = tally.passed;
  json["failed"] = tally.failed;
  if (options.json) Print(json);
  const std::size_t texts = one->passages.size() + packed->passages.size();
  if (tally.failed > 0) {
    return Fail(kFailed, fmt::format("{} of {} results are outside their derived bounds",
                                     tally.failed, tally.passed + tally.failed));
  }
  screen.Print(
      "\nverified: the attention of {} texts equals the float64 reference and the model's own "
      "output, "
      "and {} tokens equal float64 in sampled rows, each within its derived bound ({} results)\n",
      texts, Count(static_cast<double>(options.tokens)), tally.passed);
  return kDone;
}

}  // namespace

void AddDemo(CLI::App& program, Action* action) {
  CLI::App* command =
      AddCommand(program, "demo",
                 "Attention of a real model on real text, verified and shown; then a long sequence",
                 kDemoExamples);
  auto options = std::make_shared<DemoOptions>();
  command->add_option("--data", options->data, "folder of minilm.safetensors and its packed sister")
      ->type_name("DIR");
  command->add_option("--tokens", options->tokens, "of the long sequence (default 16384)")
      ->check(CLI::Range(std::int64_t{64}, std::int64_t{1} << 20))
      ->type_name("N");
  AddPlanOptions(*command, &options->plan);
  command->add_flag("--json", options->json, "print JSON");
  command->callback([action, options] { *action = [options] { return Demo(*options); }; });
}

}  // namespace heed::cli
