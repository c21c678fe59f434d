// cli/attend.cpp: `heed attend`: attention of tensors in files. Not here: what the tensors mean
// (attend_input.cpp).
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "bench/machine.h"
#include "cli/attend_input.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/options_parse.h"
#include "cli/words.h"
#include "heed/heed.h"
#include "io/npy.h"
#include "io/safetensors.h"

namespace heed::cli {
namespace {

constexpr const char* kAttendExamples =
    "  heed attend in.safetensors out.safetensors --causal\n"
    "  heed attend data/minilm.safetensors out.safetensors      its metadata has the scale\n"
    "  heed attend --q q.npy --k k.npy --v v.npy --out o.npy --lse lse.npy --causal\n"
    "  heed attend packed.safetensors out.safetensors --backend reference\n"
    "\n"
    "IN has q, k and v: (B, S, H, D), or (S, H, D) for one sequence, or (S, D) for one head; with\n"
    "cu_seqlens, (T, H, D) is a packed batch. AttendOptions come from its metadata and its further "
    "tensors\n"
    "(alibi_slopes, bias, mask, sinks, key_lengths, query_offset, block_map) where it has them, "
    "and\n"
    "from the command line, which wins. Instead of k and v it may have a cache: k_cache, v_cache,\n"
    "cache_seqlens and what goes with them, in the format of the conformance cases.\n"
    "OUT gets `out`, in q's shape and type, `lse`, the natural logarithm of every row's sum, and\n"
    "where k_new and v_new are appended the caches, as `k_cache_after` and `v_cache_after`; IN "
    "stays\n"
    "as it is. OUT replaces an existing file only when it is complete.";

struct AttendOptions {
  std::string in, out;            // .safetensors
  std::string q, k, v, npy, lse;  // .npy
  std::string dtype, layout;
  ProblemOptions problem;
  PlanOptions plan;
  bool json = false;

