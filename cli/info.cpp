// cli/info.cpp: `heed info`: what this build and this machine can do, and why not more.
#include <fmt/format.h>

#include <cstdlib>

#include "bench/machine.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/words.h"
#include "heed/heed.h"

namespace heed::cli {
namespace {

constexpr const char* kInfoExamples =
    "  heed info           for people\n"
    "  heed info --json    for programs";

// The backend that `auto` never takes.
bool OnlyWhenNamed(const BackendInfo& backend) { return backend.name == "reference"; }

void PrintJson(const bench::Machine& machine, const std::vector<BackendInfo>& backends) {
  Json all;
  all["version"] = Version();
  all["build"] = {{"compiler", bench::Compiler()}, {"type", bench::BuildType()}};
  all["machine"] = {{"cpu", machine.cpu},
                    {"processors", machine.processors},
                    {"l1d_bytes", machine.l1d_bytes},
                    {"l2_bytes", machine.l2_bytes},
                    {"l3_bytes", machine.l3_bytes},
                    {"memory_bytes", machine.memory_bytes}};
  all["features"] = machine.features;
  all["features_missing"] = machine.missing;
  all["threads"] = AvailableThreads();
  all["backends"] = Json::array();
  for (const BackendInfo& backend : backends) {
    Json row = {{"name", backend.name},
                {"available", backend.available},
                {"automatic", !OnlyWhenNamed(backend)},
                {"reason", backend.reason},
                {"isas", Json::array()},
                {"archs", backend.archs}};
    for (const IsaInfo& isa : backend.isas) {
      row["isas"].push_back({{"name", isa.name}, {"usable", isa.usable}, {"reason", isa.reason}});
    }
    all["backends"].push_back(row);
  }
  Print(all);
}

void PrintText(const bench::Machine& machine, const std::vector<BackendInfo>& backends) {
  fmt::print("heed {}\n", Version());
  fmt::print("build      {} · {}\n", bench::Compiler(), bench::BuildType());
  std::vector<std::string> caches;
  const auto cache = [&](const char* name, std::int64_t bytes) {
    if (bytes > 0) caches.push_back(fmt::format("{} {} KB", name, bytes >> 10));
  };
  cache("L1d", machine.l1d_bytes);
  cache("L2", machine.l2_bytes);
  cache("L3", machine.l3_bytes);
  fmt::print("machine    {} · {} · {} of memory\n", machine.cpu, Join(caches, " · "),
             Bytes(static_cast<double>(machine.memory_bytes)));
  fmt::print("features   {}\n", Join(machine.features, " "));
  if (!machine.missing.empty()) fmt::print("  missing  {}\n", Join(machine.missing, " "));
  fmt::print("threads    {} usable of {} processors\n", AvailableThreads(), machine.processors);
  for (const BackendInfo& backend : backends) {
    fmt::print("backend    {:<11} {}\n", backend.name,
               !backend.available       ? "missing: " + backend.reason
               : OnlyWhenNamed(backend) ? "available when named; never chosen by itself"
                                        : "available");
    if (!backend.archs.empty()) {
      fmt::print("  plans    for {}, here or not\n", Join(backend.archs, ", "));
    }
    bool first = true;  // of the usable ones: the list has the best first
    for (const IsaInfo& isa : backend.isas) {
      fmt::print("  isa      {:<11} {}\n", isa.name,
                 !isa.usable ? "not usable: " + isa.reason
                 : first     ? "usable; the default"
                             : "usable");
      first = first && !isa.usable;
    }
  }
  if (const char* forced = std::getenv("HEED_ISA")) {
    fmt::print("HEED_ISA   {} (forces the instruction set where --isa does not)\n", forced);
  }
}

}  // namespace

void AddInfo(CLI::App& program, Action* action) {
  CLI::App* command = AddCommand(
      program, "info", "What this build and this machine can do, and why not more", kInfoExamples);
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "print JSON");
  command->callback([action, json] {
    *action = [json] {
      const bench::Machine machine = bench::ThisMachine();
      const std::vector<BackendInfo> backends = Backends();
      *json ? PrintJson(machine, backends) : PrintText(machine, backends);
      return kDone;
    };
  });
}

}  // namespace heed::cli
