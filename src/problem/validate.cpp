// validate.cpp: the walk over the rules. Not here: the rules themselves, one row each, in
// rules_*.cpp.
#include "problem/validate.h"

#include <new>

#include "problem/rules.h"

namespace heed {

const Rule* FirstBroken(const Problem& problem) {
  for (const auto tables : {ValueRules, CacheRules, ShapeRules, ResultRules, LayoutRules}) {
    for (const RuleGroup& group : tables()) {
      if (!group.any_broken(problem)) continue;
      for (const Rule& rule : group.rules) {
        if (rule.broken(problem)) return &rule;
      }
    }
  }
  return nullptr;
}

Status CheckProblem(const Problem& problem) {
  const Rule* rule = FirstBroken(problem);
  return rule == nullptr ? Status() : Status(StatusCode::kInvalid, rule->say(problem, *rule));
}

Status Validate(const Problem& problem) {
  try {
    return CheckProblem(problem);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kInvalid, "out of memory");  // short enough to need none
  }
}

}  // namespace heed
