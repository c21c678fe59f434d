// buffers.h: the part of CheckBuffers that reads arrays. Not here: pointers (buffers.cpp).
#pragma once

#include "heed/heed.h"

namespace heed {

// Of a normal problem whose pointers are there: every length, offset, slot and page in host memory
// is within range, and no two entries write one row of the cache. Allocates nothing on success.
Status CheckIndexArrays(const Problem& problem, const Buffers& buffers);

// The part of it that says how long entries are: cu_seqlens, key_lengths, cache_seqlens,
// cache_leftpad. Reads no other array.
Status CheckLengths(const Problem& problem, const Buffers& buffers);

}  // namespace heed
