// verify/conformance.cpp: see conformance.h. Not here: files (case_paths.cpp).
#include "verify/conformance.h"

#include <cstddef>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>

#include "verify/guarded.h"
#include "verify/layout.h"
#include "verify/tolerance.h"

namespace heed::verify {
namespace {

// One run of a case: the outputs, and the verdict as it grows.
class Runner {
 public:
  Runner(const CaseFile& file, const RunOptions& options, CaseResult* result)
      : file_(file), options_(options), r_(*result), inputs_(file.Inputs()) {
    if (!file.problem.cache.given) return;
    inputs_.k_cache = const_cast<std::byte*>(CacheData("k_cache"));
    inputs_.v_cache = const_cast<std::byte*>(CacheData("v_cache"));
  }

  void Run() {
    const bool backward = options_.backward && file_.has_gradients();
    Problem forward = file_.problem;
    forward.want_lse = forward.want_lse || backward;
    if (!Forward(forward) || (backward && !Backward(file_.BackwardProblem()))) return;
    const Results bounds =
        BoundsFor(backward ? file_.BackwardProblem() : forward, inputs_, file_.expected);
    const Results& e = file_.expected;
    Judge("out", e.o, bounds.o, o_);
    Judge("lse", e.lse, bounds.lse, lse_);
    if (forward.cache.given) {
      Judge("k_cache", e.k_cache, bounds.k_cache, k_cache_);
      Judge("v_cache", e.v_cache, bounds.v_cache, v_cache_);
    }
    if (backward) {
      Judge("dq", e.dq, bounds.dq, dq_);
      Judge("dk", e.dk, bounds.dk, dk_);
      Judge("dv", e.dv, bounds.dv, dv_);
      Judge("dbias", e.dbias, bounds.dbias, dbias_);
      Judge("dsinks", e.dsinks, bounds.dsinks, dsinks_);
    }
  }

 private:
  const std::byte* CacheData(const char* name) const {
    return file_.tensors.Find(name)->data.data();
  }

  bool Stop(CaseStatus status, std::string reason) {
    r_.status = status;
    r_.reason = std::move(reason);
    return false;
  }

  void* Make(const Problem& p, Role role, Guarded* out) {
    *out = Guarded(ViewOf(p, role));
    return out->data();
  }

  void* CopyOf(const Problem& p, Role role, const void* from, Guarded* out) {
    void* to = Make(p, role, out);
    const auto bytes = static_cast<std::size_t>(CountOf(out->view().shape) * SizeOf(p.dtype));
    if (bytes != 0) std::memcpy(to, from, bytes);
    return to;
  }

  bool Forward(const Problem& p) {
    Buffers b = inputs_;
    b.dout = nullptr;
    b.dlse = nullptr;
    b.o = Make(p, Role::kO, &o_);
    if (p.want_lse) b.lse = static_cast<float*>(Make(p, Role::kLse, &lse_));
    if (p.cache.given) {
      b.k_cache = CopyOf(p, Role::kKCache, inputs_.k_cache, &k_cache_);
      b.v_cache = CopyOf(p, Role::kVCache, inputs_.v_cache, &v_cache_);
    }
    return Call(p, b, "forward");
  }

  // o and lse are those of the forward that just ran, as in use.
  bool Backward(const Problem& p) {
    Buffers b = inputs_;
    b.o = o_.data();
    b.lse = static_cast<float*>(lse_.data());
    b.dq = Make(p, Role::kDq, &dq_);
    b.dk = Make(p, Role::kDk, &dk_);
    b.dv = Make(p, Role::kDv, &dv_);
    if (p.want_dbias) b.dbias = Make(p, Role::kDbias, &dbias_);
    if (p.want_dsinks) b.dsinks = static_cast<float*>(Make(p, Role::kDsinks, &dsinks_));
    if (!p.dlse) b.dlse = nullptr;
    return Call(p, b, "backward");
  }

  bool Call(const Problem& p, Buffers b, const char* what) {
    const Result<Plan> plan = MakePlan(p, options_.plan);
    if (!plan) {
      const bool refused = plan.status().code() == StatusCode::kRefused;
      return Stop(refused ? CaseStatus::kRefused : CaseStatus::kFail, plan.status().message());
    }
    Scratch scratch(plan->workspace_bytes());
    b.workspace = scratch.workspace();
    if (Status status = options_.run(*plan, b); !status) {
      return Stop(CaseStatus::kFail, std::string(what) + ": " + status.message());
    }
    if (scratch.Intact()) return true;
    return Stop(CaseStatus::kFail, std::string(what) + ": wrote behind the workspace");
  }

  void Judge(const char* tensor, const Array& expected, const Array& bound, const Guarded& got) {
    if (!expected.given()) return;
    TensorResult t{tensor, Compare(expected, bound, got.view()), got.Spilled()};
    const Comparison& c = t.comparison;
    if (r_.tensor.empty() || c.ratio > r_.ratio) {
      r_.tensor = tensor;
      r_.max_error = c.error;
      r_.bound = c.bound;
      r_.ratio = c.ratio;
      r_.at = c.at;
    }
    if (r_.status == CaseStatus::kPass && !c.passed()) {
      Stop(CaseStatus::kFail, t.tensor + ": " + c.Describe());
    }
    if (r_.status == CaseStatus::kPass && t.spilled != 0) {
      Stop(CaseStatus::kFail,
           t.tensor + ": " + std::to_string(t.spilled) + " bytes outside it were changed");
    }
    r_.tensors.push_back(std::move(t));
  }

  const CaseFile& file_;
  const RunOptions& options_;
  CaseResult& r_;
  Buffers inputs_;
  Guarded o_, lse_, k_cache_, v_cache_, dq_, dk_, dv_, dbias_, dsinks_;
};

}  // namespace

const char* Name(CaseStatus status) {
  return status == CaseStatus::kPass ? "pass" : status == CaseStatus::kFail ? "fail" : "refused";
}

CaseResult RunCase(const CaseFile& file, const RunOptions& options) {
  CaseResult r;
  r.name = file.name;
  try {
    Runner(file, options, &r).Run();
  } catch (const std::exception& e) {
    CaseResult failed;
    failed.name = file.name;
    failed.status = CaseStatus::kFail;
    failed.reason = e.what();
    return failed;
  }
  return r;
}

}  // namespace heed::verify
