// io/safetensors.h: .safetensors files, read and written. Not here: the grammar of the header.
#pragma once

#include <cstddef>
#include <string>

#include "heed/types.h"
#include "io/tensor.h"

namespace heed::io {

// Readers take a file only if every byte of it is accounted for: a well-formed header without
// duplicate or unknown keys, offsets that fit the shapes and cover the data without overlaps, holes
// or a rest, BOOL bytes of 0 and 1. Anything else gets one sentence, which names the file where
// there is one. kInvalid: the file or the path is wrong; kRefused: not enough memory; kDevice: the
// system failed to read or write.

Result<TensorFile> ParseSafetensors(const std::byte* data, std::size_t size);
Result<TensorFile> ReadSafetensors(const std::string& path);

/// The file as bytes. Tensors are listed in their order and laid out by falling element size, so
/// that each is aligned to its own element; the data starts at a multiple of 64.
Result<AlignedBytes> FormatSafetensors(const TensorFile& file);

/// Replaces `path` when all is written, or leaves what was there (see ReplaceFile).
Status WriteSafetensors(const std::string& path, const TensorFile& file);

}  // namespace heed::io
