// verify/case_tensors.h: which tensors a conformance case may hold, and in which element type a
// call wants each. Not here: their shapes.
#pragma once

#include "heed/types.h"
#include "io/tensor.h"

namespace heed::verify {

/// Every tensor in the type that the call wants: data in `dtype`, indices in int32, expected values
/// in float64. Fails for a tensor that the format does not know, of a wrong kind, or too large for
/// a case.
Status ConvertTensors(DType dtype, io::TensorFile* file);

}  // namespace heed::verify
