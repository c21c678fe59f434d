// cuda_backward.h: one backward call as the kernels take it: which instances, what the workspace holds,
// which kernels run in which order. Not here: refusals (cuda.cpp), kernels.
#pragma once

#include <string>

#include "cuda/backward_call.h"
#include "cuda/cuda_call.h"

namespace heed::cuda {

// What a plan knows of a backward call: all but the pointers.
struct PlannedBackward {
  BackwardCall call;
  int queries = -1, keys = -1, bias = -1;  // rows of kernels.def; queries -1: none serves
  const Facts* facts = nullptr;
  Parts::Part kinds, rows;  // of the workspace
  std::int64_t bytes = 0;
};

// Of a normal problem that is a backward.
PlannedBackward PlanBackward(const Problem& problem, const Facts& facts);

// Of its largest grid, INT64_MAX where a number of 64 bits does not hold them.
std::int64_t BackwardBlocks(const Problem& problem, const PlannedBackward& planned);
std::int64_t WorkspaceBytes(const PlannedBackward& planned);
std::string WorkspaceFormula(const PlannedBackward& planned);
void SetPointers(const Problem& problem, const Buffers& buffers, PlannedBackward* planned);

inline constexpr int kMostBackwardLaunches = 6;
int LaunchesOf(const Problem& problem, const PlannedBackward& planned,
               Launch (&launches)[kMostBackwardLaunches]);

}  // namespace heed::cuda
