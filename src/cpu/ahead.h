// ahead.h: asks for the lines that come next while the current ones are computed. Not here: who is
// next (forward.h).
#pragma once

#include "cpu/lanes/base.h"

namespace heed::cpu::HEED_ISA {

// The hardware's prefetchers start anew at each page, and rows of a strided tensor lie in pages of
// their own (32 heads, d = 64: 2 to 4 points); short sequences change heads every few microseconds.
// 96 heads of 128 x 128 in f32 from memory ran at 74 % of the peak where one head in cache runs
// at 92. A few tensors are walked line by line.
class Ahead {
 public:
  void Clear() {
    count_ = at_ = 0;
    lines_ = 0;
  }
  void Add(const void* p, std::int64_t rows, std::int64_t step, std::int64_t bytes) {
    tensors_[count_++] = {static_cast<const char*>(p), rows, step, bytes};
    lines_ += rows * ((bytes + 63) / 64);
  }
  std::int64_t lines() const { return lines_; }

  void Touch(std::int64_t n) {
    while (n > 0 && at_ < count_) {
      Tensor& t = tensors_[at_];
      if (t.rows == 0) {
        at_++;
        continue;
      }
      std::int64_t byte = t.byte;
      for (; n > 0 && byte < t.bytes; n--, byte += 64)
        __builtin_prefetch(t.p + byte, 0, 2);  // into L2
      t.byte = byte;
      if (byte >= t.bytes) {
        t.p += t.step;
        t.rows--;
        t.byte = 0;
      }
    }
  }

 private:
  struct Tensor {
    const char* p;
    std::int64_t rows, step, bytes, byte = 0;
  };
  Tensor tensors_[4];
  int count_ = 0, at_ = 0;
  std::int64_t lines_ = 0;
};

}  // namespace heed::cpu::HEED_ISA
