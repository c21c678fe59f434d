// cli/attend_input.h: tensors from files as one attention call. Not here: reading files, running.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "heed/heed.h"
#include "io/tensor.h"

namespace heed::cli {

/// A call whose tensors lie in `file`. What the file's metadata and its further tensors say (in the
/// format of the conformance cases) is in `problem`.
struct AttendInput {
  io::TensorFile file;
  Problem problem;
  std::vector<std::int64_t> out_shape;  ///< q's, with v's last dimension
  std::vector<std::int64_t> lse_shape;  ///< (B,Hq,Sq); without the batch axis where q has none

  /// Pointers to the inputs. Taken anew after a move. A cache is among them: a call that appends
  /// changes this copy of it, not the file's.
  Buffers Inputs();
};

/// q, k, v by name, all of one rank:
///   4  (B, S, H, D), or (B, H, S, D) where the layout is bhsd
///   3  (S, H, D), one sequence, or (H, S, D); with cu_seqlens (or cu_seqlens_q and cu_seqlens_k) a
///      packed batch (T, H, D)
///   2  (S, D), one head of one sequence
/// and, where the file has them, alibi_slopes, bias, mask, sinks, key_lengths, query_offset,
/// block_map. With k_cache and v_cache in place of k and v (attend_cache.h) q has 4 dimensions.
/// q, k, v are converted to `dtype` if one is given. `layout`: "bshd", "bhsd" or "" for
/// what the metadata says, else bshd. Sentences say what is missing, of a wrong type or a
/// contradictory shape.
Result<AttendInput> FromTensors(io::TensorFile file, std::optional<DType> dtype,
                                const std::string& layout);

}  // namespace heed::cli
