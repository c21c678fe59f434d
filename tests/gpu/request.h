// request.h: a call as lines of text, so that a program in another language can make one without
// knowing how C++ lays out a Problem. Not here: running it (abi.cpp).
#pragma once

#include <string>

#include "heed/heed.h"

namespace heed::gpu {

struct Request {
  Problem problem;
  Buffers buffers;
  PlanOptions options;
};

/// One field a line, `NAME VALUE...`: those of Problem by their names ("q_len 128", "dtype bf16",
/// "align top_left", "q_strides 4096 64 1024", "bias 1 8 1 512 0 512 0 1": the four sizes, the four
/// strides), of its cache with "cache." before them, of PlanOptions with "plan.", and pointers of Buffers
/// as integers with "at." ("at.q 140243"; "at.workspace ADDRESS BYTES"). Fails with a sentence for an
/// unknown name and for a value that cannot be read whole.
Status Parse(const std::string& text, Request* out);

}  // namespace heed::gpu
