// cuda_call.h: one call as the kernels take it, from a Problem and its Buffers: which instance, how it
// is cut, what the workspace holds, which kernels run in which order. Not here: refusals (cuda.cpp),
// kernels.
#pragma once

#include <span>
#include <string>

#include "cuda/call.h"
#include "cuda/device.h"
#include "cuda/instances.h"
#include "heed/heed.h"

namespace heed::cuda {

// The parts of a workspace, in bytes from its aligned start; a part that is not there has no bytes.
struct Parts {
  struct Part {
    std::int64_t at = 0, bytes = 0;
  };
  Part kinds;     // a byte per score tile
  Part rotated;   // the queries after rotary embedding
  Part o, o_lse;  // of pieces
  std::int64_t bytes = 0;
};

// What a plan knows of a call: all but the pointers.
struct Planned {
  ForwardCall call;
  int row = -1;  // of kernels.def: the forward kernel; -1: none serves
  const Facts* facts = nullptr;
  Parts parts;

  const Instance& instance() const { return InstanceOf(row); }
};

// What forward and backward have in common: sizes, score, who sees whom; and the pointers of that.
ForwardCall CommonCall(const Problem& problem);
void SetCommonPointers(const Problem& problem, const Buffers& buffers, ForwardCall* call);
// Of a mask or block map, for tiles of rows x keys.
TileKinds KindsOf(const Problem& problem, std::int64_t rows, std::int64_t keys);
// Whether a score is a positive multiple of q.k, and who sees whom a matter of position alone.
bool IsPlain(const Problem& problem, const ForwardCall& call);
Steps StepsOf(const Strides& strides);
Rows RowsOf(const void* data, const Strides& strides, std::int64_t width, DType dtype);

// Of a normal problem that is no backward.
Planned PlanCall(const Problem& problem, const Facts& facts);

// Workspaces begin anywhere, their parts at multiples of this: so many bytes more, less one, are asked
// for.
inline constexpr std::int64_t kAlign = 128;
std::int64_t WorkspaceBytes(const Planned& planned);
std::string WorkspaceFormula(const Planned& planned);

// A grid of one dimension.
inline constexpr std::int64_t kMostForwardBlocks = INT32_MAX;

// Blocks of the forward kernel, INT64_MAX where a number of 64 bits does not hold them.
std::int64_t ForwardBlocks(const Problem& problem, const Planned& planned);

void SetPointers(const Problem& problem, const Buffers& buffers, Planned* planned);

// The kernels of a call in their order: which of them there are, a plan knows.
inline constexpr int kMostLaunches = 5;
int LaunchesOf(const Problem& problem, const Planned& planned, Launch (&launches)[kMostLaunches]);

}  // namespace heed::cuda
