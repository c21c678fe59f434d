// machine.cpp: instruction sets by cpuid, threads by affinity and cgroup limits. Not here: the pool
// (threads.cpp).
#include "cpu/machine.h"

#include <sched.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "heed/heed.h"

namespace heed::cpu {

#if defined(__x86_64__)
namespace {

// The builtin of clang 14 does not know this name.
bool HasF16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

}  // namespace
#endif

const char* WhyUnusable([[maybe_unused]] const char* isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq");
  if (!std::strcmp(isa, "avx2") && !avx2) return "this processor lacks AVX2, FMA or F16C";
  if (!std::strcmp(isa, "avx512") && !avx512) return "this processor lacks AVX-512 F, VL, BW or DQ";
  if (!std::strcmp(isa, "avx512bf16") && !(avx512 && __builtin_cpu_supports("avx512bf16")))
    return "this processor lacks AVX-512 BF16";
#endif
  return nullptr;
}

namespace {

// The first numbers of a small file of the system's; 0 where it is not there.
int ReadNumbers(const char* path, const char* format, long long* a, long long* b) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "re"), &std::fclose);
  return file ? std::fscanf(file.get(), format, a, b) : 0;
}

double Quota(const std::string& group) {  // of a version 2 control group
  long long quota = 0, period = 0;
  const int n =
      ReadNumbers(("/sys/fs/cgroup" + group + "/cpu.max").c_str(), "%lld %lld", &quota, &period);
  return n == 2 && quota > 0 && period > 0
             ? static_cast<double>(quota) / static_cast<double>(period)
             : INFINITY;
}

// Processors' worth of time that the control groups grant, this process's own and those above it;
// infinity where none limits.
double CgroupLimit() {
  char line[4096] = "";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen("/proc/self/cgroup", "re"),
                                                             &std::fclose);
  while (file && std::fgets(line, sizeof line, file.get()) && std::strncmp(line, "0::", 3) != 0)
    line[0] = 0;
  std::string group(line[0] ? line + 3 : "");
  while (!group.empty() && (group.back() == '\n' || group.back() == '/')) group.pop_back();
  double limit = Quota("");
  for (; !group.empty(); group.resize(group.rfind('/'))) {
    limit = std::fmin(limit, Quota(group));
    if (group.rfind('/') == std::string::npos) break;
  }
  long long quota = 0, period = 0;
  if (ReadNumbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "%lld", &quota, &quota) == 1 &&
      quota > 0 &&
      ReadNumbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "%lld", &period, &period) == 1 &&
      period > 0)
    limit = std::fmin(limit, static_cast<double>(quota) / static_cast<double>(period));
  return limit;
}

int CountThreads() {
  int n = 0;
  // Masks grow until the kernel's fits: machines may have more than the 1024 processors of a
  // cpu_set_t.
  for (int size = CPU_SETSIZE; n == 0 && size <= 1 << 20; size *= 4) {
    cpu_set_t* const set = CPU_ALLOC(static_cast<std::size_t>(size));
    if (!set) break;
    if (sched_getaffinity(0, CPU_ALLOC_SIZE(static_cast<std::size_t>(size)), set) == 0)
      n = CPU_COUNT_S(CPU_ALLOC_SIZE(static_cast<std::size_t>(size)), set);
    CPU_FREE(set);
  }
  if (n < 1) n = static_cast<int>(std::thread::hardware_concurrency());
  const double limit = CgroupLimit();
  if (limit < n) n = static_cast<int>(std::ceil(limit));
  return n < 1 ? 1 : n;
}

}  // namespace
}  // namespace heed::cpu

namespace heed {

int AvailableThreads() {
  static const int n = cpu::CountThreads();  // asked once: the answer costs several system calls
  return n;
}

}  // namespace heed
