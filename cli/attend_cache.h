// cli/attend_cache.h: tensors of a key/value cache as part of a call. Not here: other tensors.
#pragma once

#include <optional>

#include "heed/heed.h"
#include "io/tensor.h"

namespace heed::cli {

/// The file's keys and values lie in a cache.
bool HasCache(const io::TensorFile& file);

/// q (B, Sq, Hq, D) and k_cache, v_cache (slots, rows, Hk, D), or with a block_table (B, blocks)
/// (pages, page rows, Hk, D); cache_seqlens, and where the file has them cache_batch_idx,
/// cache_leftpad, k_new with v_new, rotary_cos with rotary_sin, in the format of the conformance
/// cases; heads before rows where `head_first`. Tensors of numbers are converted to `dtype` if one
/// is given, the rotary tables always to q's.
Status FitCache(io::TensorFile& file, std::optional<DType> dtype, bool head_first,
                Problem* problem);

}  // namespace heed::cli
