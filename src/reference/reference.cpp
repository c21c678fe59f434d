// reference.cpp: the reference as a backend: float64, O(S^2), definitions only. Slow on purpose,
// never chosen by itself; it is what the engines are compared with. Not here: what it computes
// (forward.cpp, backward.cpp).
#include <algorithm>
#include <new>
#include <stdexcept>

#include "backend.h"
#include "reference/passes.h"

namespace heed {
namespace {

class Reference final : public Backend {
 public:
  const char* name() const override { return "reference"; }

  BackendInfo Info() const override { return {.name = name(), .available = true}; }

  Status Supports(const Problem&, const PlanOptions& options) const override {
    if (options.isa == "auto") return {};
    return {StatusCode::kRefused,
            "it has no instruction sets to choose from: isa must be \"auto\", not \"" +
                options.isa + "\""};
  }

  // One row of scores at a time.
  Tuning Tune(const Problem& p, const PlanOptions&) const override {
    const std::int64_t keys = std::max<std::int64_t>(p.k_len, 1);
    return {.tile_rows = 1,
            .tile_keys = keys,
            .block_rows = 1,
            .block_keys = keys,
            .items = p.batch * p.k_heads};
  }

  // At most: every row reads all keys and values of its head once, as float64; backward: and their
  // gradients, and writes these.
  void Describe(const Problem& p, const Tuning&, PlanInfo* info) const override {
    const auto queries = static_cast<double>(p.ragged ? p.total_q : p.batch * p.q_len);
    const double rows = queries * static_cast<double>(p.q_heads);
    const double row_bytes =
        static_cast<double>(p.k_len) * static_cast<double>(p.dim + p.dim_v) * 8;
    info->isa = "";
    info->kernel = "float64 · definitions";
    info->bytes_moved = rows * row_bytes * (p.op == Op::kBackward ? 3 : 1);
    info->workspace_formula = "none (it allocates while it runs)";
  }

  Status Run(const Problem& p, const Tuning&, const Buffers& buffers) const override {
    try {
      if (p.op == Op::kBackward) {
        reference::BackwardPass(p, buffers);
      } else {
        reference::ForwardPass(p, buffers);
      }
      return {};
    } catch (const std::bad_alloc&) {
    } catch (const std::length_error&) {
    }
    return {StatusCode::kDevice, "reference: out of memory: it holds a whole head in float64"};
  }
};

}  // namespace

const Backend& ReferenceBackend() {
  static const Reference reference;
  return reference;
}

}  // namespace heed
