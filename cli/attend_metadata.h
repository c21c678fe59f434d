// cli/attend_metadata.h: a file's metadata as options of a Problem. Not here: tensors.
#pragma once

#include <map>
#include <string>

#include "heed/problem.h"
#include "heed/types.h"

namespace heed::cli {

/// causal, align, window, scale, softcap, prefix, chunk, dropout_p, seed, offset, block_size, rotary
/// and layout (into *layout: "bshd", "bhsd", "thd" or "cache"), spelled as in the conformance cases. Other keys
/// are somebody else's; a value of these that makes no sense is an error.
Status ApplyMetadata(const std::map<std::string, std::string>& metadata, Problem* problem,
                     std::string* layout);

}  // namespace heed::cli
