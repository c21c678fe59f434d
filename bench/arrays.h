// bench/arrays.h: masks, block maps and index arrays for a made-up call, after a pattern. Not here:
// tensors of numbers (inputs.h).
#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "bench/memory.h"
#include "bench/patterns.h"
#include "heed/heed.h"

namespace heed::bench {

/// Everything that decides who sees whom and where rows lie. Pages and slots come in random order.
class Arrays {
 public:
  /// For a normal problem (Plan::problem()). kRefused where there is not enough memory, or where
  /// the cache has too few pages for the rows that are appended.
  static Result<Arrays> Make(const Problem& problem, const Patterns& patterns, std::uint64_t seed);

  /// Sets the pointers to these arrays, and no other.
  void AddTo(Buffers* buffers) const;

 private:
  using Ints = std::vector<std::int32_t>;

  Ints* Take(std::int64_t count);
  void MakeRagged();
  void MakeLengths();
  Status MakeCache();
  const std::uint8_t* MakeMask();
  const std::uint8_t* MakeMap();
  std::int64_t LengthOf(std::int64_t b, std::int64_t most) const;

  Problem problem_;
  Patterns patterns_;
  std::uint64_t seed_ = 0;
  Buffers buffers_;
  std::list<Ints> ints_;  // a list: what is in it does not move
  std::list<Memory> flags_;
};

/// Element offsets that a tensor of this shape reaches, all strides filled in; the last stride
/// is 1.
struct Extent {
  std::int64_t low = 0;       ///< of the lowest element, 0 or negative
  std::int64_t elements = 0;  ///< from the lowest to the highest
};
Extent ExtentOf(std::int64_t batch, std::int64_t rows, std::int64_t heads, std::int64_t width,
                const Strides& strides);
Extent ExtentOf(const Broadcast& tensor);

}  // namespace heed::bench
