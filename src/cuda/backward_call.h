// backward_call.h: one backward call as every CUDA kernel of it takes it, and how it is cut into blocks.
// Plain data. Not here: how it is filled in, any instruction.
#pragma once

#include "cuda/call.h"

namespace heed::cuda {

// What the backward knows of a row of queries before it sees a key: probabilities are
// 2^(s - m) * factor, and ds = p (dp - delta).
struct alignas(16) RowStart {
  float m = 0;       // +infinity: the row saw nothing, its probabilities are 0
  float factor = 0;  // 1 where lse says all; else 1 / l beside the row's own maximum
  float delta = 0;   // sum(o * dout) - dlse
  float spare = 0;
};

// Where a gradient goes; data null: it is not wanted.
struct Gradient {
  void* data = nullptr;
  Steps steps;
  bool wide = false;  // four neighbours may be written at once
};

// Inputs, score and who sees whom are those of the forward; its o is not written, its lse is read.
struct BackwardCall {
  ForwardCall forward;
  Rows o, dout;
  const float* dlse = nullptr;  // or null
  Gradient dq, dk, dv;
  bool grads_f32 = false;  // else in the tensors' dtype
  bool accumulate = false;
  RowStart* rows = nullptr;  // workspace, in lse's layout

  // dbias, contiguous, in bias's shape: an axis of size 1 is summed over.
  void* dbias = nullptr;
  bool dbias_f32 = true;  // else the tensors' dtype
  std::int32_t bias_batch = 1, bias_heads = 1, bias_rows = 1, bias_cols = 1;
  float* dsinks = nullptr;

  // The score tile of all kernels; keys are cut as queries are in ForwardCall::schedule.
  std::int32_t tile_rows = 0, tile_keys = 0;
  ForwardSchedule keys;    // items over (entry, kv head, tile of keys)
  std::int32_t parts = 1;  // a key tile's columns are dealt to so many blocks

  HEED_HD std::int64_t query_blocks() const { return forward.schedule.items(); }
  HEED_HD std::int64_t key_blocks() const { return keys.items() * parts; }
  // Tiles of dbias, over (batch, head, tile of rows, tile of keys).
  HEED_HD std::int64_t bias_row_tiles() const { return CeilDiv(bias_rows, tile_rows); }
  HEED_HD std::int64_t bias_key_tiles() const { return CeilDiv(bias_cols, tile_keys); }
  HEED_HD std::int64_t bias_blocks() const {
    return dbias ? bias_batch * bias_heads * bias_row_tiles() * bias_key_tiles() : 0;
  }
};

// Items of the kernel that prepares the rows, a warp each: over (entry, head, row).
HEED_HD std::int64_t PrepareItems(const BackwardCall& c) {
  return std::int64_t{c.forward.batch} * c.forward.q_heads * c.forward.q_len;
}

}  // namespace heed::cuda
