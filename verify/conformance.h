// verify/conformance.h: runs conformance cases through the public API and judges every result. Not
// here: printing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "heed/heed.h"
#include "verify/case_file.h"
#include "verify/compare.h"

namespace heed::verify {

struct RunOptions {
  PlanOptions plan;           ///< backend, isa, threads
  DType dtype = DType::kF32;  ///< inputs are rounded to it, and the bound is that dtype's
  bool backward = false;      ///< compare the gradients, too, where the case has them
  Status (*run)(const Plan&, const Buffers&) = &heed::Run;  ///< or what brings them to a device
};

enum class CaseStatus : std::uint8_t {
  kPass,
  kFail,     ///< a result is wrong, memory was written that is not ours, or the file is not a case
  kRefused,  ///< the backend said that it does not serve this
};

/// "pass", "fail", "refused".
const char* Name(CaseStatus status);

struct TensorResult {
  std::string tensor;  ///< "out", "lse", "dq", …
  Comparison comparison;
  std::int64_t spilled = 0;  ///< bytes changed around it
};

struct CaseResult {
  std::string name;  ///< of the case; the file's name where it says none
  CaseStatus status = CaseStatus::kPass;
  std::string reason;  ///< a sentence, unless it passed
  std::string tensor;  ///< the one with the worst error in units of its bound
  double max_error = 0, bound = 0, ratio = 0;  ///< of its worst element
  std::vector<std::int64_t> at;                ///< and where that is
  std::vector<TensorResult> tensors;           ///< all that were compared
};

/// Never throws, whatever the file holds.
CaseResult RunCase(const std::string& path, const RunOptions& options);
CaseResult RunCase(const CaseFile& file, const RunOptions& options);

/// Files as they are, folders as the .safetensors files in them, sorted by name. Fails if a path
/// does not exist or a folder holds no case.
Result<std::vector<std::string>> ExpandPaths(const std::vector<std::string>& paths);

}  // namespace heed::verify
