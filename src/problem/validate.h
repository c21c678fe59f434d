// validate.h: every rule that can reject a request, and nothing else that can. Not here: what a
// backend cannot do (Supports).
#pragma once

#include "heed/heed.h"

namespace heed {

// Ok, or the sentence of the first rule broken. (heed::Validate is this function.)
Status CheckProblem(const Problem& problem);

// Of a normal problem and host buffers: pointers there and aligned to their element, workspace
// large enough, outputs that overlap neither each other nor an input, index arrays within range.
// Reads index arrays, writes nothing.
Status CheckBuffers(const Problem& problem, std::int64_t workspace_bytes, const Buffers& buffers);

}  // namespace heed
