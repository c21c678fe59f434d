// plan_testing.h: a backend that says and does what a test tells it. Not here: the tests.
#pragma once

#include <string>

#include "problem/plan.h"

namespace heed {

class FakeBackend final : public Backend {
 public:
  std::string its_name = "fake";
  std::string refusal;  // empty: serves everything
  std::vector<std::string> isas;
  std::int64_t workspace = 0;
  mutable std::string asked_isa;  // of the last Supports
  mutable Buffers ran;            // of the last Run
  mutable int runs = 0;
  std::vector<std::string> archs;
  mutable std::string asked_arch;  // of the last Supports

  const char* name() const override { return its_name.c_str(); }
  BackendInfo Info() const override {
    BackendInfo info = {.name = its_name, .available = true, .archs = archs};
    for (const std::string& isa : isas) info.isas.push_back({.name = isa, .usable = true});
    return info;
  }
  Status Supports(const Problem&, const PlanOptions& options) const override {
    asked_isa = options.isa;
    asked_arch = options.arch;
    return refusal.empty() ? Status() : Status(StatusCode::kRefused, refusal);
  }
  Tuning Tune(const Problem& p, const PlanOptions& options) const override {
    return {.threads = options.threads > 0 ? options.threads : 2,
            .tile_rows = 4,
            .tile_keys = 8,
            .block_rows = 8,
            .block_keys = 32,
            .items = p.batch * p.q_heads,
            .workspace_bytes = workspace};
  }
  void Describe(const Problem&, const Tuning&, PlanInfo* info) const override {
    info->isa = isas.empty() ? "" : isas.front();
    info->kernel = "forward · fake";
    info->bytes_moved = 5e6;
    info->workspace_formula = "so much";
  }
  Status Run(const Problem&, const Tuning&, const Buffers& buffers) const override {
    ran = buffers;
    runs++;
    return {};
  }
};

}  // namespace heed
