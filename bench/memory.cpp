// bench/memory.cpp: aligned allocation, and the request for huge pages. Not here: what is in it.
#include "bench/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace heed::bench {
namespace {

constexpr std::int64_t kHugePage = 2 << 20, kLine = 64;

}  // namespace

Memory::Memory(std::int64_t bytes, bool huge) : bytes_(bytes) {
  // Never empty: a null pointer would say "not given" even where a tensor has no elements.
  const std::int64_t align = huge && bytes >= kHugePage ? kHugePage : kLine;
  const std::int64_t whole = (std::max<std::int64_t>(bytes, 1) + align - 1) / align * align;
  // No system gives a process more; some allocators (sanitizers) end the program when asked.
  constexpr std::int64_t kAddressSpace = std::int64_t{1} << 47;
  if (bytes < 0 || whole > kAddressSpace) throw std::bad_alloc();
  data_.reset(static_cast<std::byte*>(
      std::aligned_alloc(static_cast<std::size_t>(align), static_cast<std::size_t>(whole))));
  if (data_ == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (align == kHugePage) madvise(data_.get(), static_cast<std::size_t>(whole), MADV_HUGEPAGE);
#endif
}

void Memory::Free::operator()(std::byte* p) const { std::free(p); }

}  // namespace heed::bench
