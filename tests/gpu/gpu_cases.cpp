// gpu_cases.cpp: the program that judges lists of cases on one backend, with arrays in the memory of its
// device: conformance cases, those of tests/cases.h, and those of the backward. Not here: judging (judge.cpp).
#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <random>
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
    "usage: gpu_cases [--backend NAME] [--isa NAME] [--folder FLAT_CASES]\n"
    "                 [--lists options,dense,backward,small,small_backward] [--only WORDS]\n"
    "                 [--every N] [--most N] [--seconds N] [--threads N] [--backward]\n"
    "Judges every case of the lists, and of the folder in every dtype (--backward: its gradients, "
    "too);\n"
    "one line for each that fails. --every N takes every N-th of them, --most N the first N; "
    "--seconds N\n"
    "mixes them, and begins none after that time. Exit 0: all passed or were refused.\n";

struct Arguments {
  PlanOptions plan{.backend = "cuda"};
  std::string folder, lists, only;
  int every = 1, most = 0, seconds = 0, threads = 1;
  bool backward = false;
};

// False after a sentence on stderr.
bool Read(int argc, char** argv, Arguments* out) {
  const std::map<std::string, std::string*> words = {{"--backend", &out->plan.backend},
                                                     {"--isa", &out->plan.isa},
                                                     {"--folder", &out->folder},
                                                     {"--lists", &out->lists},
                                                     {"--only", &out->only}};
  const std::map<std::string, int*> numbers = {{"--every", &out->every},
                                               {"--most", &out->most},
                                               {"--seconds", &out->seconds},
                                               {"--threads", &out->threads}};
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
  const auto forward = [&](const std::string& list, const std::vector<cases::Case>& all) {
    for (const cases::Case& c : all) {
      jobs->push_back({list + " " + c.name, [=] { return JudgeCase(c, a.plan); }});
    }
  };
  const auto backward = [&](const std::string& list, cases::Scale scale) {
    for (const testing_backward::BackwardCase& c : testing_backward::BackwardCases(scale)) {
      jobs->push_back({list + " " + c.name(), [=] { return JudgeBackward(c, a.plan); }});
    }
  };
  using cases::Scale;
  const std::map<std::string, std::function<void(const std::string&)>> lists = {
      {"options", [&](const std::string& list) { forward(list, cases::Options(Scale::kTest)); }},
      {"dense", [&](const std::string& list) { forward(list, cases::DenseForward()); }},
      {"backward", [&](const std::string& list) { backward(list, Scale::kTest); }},
      {"small", [&](const std::string& list) { forward(list, cases::Options(Scale::kSmall)); }},
      {"small_backward", [&](const std::string& list) { backward(list, Scale::kSmall); }}};
  for (std::size_t from = 0; from < a.lists.size();) {
    const std::size_t end = std::min(a.lists.find(',', from), a.lists.size());
    const std::string list = a.lists.substr(from, end - from);
    from = end + 1;
    if (!lists.contains(list)) {
      std::string known;
      for (const auto& [name, add] : lists) known += (known.empty() ? "" : ", ") + name;
      std::fprintf(stderr, "gpu_cases: no list is called '%s': %s\n", list.c_str(), known.c_str());
      return false;
    }
    lists.at(list)(list);
  }
  std::vector<Job> chosen;
  int seen = 0;
  for (Job& job : *jobs) {
    if (job.name.find(a.only) == std::string::npos || seen++ % a.every != 0) continue;
    if (a.most == 0 || static_cast<int>(chosen.size()) < a.most) chosen.push_back(std::move(job));
  }
  *jobs = std::move(chosen);
  if (a.seconds > 0) std::shuffle(jobs->begin(), jobs->end(), std::mt19937(1));
  if (!jobs->empty()) return true;
  std::fprintf(stderr, "gpu_cases: no case is left: --only is '%s'\n", a.only.c_str());
  return false;
}

// Runs all jobs, or those that begin in time; the number that failed.
int RunAll(const std::vector<Job>& jobs, int threads, int seconds) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::seconds(seconds);
  std::atomic<std::size_t> next = 0;
  std::mutex lock;
  int passed = 0, failed = 0, refused = 0;
  double worst = 0;
  std::string worst_name;
  std::map<std::string, int> reasons;
  const auto work = [&] {
    for (std::size_t n = next++; n < jobs.size(); n = next++) {
      if (seconds > 0 && Clock::now() >= end) return;
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
  const int begun = passed + failed + refused, all = static_cast<int>(jobs.size());
  const std::string late =
      begun < all ? ", " + std::to_string(all - begun) + " not begun in time" : "";
  std::printf("%d passed, %d failed, %d refused%s; the worst error is %.2f of its bound (%s)\n",
              passed, failed, refused, late.c_str(), worst, worst_name.c_str());
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
  return RunAll(jobs, arguments.threads, arguments.seconds) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace heed::gpu

int main(int argc, char** argv) { return heed::gpu::Main(argc, argv); }
