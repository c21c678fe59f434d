// backend.h: the waist. What every backend, the reference included, looks like to the rest. Not
// here: any backend, any rule.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "heed/heed.h"

namespace heed {

// What a backend settled for one Problem. The common part is named; what else it needs to know at
// Run it derives again.
struct Tuning {
  int isa = -1;  // index into the backend's own table of instruction sets; -1 = it has none
  int arch = 0;  // the architecture planned for, 800 for sm_80; 0 = it has none
  int threads = 1;
  std::int64_t tile_rows = 0, tile_keys = 0;    // score tile
  std::int64_t block_rows = 0, block_keys = 0;  // queries that share one pass over a block of keys
  std::int64_t items = 0;
  std::int64_t workspace_bytes = 0;
};

// Problems that reach a backend are valid and normal (problem/normalize.h): every default is filled
// in. All members are const and may be called from any thread at once; a backend has no state.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;
  // Ok if this machine and this build can run it at all, else why not.
  virtual BackendInfo Info() const = 0;
  // Ok, or why this problem would not be served, in a sentence without the backend's name in front.
  virtual Status Supports(const Problem& problem, const PlanOptions& options) const = 0;
  // Only after Supports said ok.
  virtual Tuning Tune(const Problem& problem, const PlanOptions& options) const = 0;
  // Fills isa, kernel, bytes_moved, workspace_formula, what is of a device; the rest of PlanInfo is filled by plan.cpp.
  virtual void Describe(const Problem& problem, const Tuning& tuning, PlanInfo* info) const = 0;
  // Only with buffers that CheckBuffers passed. Allocates nothing (the reference may), never
  // throws.
  virtual Status Run(const Problem& problem, const Tuning& tuning,
                     const Buffers& buffers) const = 0;

  // Whether memory at `data` is what this backend works on and the others are not for.
  virtual bool Owns(const void* /*data*/) const { return false; }
  // A workspace for one Run on buffers.stream, null where there is no memory, and its end.
  virtual void* Take(std::size_t bytes, void* /*stream*/) const { return std::malloc(bytes); }
  virtual void Give(void* data, void* /*stream*/) const { std::free(data); }
};

const Backend& CpuBackend();        // src/cpu/cpu.cpp
const Backend& CudaBackend();       // src/cuda/cuda.cpp
const Backend& ReferenceBackend();  // src/reference/reference.cpp

}  // namespace heed
