// fuzz_validate.cpp: libFuzzer target for Validate, MakePlan and what a Plan says. Not here:
// running plans.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../problem/wild_problem.h"
#include "heed/heed.h"

namespace {

void Require(bool holds) {
  if (!holds) __builtin_trap();
}

// Invalid with a sentence, or served by the reference, which serves everything that is valid.
void Try(const heed::Problem& p) {
  const heed::Status status = heed::Validate(p);
  Require(status.ok() == status.message().empty());
  const heed::Result<heed::Plan> plan = heed::MakePlan(p, {.backend = "reference"});
  Require(plan.ok() == status.ok());
  Require(plan.ok() || plan.status().message() == status.message());
  const heed::Result<heed::Plan> engine = heed::MakePlan(p, {.isa = "scalar"});
  Require(engine.ok() || !engine.status().message().empty());
  if (!plan) return;
  Require(heed::Validate(plan->problem()).ok());
  // A description counts the keys of every block of rows, of all query heads of a key head.
  const bool few_rows = p.q_len < 10000 && p.q_heads < 1000;
  if (few_rows) Require(plan->Describe().size() > 100);
  if (few_rows && engine) Require(engine->Describe().size() > 100);
  // Without buffers: a sentence, or nothing to do.
  const std::int64_t queries = p.ragged ? p.total_q : p.q_len;
  const std::int64_t keys = p.ragged ? p.total_k : p.k_len;
  if (p.batch > 0 && p.q_heads > 0 && queries > 0) {
    Require(!heed::Run(*plan, {}).ok());
  } else if (queries == 0 && keys == 0 && !p.cache.given && !p.sinks && !p.want_dbias) {
    (void)heed::Run(*plan, {}).ok();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::size_t at = 0;
  // Two bytes a number keep inputs short; a first byte of 255 asks for all eight.
  const auto next = [&] {
    std::uint64_t bits = 0;
    const std::size_t width = at < size && data[at] == 255 ? 8 : 2;
    const std::size_t left = size - at, n = left < width ? left : width;
    if (n > 0) std::memcpy(&bits, data + at, n);
    at += n;
    return bits;
  };
  Try(heed::WildProblem(next).Draw());
  return 0;
}
