// validate.h: every rule that can reject a request, and nothing else that can. Not here: what a
// backend cannot do (Supports).
#pragma once

#include "heed/heed.h"

namespace heed {

// Ok, or the sentence of the first rule broken. (heed::Validate is this function.)
Status CheckProblem(const Problem& problem);

// Of a normal problem and its buffers: pointers there and aligned to their element, workspace
// large enough, outputs that overlap neither each other nor an input, index arrays within range.
// Writes nothing. What is in device memory is not read: there index arrays may hold anything, and a
// stream may be given.
enum class Place : std::uint8_t { kHost, kDevice };
Status CheckBuffers(const Problem& problem, std::int64_t workspace_bytes, const Buffers& buffers,
                    Place place = Place::kHost);

}  // namespace heed
