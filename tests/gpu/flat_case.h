// flat_case.h: conformance cases in a form that needs no JSON, for builds without packages; written by
// flatten.py. Not here: what a case is (verify/case_file.h).
#pragma once

#include <string>

#include "heed/types.h"
#include "io/tensor.h"

namespace heed::gpu {

/// A file of lines, then the tensors' bytes one after the other in the order of the lines:
///
///     set KEY VALUE to the end of the line
///     tensor NAME TYPE SIZE...              TYPE as in .safetensors
///     data
///
/// The program that writes it is trusted with the rest: what does not fit gives a sentence, no more.
Result<io::TensorFile> ReadFlatCase(const std::string& path);

}  // namespace heed::gpu
