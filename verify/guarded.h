// verify/guarded.h: memory for outputs and for a call's workspace that shows what was written beside
// them. Not here: comparison of values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "heed/heed.h"
#include "io/tensor.h"
#include "verify/array.h"

namespace heed::verify {

/// Memory for one strided tensor: every byte holds a pattern (a NaN in any floating type) until
/// someone writes it, with zones of the same pattern before and behind. Element 0 of the tensor
/// starts on a cache line.
class Guarded {
 public:
  Guarded() = default;
  /// Room for all that the view reaches; `view.data` is not looked at.
  explicit Guarded(View view);

  /// The tensor itself; non-null even where it has no elements.
  void* data();
  View view() const;
  Array Values() const { return Gather(view()); }
  /// How many bytes outside the tensor's elements (zones and gaps between rows) were changed.
  std::int64_t Spilled() const;

 private:
  View view_;
  io::AlignedBytes bytes_;
  std::size_t start_ = 0;  // of the tensor's element 0
};

/// A workspace of so many bytes, full of the same pattern (what is read as a number must have been
/// written), with a zone of it behind.
class Scratch {
 public:
  explicit Scratch(std::int64_t bytes);
  Workspace workspace() { return {memory_.data(), bytes_}; }
  /// Nobody wrote behind it.
  bool Intact() const;

 private:
  std::size_t bytes_;
  std::vector<std::byte> memory_;
};

}  // namespace heed::verify
