// bench/memory.h: large memory for tensors that are streamed. Not here: what is in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace heed::bench {

/// Bytes that start on a cache line; `huge`: on a huge page where they fill some, and made of huge
/// pages where the system has them to give, since with small ones the misses of a large stream are
/// the page table's, too. Throws std::bad_alloc.
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::int64_t bytes, bool huge = false);

  std::byte* data() const { return data_.get(); }
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::int64_t bytes_ = 0;
};

}  // namespace heed::bench
