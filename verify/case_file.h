// verify/case_file.h: one conformance case: a .safetensors file as a Problem with its inputs and
// the results it expects. Not here: running it.
#pragma once

#include <string>

#include "heed/heed.h"
#include "io/tensor.h"
#include "verify/plain.h"

namespace heed::verify {

/// A case with its inputs rounded to the dtype asked for. The format:
/// tests/data/conformance/README.md.
struct CaseFile {
  std::string name;
  Problem problem;  ///< the forward, with lse where the case expects it
  io::TensorFile
      tensors;  ///< q, k, v, … in the dtype; bias, slopes, sinks, dlse in f32; indices in int32
  Results expected;  ///< what the file holds, as float64

  bool has_gradients() const { return expected.dq.given(); }
  /// The same call backward, with every gradient that the case expects.
  Problem BackwardProblem() const;
  /// Inputs only. Caches are not among them: Run writes to them, so it needs a copy.
  Buffers Inputs() const;
};

/// Fails with a sentence if the file is not a case: unreadable, a tensor missing, of the wrong
/// shape or type, or unknown, a setting that cannot be read. Metadata that the format does not know
/// may say anything. What the library itself would reject (heads that do not divide, lengths out of
/// range) is left to it.
Result<CaseFile> ReadCase(const std::string& path, DType dtype);
Result<CaseFile> CaseOf(io::TensorFile file, DType dtype);

}  // namespace heed::verify
