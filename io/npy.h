// io/npy.h: .npy files (one array each), read and written. Not here: .npz archives.
#pragma once

#include <cstddef>
#include <string>

#include "heed/types.h"
#include "io/tensor.h"

namespace heed::io {

// Versions 1, 2 and 3 of the format. Little-endian arrays of the element types; complex, text,
// structured and object arrays are refused, and big-endian ones. Fortran order is converted: the
// tensor has the array's shape, row-major. numpy has no bfloat16 of its own and saves arrays of
// ml_dtypes.bfloat16 as raw pairs of bytes: '<V2' and '|V2' are read as BF16, and BF16 is written
// as '<V2' (in Python: np.load(path).view(ml_dtypes.bfloat16)). Failures as in safetensors.h.

/// The tensor has no name.
Result<Tensor> ParseNpy(const std::byte* data, std::size_t size);
/// The tensor is named after the file, without folder and ".npy".
Result<Tensor> ReadNpy(const std::string& path);

/// The file as bytes; the name is not part of it.
Result<AlignedBytes> FormatNpy(const Tensor& tensor);
/// Replaces `path` when all is written, or leaves what was there (see ReplaceFile).
Status WriteNpy(const std::string& path, const Tensor& tensor);

}  // namespace heed::io
