// passes.h: what the files of the reference offer each other. Each reads a normal problem and
// buffers that were checked.
#pragma once

#include <cstdint>
#include <vector>

#include "heed/heed.h"
#include "reference/entry.h"

namespace heed::reference {

// forward.cpp: o, lse, probs; with a cache the append first.
void ForwardPass(const Problem& p, const Buffers& buffers);

// backward.cpp: dq, dk, dv, dbias, dsinks.
void BackwardPass(const Problem& p, const Buffers& buffers);

// cache.cpp: k_new (rotated) and v_new into the rows behind those in use, for every entry.
void AppendToCache(const Problem& p, const Buffers& buffers);
// The rows of q of one head, rotated where the problem says so.
Matrix ReadQueries(const Entry& entry, std::int64_t h);
// The keys and the values that exist, of one kv head.
Matrix ReadKeys(const Entry& entry, std::int64_t hk);
Matrix ReadValues(const Entry& entry, std::int64_t hk);

}  // namespace heed::reference
