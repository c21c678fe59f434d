// cache_model.h: a fully associative cache of 64-byte lines that forgets the least recently used
// one, and what crosses its border. Not here: who reads and writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace heed {

// Memory is one arena that is cut into named tensors, so that traffic can be told apart; accesses
// outside of it (the stack) are not seen. A line is fetched when it is read and not there, and
// written back when it leaves (or at Flush) after it was written. A line that is first written is
// not fetched: everything here writes whole lines.
class CacheModel {
 public:
  static constexpr std::size_t kLine = 64;

  struct Traffic {
    std::string name;
    std::size_t first = 0, last = 0;  // lines
    double read = 0, written = 0;     // bytes
    double all() const { return read + written; }
  };

  explicit CacheModel(std::size_t arena_bytes)
      : memory_(arena_bytes + kLine), lines_(arena_bytes / kLine + 1) {
    base_ = reinterpret_cast<std::uintptr_t>(memory_.data());
    base_ += (kLine - base_ % kLine) % kLine;
  }

  // The next `bytes` of the arena; all zero.
  void* Take(const char* name, std::size_t bytes) {
    const std::size_t first = taken_;
    taken_ += (bytes + kLine - 1) / kLine;
    if (taken_ > lines_.size()) return nullptr;
    tensors_.push_back({name, first, taken_});
    return reinterpret_cast<void*>(base_ + first * kLine);
  }

  // Begins counting with an empty cache of this size.
  void Start(std::size_t bytes) {
    for (Line& line : lines_) line = {};
    for (Traffic& t : tensors_) t.read = t.written = 0;
    newest_ = oldest_ = kNone;
    resident_ = 0;
    capacity_ = bytes / kLine;
  }

  void Access(const void* p, std::size_t bytes, bool written) {
    const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(p) - base_;
    for (std::size_t line = at / kLine; line <= (at + bytes - 1) / kLine && line < taken_; line++)
      AccessLine(static_cast<std::int32_t>(line), written);
  }

  // What was written to this tensor need not reach memory.
  void Forget(const std::string& name) {
    const Traffic& t = Of(name);
    for (std::size_t i = t.first; i < t.last; i++) lines_[i].dirty = false;
  }
  void Flush() {
    while (oldest_ != kNone) Evict();
  }

  const Traffic& Of(const std::string& name) const {
    for (const Traffic& t : tensors_)
      if (t.name == name) return t;
    static const Traffic none;
    return none;
  }
  double Total() const {
    double bytes = 0;
    for (const Traffic& t : tensors_) bytes += t.all();
    return bytes;
  }

 private:
  static constexpr std::int32_t kNone = -1;
  struct Line {
    std::int32_t newer = kNone, older = kNone;
    bool resident = false, dirty = false;
  };

  Line& At(std::int32_t i) { return lines_[static_cast<std::size_t>(i)]; }
  Traffic& OwnerOf(std::int32_t i) {
    for (Traffic& t : tensors_)
      if (static_cast<std::size_t>(i) < t.last) return t;
    return tensors_.back();
  }

  void AccessLine(std::int32_t i, bool written) {
    Line& line = At(i);
    if (i != newest_) {
      if (line.resident) {
        Unlink(i);
      } else {
        if (!written) OwnerOf(i).read += kLine;
        if (resident_ == capacity_) Evict();
        line.resident = true;
        resident_++;
      }
      line.newer = kNone;
      line.older = newest_;
      if (newest_ != kNone) At(newest_).newer = i;
      newest_ = i;
      if (oldest_ == kNone) oldest_ = i;
    }
    line.dirty |= written;
  }
  void Unlink(std::int32_t i) {
    const Line& line = At(i);
    (line.newer == kNone ? newest_ : At(line.newer).older) = line.older;
    (line.older == kNone ? oldest_ : At(line.older).newer) = line.newer;
  }
  void Evict() {
    const std::int32_t i = oldest_;
    if (At(i).dirty) OwnerOf(i).written += kLine;
    Unlink(i);
    At(i) = {};
    resident_--;
  }

  std::vector<char> memory_;
  std::vector<Line> lines_;
  std::vector<Traffic> tensors_;
  std::uintptr_t base_ = 0;
  std::size_t taken_ = 0, capacity_ = 0, resident_ = 0;
  std::int32_t newest_ = kNone, oldest_ = kNone;
};

}  // namespace heed
