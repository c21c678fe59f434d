// cli/options.cpp: sizes and visibility as options. Not here: what follows from several of them
// (options_settle.cpp); rules: a wrong value is the library's to refuse.
#include "cli/options.h"

#include "cli/options_parse.h"

namespace heed::cli {
namespace {

constexpr const char* kSizeGroup = "Sizes";
constexpr const char* kVisibleGroup = "Who sees whom";

}  // namespace

void ProblemOptions::Integer(CLI::App& command, const char* group, const char* name,
                             const char* help,
                             const std::function<void(Problem*, std::int64_t)>& set) {
  command
      .add_option_function<std::int64_t>(
          name,
          [this, set](const std::int64_t& n) {
            Problem scratch;
            set(&scratch, n);  // so that a wrong value is reported with the command line
            edits_.push_back([set, n](Problem* p) { set(p, n); });
          },
          help)
      ->type_name("N")
      ->group(group);
}

void ProblemOptions::Real(CLI::App& command, const char* group, const char* name, const char* help,
                          const std::function<void(Problem*, double)>& set) {
  command
      .add_option_function<double>(
          name,
          [this, set](const double& x) { edits_.push_back([set, x](Problem* p) { set(p, x); }); },
          help)
      ->type_name("X")
      ->group(group);
}

CLI::Option* ProblemOptions::Text(CLI::App& command, const char* group, const char* name,
                                  const char* type, const char* help,
                                  const std::function<void(Problem*, const std::string&)>& set) {
  return command
      .add_option_function<std::string>(
          name,
          [this, set](const std::string& text) {
            Problem scratch;
            set(&scratch, text);
            edits_.push_back([set, text](Problem* p) { set(p, text); });
          },
          help)
      ->type_name(type)
      ->group(group);
}

void ProblemOptions::Flag(CLI::App& command, const char* group, const char* name, const char* help,
                          const Edit& set) {
  command
      .add_flag_callback(
          name, [this, set] { edits_.push_back(set); }, help)
      ->group(group);
}

void ProblemOptions::AddSizes(CLI::App& command) {
  const auto size = [&](const char* name, std::int64_t Problem::*field, const char* help) {
    Integer(command, kSizeGroup, name, help,
            [field](Problem* p, std::int64_t n) { p->*field = n; });
  };
  Integer(command, kSizeGroup, "--batch", "entries of the batch (default 1)",
          [this](Problem* p, std::int64_t n) {
            batch_ = true;
            p->batch = n;
          });
  Integer(command, kSizeGroup, "--sq", "queries of an entry (default 2048; decoding 1)",
          [this](Problem* p, std::int64_t n) {
            queries_ = true;
            p->q_len = n;
          });
  Integer(command, kSizeGroup, "--sk",
          "keys of an entry (default: as many as queries; decoding 16384)",
          [this](Problem* p, std::int64_t n) {
            square_ = false;
            p->k_len = n;
          });
  size("--heads", &Problem::q_heads, "query heads (default 1)");
  size("--kv-heads", &Problem::k_heads, "key and value heads (default: as many as query heads)");
  size("--d", &Problem::dim, "entries of a query and of a key (default 64)");
  size("--dv", &Problem::dim_v, "entries of a value (default: as many)");
  Text(command, kSizeGroup, "--dtype", "TYPE", "f32, bf16, f16, f64 (default f32)",
       [](Problem* p, const std::string& t) { p->dtype = ParseDType("--dtype", t); });
  command
      .add_option("--layout", layout_,
                  "how tensors lie in memory: bshd, bhsd, or qkv (one packed tensor)")
      ->check(CLI::IsMember({"bshd", "bhsd", "qkv"}))
      ->type_name("NAME")
      ->group(kSizeGroup);
}

void ProblemOptions::AddVisible(CLI::App& command) {
  const auto integer = [&](const char* name, std::int64_t Problem::*field, const char* help) {
    Integer(command, kVisibleGroup, name, help,
            [field](Problem* p, std::int64_t n) { p->*field = n; });
  };
  command
      .add_flag_function(
          "--causal,!--no-causal",
          [this](std::int64_t n) { edits_.push_back([n](Problem* p) { p->causal = n > 0; }); },
          "a query sees no key after its own position")
      ->group(kVisibleGroup);
  Text(command, kVisibleGroup, "--align", "NAME",
       "where query 0 stands among the keys: bottom-right (default: the last query at the last "
       "key), top-left, offset",
       [this](Problem* p, const std::string& text) {
         const std::optional<Align> align = AlignNamed(text);
         if (!align) Reject("--align", text, "one of bottom-right, top-left, offset");
         align_ = true;
         p->align = *align;
       });
  Integer(command, kVisibleGroup, "--query-offset",
          "the position of query 0 among the keys; implies --align offset",
          [this](Problem* p, std::int64_t n) {
            p->query_offset = n;
            p->query_offsets = false;
            if (!align_) p->align = Align::kOffset;
          });
  Text(command, kVisibleGroup, "--window", "L,R",
       "keys at most L before and R after the query's position; -1: no bound",
       [](Problem* p, const std::string& text) {
         const auto n = ParseIntegers("--window", text, 2, "two integers L,R");
         p->window_left = n[0];
         p->window_right = n[1];
       });
  integer("--prefix", &Problem::prefix, "keys below N are seen by all, whatever the rest says");
  integer("--chunk", &Problem::chunk, "only keys of the query's own chunk of N");
}

void ProblemOptions::AddTo(CLI::App& command, unsigned parts) {
  sizes_ = (parts & kSizes) != 0;
  if (sizes_) AddSizes(command);
  if ((parts & kVisible) != 0) AddVisible(command);
  if ((parts & kScore) != 0) AddScore(command);
  if ((parts & kDropout) != 0) AddDropout(command);
  if ((parts & kArrays) != 0) AddArrays(command);
  if ((parts & kResults) != 0) AddResults(command);
}

void AddPlanOptions(CLI::App& command, PlanOptions* options) {
  const char* group = "How it is computed";
  command
      .add_option(
          "--backend", options->backend,
          "auto (default), cpu, cuda, reference; auto never takes the reference, and cuda only "
          "for memory of a device")
      ->type_name("NAME")
      ->group(group);
  command
      .add_option("--isa", options->isa,
                  "instruction set of the cpu backend, as `heed info` lists them (default auto)")
      ->type_name("NAME")
      ->group(group);
  command
      .add_option("--arch", options->arch,
                  "architecture that the cuda backend plans for: sm_75, sm_80, ... (default auto: "
                  "the device that is here)")
      ->type_name("NAME")
      ->group(group);
  command
      .add_option("--threads", options->threads, "threads (default 0: all this process may use)")
      ->type_name("N")
      ->group(group);
}

}  // namespace heed::cli
