// gpu_cases.cpp: the program that judges lists of cases on one backend, with arrays in the memory of its
// device: conformance cases, and those of tests/cases.h. Not here: judging (judge.cpp).
#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cases.h"
#include "heed/heed.h"
#include "judge.h"

namespace heed::gpu {
namespace {

using verify::CaseStatus;

constexpr const char* kUsage =
    "usage: gpu_cases [--backend NAME] [--isa NAME] [--folder FLAT_CASES] [--lists "
    "options,dense,small]\n"
    "                 [--only WORDS] [--every N] [--most N] [--threads N] [--backward]\n"
    "Judges every case of the lists, and of the folder in every dtype; one line for each that "
    "fails.\n"
    "--every N takes every N-th of them, --most N the first N. Exit 0: all passed or were "
    "refused.\n";

struct Arguments {
  PlanOptions plan{.backend = "cuda"};
  std::string folder, lists, only;
  int every = 1, most = 0, threads = 1;
  bool backward = false;
};

// False after a sentence on stderr.
bool Read(int argc, char** argv, Arguments* out) {
  const std::map<std::string, std::string*> words = {{"--backend", &out->plan.backend},
                                                     {"--isa", &out->plan.isa},
                                                     {"--folder", &out->folder},
                                                     {"--lists", &out->lists},
                                                     {"--only", &out->only}};
  const std::map<std::string, int*> numbers = {
      {"--every", &out->every}, {"--most", &out->most}, {"--threads", &out->threads}};
  for (int n = 1; n < argc; ++n) {
    const std::string name = argv[n];
    if (name == "--backward") {
      out->backward = true;
      continue;
    }
    const bool word = words.contains(name), number = numbers.contains(name);
    if ((!word && !number) || n + 1 == argc) {
      std::fprintf(stderr, "gpu_cases: %s %s\n%s", name.c_str(),
                   word || number ? "needs a value" : "is no argument", kUsage);
      return false;
    }
    const std::string value = argv[++n];
    if (word) {
      *words.at(name) = value;
      continue;
    }
    int* const to = numbers.at(name);
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *to);
    if (error != std::errc{} || end != value.data() + value.size() || *to < 1) {
      std::fprintf(stderr, "gpu_cases: %s is '%s': it must be a number from 1 on\n", name.c_str(),
                   value.c_str());
      return false;
    }
  }
  if (!out->folder.empty() || !out->lists.empty()) return true;
  std::fprintf(stderr, "gpu_cases: nothing to do: --folder or --lists is needed\n%s", kUsage);
  return false;
}

struct Job {
  std::string name;
  std::function<Verdict()> run;
};

// False after a sentence on stderr.
bool Collect(const Arguments& a, std::vector<Job>* jobs) {
  if (!a.folder.empty()) {
    std::error_code error;
    std::vector<std::string> files;
    std::filesystem::directory_iterator at(a.folder, error);
    for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
      if (at->path().extension() == ".case") files.push_back(at->path().string());
    }
    if (error || files.empty()) {
      std::fprintf(stderr, "gpu_cases: %s holds no .case file\n", a.folder.c_str());
      return false;
    }
    std::sort(files.begin(), files.end());
    for (const std::string& file : files) {
      for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
        jobs->push_back(
            {std::string(Name(dtype)) + " " + std::filesystem::path(file).stem().string(),
             [=] { return JudgeFlat(file, dtype, a.backward, a.plan); }});
      }
    }
  }
  const std::map<std::string, std::function<std::vector<cases::Case>()>> lists = {
      {"options", [] { return cases::Options(cases::Scale::kTest); }},
      {"small", [] { return cases::Options(cases::Scale::kSmall); }},
      {"dense", [] { return cases::DenseForward(); }}};
  for (std::size_t from = 0; from < a.lists.size();) {
    const std::size_t end = std::min(a.lists.find(',', from), a.lists.size());
    const std::string list = a.lists.substr(from, end - from);
    from = end + 1;
    if (!lists.contains(list)) {
      std::fprintf(stderr, "gpu_cases: no list is called '%s': options, small, dense\n",
                   list.c_str());
      return false;
    }
    for (const cases::Case& c : lists.at(list)()) {
      jobs->push_back({list + " " + c.name, [=] { return JudgeCase(c, a.plan); }});
    }
  }
  std::vector<Job> chosen;
  int seen = 0;
  for (Job& job : *jobs) {
    if (job.name.find(a.only) == std::string::npos || seen++ % a.every != 0) continue;
    if (a.most == 0 || static_cast<int>(chosen.size()) < a.most) chosen.push_back(std::move(job));
  }
  *jobs = std::move(chosen);
  if (!jobs->empty()) return true;
  std::fprintf(stderr, "gpu_cases: no case is left: --only is '%s'\n", a.only.c_str());
  return false;
}

// Runs all jobs; the number that failed.
int RunAll(const std::vector<Job>& jobs, int threads) {
  std::atomic<std::size_t> next = 0;
  std::mutex lock;
  int passed = 0, failed = 0, refused = 0;
  double worst = 0;
  std::string worst_name;
  std::map<std::string, int> reasons;
  const auto work = [&] {
    for (std::size_t n = next++; n < jobs.size(); n = next++) {
      const Verdict v = jobs[n].run();
      const std::lock_guard<std::mutex> mine(lock);
      if (v.status == CaseStatus::kRefused) {
        ++refused;
        ++reasons[v.words];
      } else if (v.status == CaseStatus::kFail) {
        ++failed;
        std::printf("failed  %s: %s\n", jobs[n].name.c_str(), v.words.c_str());
        std::fflush(stdout);
      } else {
        ++passed;
        if (v.ratio >= worst) {
          worst = v.ratio;
          worst_name = jobs[n].name;
        }
      }
    }
  };
  std::vector<std::thread> workers;
  for (int n = 1; n < threads; ++n) workers.emplace_back(work);
  work();
  for (std::thread& worker : workers) worker.join();
  for (const auto& [reason, count] : reasons) {
    std::printf("refused %d: %s\n", count, reason.c_str());
  }
  std::printf("%d passed, %d failed, %d refused; the worst error is %.2f of its bound (%s)\n",
              passed, failed, refused, worst, worst_name.c_str());
  // A backend that refuses everything has been tested on nothing.
  return failed + (passed == 0 ? 1 : 0);
}

int Main(int argc, char** argv) {
  Arguments arguments;
  std::vector<Job> jobs;
  if (!Read(argc, argv, &arguments) || !Collect(arguments, &jobs)) return 2;
  for (const BackendInfo& info : Backends()) {
    if (info.name != arguments.plan.backend || info.available) continue;
    std::fprintf(stderr, "gpu_cases: %s: %s\n", info.name.c_str(), info.reason.c_str());
    return 3;
  }
  return RunAll(jobs, arguments.threads) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace heed::gpu

int main(int argc, char** argv) { return heed::gpu::Main(argc, argv); }
