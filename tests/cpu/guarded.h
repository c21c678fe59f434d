// guarded.h: memory that ends (or begins) at a page which nobody may touch: one byte too far and
// the test dies there and then.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace heed {

class Guarded {
 public:
  enum Side { kGuardBehind, kGuardBefore };

  explicit Guarded(std::size_t bytes, Side side = kGuardBehind) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t inside = (bytes + page - 1) / page * page;
    mapped_ = inside + 2 * page;
    map_ = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map_ == MAP_FAILED) {
      map_ = nullptr;
      return;
    }
    char* const first = static_cast<char*>(map_) + page;
    if (inside > 0 && mprotect(first, inside, PROT_READ | PROT_WRITE) != 0) return;
    data_ = side == kGuardBehind ? first + inside - bytes : first;
  }
  ~Guarded() {
    if (map_) munmap(map_, mapped_);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  // Null where the system gave no memory.
  char* data() { return data_; }
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }

 private:
  void* map_ = nullptr;
  char* data_ = nullptr;
  std::size_t mapped_ = 0;
};

}  // namespace heed
