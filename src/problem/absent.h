// absent.h: the place of a backend that this build does not have: it refuses everything, in a
// sentence. Not here: any backend.
#pragma once

#include "backend.h"

namespace heed {

class Absent final : public Backend {
 public:
  constexpr Absent(const char* name, const char* reason) : name_(name), reason_(reason) {}
  const char* name() const override { return name_; }
  BackendInfo Info() const override { return {name_, false, reason_, {}}; }
  Status Supports(const Problem&, const PlanOptions&) const override {
    return {StatusCode::kRefused, reason_};
  }
  Tuning Tune(const Problem&, const PlanOptions&) const override { return {}; }
  void Describe(const Problem&, const Tuning&, PlanInfo*) const override {}
  Status Run(const Problem&, const Tuning&, const Buffers&) const override {
    return {StatusCode::kDevice, reason_};
  }

 private:
  const char* name_;
  const char* reason_;
};

}  // namespace heed