  bool arrays() const { return !q.empty() || !k.empty() || !v.empty() || !npy.empty(); }
  const std::string& output() const { return arrays() ? npy : out; }
};

// Wrong combinations of names, in a sentence; empty if all is well.
std::string Misuse(const AttendOptions& o) {
  if (o.arrays()) {
    if (o.q.empty() || o.k.empty() || o.v.empty() || o.npy.empty()) {
      return "--q, --k, --v and --out go together";
    }
    if (!o.in.empty()) return "give IN and OUT, or --q, --k, --v and --out, not both";
    return "";
  }
  if (!o.lse.empty()) return "--lse names a .npy file; in a .safetensors file lse is beside out";
  if (o.in.empty() || o.out.empty()) return "IN and OUT are needed, or --q, --k, --v and --out";
  return "";
}

// Long work that cannot be saved in the end is worse than a word in the beginning.
Status Writable(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (access(folder.c_str(), W_OK) == 0 || access(path.c_str(), W_OK) == 0) return {};
  return {StatusCode::kInvalid, path + ": cannot be written: " + std::strerror(errno)};
}

Result<io::TensorFile> ReadInput(const AttendOptions& o) {
  if (!o.arrays()) return io::ReadSafetensors(o.in);
  io::TensorFile file;
  for (const auto& [name, path] : {std::pair{"q", &o.q}, {"k", &o.k}, {"v", &o.v}}) {
    Result<io::Tensor> tensor = io::ReadNpy(*path);
    if (!tensor) return tensor.status();
    tensor->name = name;
    file.tensors.push_back(std::move(*tensor));
  }
  return file;
}

// The caches after an append, under the names that the conformance cases give them.
void MoveCaches(AttendInput* input, io::TensorFile* to) {
  for (io::Tensor& tensor : input->file.tensors) {
    if (tensor.name != "k_cache" && tensor.name != "v_cache") continue;
    tensor.name += "_after";
    to->tensors.push_back(std::move(tensor));
  }
}

Status WriteOutput(const AttendOptions& o, AttendInput* input, const Problem& problem,
                   io::Tensor out, io::Tensor lse) {
  if (o.arrays()) {
    if (Status s = io::WriteNpy(o.npy, out); !s) return s;
    return o.lse.empty() ? Status() : io::WriteNpy(o.lse, lse);
  }
  io::TensorFile file;
  file.metadata = {{"heed", Version()}, {"dtype", heed::Name(problem.dtype)}};
  file.tensors.push_back(std::move(out));
  file.tensors.push_back(std::move(lse));
  if (problem.cache.new_len > 0) MoveCaches(input, &file);
  return io::WriteSafetensors(o.out, file);
}

int Attend(AttendOptions& o) {
  if (const std::string misuse = Misuse(o); !misuse.empty()) {
    return Fail(kUsage, misuse + "; `heed attend --help` shows examples");
  }
  std::optional<DType> dtype;
  if (!o.dtype.empty()) dtype = DTypeNamed(o.dtype);
  for (const std::string& path : {o.output(), o.lse}) {
    if (path.empty()) continue;
    if (Status s = Writable(path); !s) return FailFile(s);
  }

  Progress progress;
  progress.Show("reading");
  Result<io::TensorFile> file = ReadInput(o);
  if (!file) return FailFile(file.status());
  Result<AttendInput> input = FromTensors(std::move(*file), dtype, o.layout);
  if (!input) {
    return Fail(kFile, (o.arrays() ? "the arrays: " : o.in + ": ") + input.status().message());
  }
  Problem problem = o.problem.Over(input->problem);
  problem.want_lse = true;
  const Result<Plan> plan = MakePlan(problem, o.plan);
  if (!plan) return FailProblem(plan.status());

  Result<io::Tensor> out = io::MakeTensor(
      "out", io::FromDType(problem.out_dtype.value_or(problem.dtype)), input->out_shape);
  Result<io::Tensor> lse = io::MakeTensor("lse", io::ElementType::kF32, input->lse_shape);
  if (!out || !lse) return Fail(kInternal, "memory ran out");
  std::vector<std::byte> workspace(static_cast<std::size_t>(plan->workspace_bytes()));
  std::byte empty[2][64];  // outputs without elements have no memory of their own
  Buffers buffers = input->Inputs();
  buffers.o = out->data.empty() ? empty[0] : out->data.data();
  buffers.lse = reinterpret_cast<float*>(lse->data.empty() ? empty[1] : lse->data.data());
  buffers.workspace = workspace;

  progress.Show("computing");
  const double start = bench::Now();
  if (Status s = Run(*plan, buffers); !s) return FailProblem(s);
  const double seconds = bench::Now() - start;
  progress.Show("writing");
  if (Status s = WriteOutput(o, &*input, problem, std::move(*out), std::move(*lse)); !s)
    return FailFile(s);

  const PlanInfo info = plan->Info();
  if (o.json) {
    Print({{"output", o.output()},
           {"shape", input->out_shape},
           {"dtype", heed::Name(problem.out_dtype.value_or(problem.dtype))},
           {"problem", ToJson(plan->problem())},
           {"backend", info.backend},
           {"isa", info.isa},
           {"kernel", info.kernel},
           {"threads", info.threads},
           {"seconds", Number(seconds)}},
          -1);
  } else if (o.output() != "/dev/stdout") {
    fmt::print("{}: out ({}) {} · {}{}{} · {}\n", o.output(), fmt::join(input->out_shape, ", "),
               heed::Name(problem.out_dtype.value_or(problem.dtype)), info.backend,
               info.isa.empty() ? "" : " · ", info.isa, Seconds(seconds));
  }
  return kDone;
}

}  // namespace

void AddAttend(CLI::App& program, Action* action) {
  CLI::App* command = AddCommand(program, "attend",
                                 "Attention of the tensors in a .safetensors file or in .npy files",
                                 kAttendExamples);
  auto o = std::make_shared<AttendOptions>();
  command->add_option("IN", o->in, "a .safetensors file with q, k, v");
  command->add_option("OUT", o->out, "a .safetensors file for out and lse");
  const char* arrays = "NumPy files";
  const auto path = [&](const char* name, std::string* to, const char* help) {
    command->add_option(name, *to, help)->type_name("FILE.npy")->group(arrays);
  };
  path("--q", &o->q, "the queries");
  path("--k", &o->k, "the keys");
  path("--v", &o->v, "the values");
  path("--out", &o->npy, "gets the output");
  path("--lse", &o->lse, "gets the logarithms of the sums");
  command->add_option("--dtype", o->dtype, "convert q, k, v to it first")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "f64"}))
      ->type_name("TYPE");
  command->add_option("--layout", o->layout, "of the tensors: bshd (default) or bhsd")
      ->check(CLI::IsMember({"bshd", "bhsd"}))
      ->type_name("NAME");
  o->problem.AddTo(*command,
                   ProblemOptions::kVisible | ProblemOptions::kScore | ProblemOptions::kDropout);
  AddPlanOptions(*command, &o->plan);
  command->add_flag("--json", o->json, "print what was done as JSON");
  command->callback([action, o] { *action = [o] { return Attend(*o); }; });
}

}  // namespace heed::cli
