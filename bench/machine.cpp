// bench/machine.cpp: reads /proc and sysfs; a fact that cannot be read stays empty or 0.
#include "bench/machine.h"

#include <unistd.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <set>
#include <sstream>

namespace heed::bench {
namespace {

std::string Trim(const std::string& s) {
  const std::size_t from = s.find_first_not_of(" \t");
  return from == std::string::npos ? "" : s.substr(from, s.find_last_not_of(" \t") - from + 1);
}

// The value of the first line "key : value" of a /proc file.
std::string Field(const char* path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos && Trim(line.substr(0, colon)) == key) {
      return Trim(line.substr(colon + 1));
    }
  }
  return "";
}

// "32768K" as sysfs writes sizes.
std::int64_t CacheBytes(const std::string& text) {
  std::istringstream in(text);
  std::int64_t n = 0;
  char unit = ' ';
  if (!(in >> n)) return 0;
  in >> unit;
  return unit == 'K' ? n << 10 : unit == 'M' ? n << 20 : n;
}

void ReadCaches(Machine* machine) {
  for (int i = 0; i < 8; ++i) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    std::ifstream level_file(folder + "level"), type_file(folder + "type"),
        size_file(folder + "size");
    int level = 0;
    std::string type, size;
    if (!(level_file >> level && type_file >> type && size_file >> size)) continue;
    if (type == "Instruction") continue;
    const std::int64_t bytes = CacheBytes(size);
    if (level == 1) machine->l1d_bytes = bytes;
    if (level == 2) machine->l2_bytes = bytes;
    if (level == 3) machine->l3_bytes = bytes;
  }
}

#if defined(__aarch64__)
constexpr const char* kFeatures[] = {"asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme"};
constexpr const char* kFlagsKey = "Features";
constexpr const char* kModelKey = "CPU part";
#else
constexpr const char* kFeatures[] = {"avx2",        "fma",      "f16c",     "avx512f",
                                     "avx512vl",    "avx512bw", "avx512dq", "avx512_bf16",
                                     "avx512_fp16", "amx_tile", "amx_bf16"};
constexpr const char* kFlagsKey = "flags";
constexpr const char* kModelKey = "model name";
#endif

}  // namespace

Machine ThisMachine() {
  Machine machine;
  machine.cpu = Field("/proc/cpuinfo", kModelKey);
  if (machine.cpu.empty()) machine.cpu = "unknown processor";
  machine.processors = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  ReadCaches(&machine);
  machine.memory_bytes = std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);

  std::istringstream flags(Field("/proc/cpuinfo", kFlagsKey));
  std::set<std::string> has;
  for (std::string flag; flags >> flag;) has.insert(flag);
  for (const char* feature : kFeatures) {
    (has.count(feature) ? machine.features : machine.missing).emplace_back(feature);
  }
  return machine;
}

std::int64_t AvailableMemory() {
  std::istringstream in(Field("/proc/meminfo", "MemAvailable"));
  std::int64_t kilobytes = 0;
  in >> kilobytes;
  return kilobytes << 10;
}

std::string Compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown compiler";
#endif
}

std::string BuildType() {
#ifdef HEED_BUILD_TYPE
  const std::string type = HEED_BUILD_TYPE;
#else
  const std::string type;
#endif
  return type.empty() ? "none" : type;
}

double Now() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

double ProcessorTime() {
  timespec t = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace heed::bench
