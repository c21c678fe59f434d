// Global memory: which buffer an access falls into, and whether it may.
#include "emu/memory.h"

#include <cstring>

namespace emu {

void Memory::Add(const char* name, void* data, size_t bytes, Use use) {
  buffers_.push_back({name, static_cast<char*>(data), bytes, use, {}, {}});
}

void Memory::AddOutput(const char* name, void* data, size_t bytes, const std::vector<bool>& mine,
                       Use use) {
  buffers_.push_back({name, static_cast<char*>(data), bytes, use, {}, mine});
}

void Memory::Change(const std::string& name, Use use) {
  for (Buffer& b : buffers_) {
    if (b.name == name) b.use = use;
  }
}

const Memory::Buffer* Memory::Find(const void* p, size_t bytes) const {
  const char* c = static_cast<const char*>(p);
  for (const Buffer& b : buffers_) {
    if (c < b.data || c + bytes > b.data + b.bytes) continue;
    if (b.mine.empty() || b.mine[size_t(c - b.data)]) return &b;
  }
  return nullptr;
}

void Memory::Begin() {
  for (Buffer& b : buffers_) {
    if (b.use != Use::kOutput) continue;
    b.writer.assign(b.bytes, 0);
    for (size_t i = 0; i < b.bytes; ++i) {
      if (b.mine.empty() || b.mine[i]) {
        b.data[i] = char(0xFF);  // NaN in every floating-point type
      } else {
        b.writer[i] = kForeign;
      }
    }
  }
}

void Memory::Next() {
  for (Buffer& b : buffers_) {
    for (uint32_t& writer : b.writer) {
      if (writer != 0 && writer != kForeign) writer = kEarlier;
    }
  }
}

std::string Memory::Read(const void* from, size_t bytes, int block) const {
  const Buffer* b = Find(from, bytes);
  if (!b) return "global read outside every buffer";
  if (b->use != Use::kOutput) return {};
  const size_t at = size_t(static_cast<const char*>(from) - b->data);
  for (size_t i = at; i < at + bytes; ++i) {
    if (b->writer[i] == 0) return "read of output " + b->name + " before it was written";
    if (b->writer[i] == kEarlier) continue;
    if (b->writer[i] == kForeign) return "read between the rows of output " + b->name;
    if (b->writer[i] != uint32_t(block) + 1) {
      return "read of output " + b->name + " written by block " + std::to_string(b->writer[i] - 1) +
             ": blocks run in any order";
    }
  }
  return {};
}

std::string Memory::ReadOnly(const void* from, size_t bytes) const {
  const Buffer* b = Find(from, bytes);
  if (!b || b->use == Use::kInput) return {};
  const size_t at = size_t(static_cast<const char*>(from) - b->data);
  for (size_t i = at; i < at + bytes; ++i) {
    if (b->use == Use::kShared || b->writer[i] != kEarlier) {
      return "read-only load of " + b->name + ", which is written";
    }
  }
  return {};
}

std::string Memory::Write(const void* to, size_t bytes, int block) {
  Buffer* b = const_cast<Buffer*>(Find(to, bytes));
  if (!b) return "global write outside every buffer";
  if (b->use == Use::kInput) return "write to input " + b->name;
  const size_t at = size_t(static_cast<const char*>(to) - b->data);
  if (b->use == Use::kShared) {
    for (size_t i = at; i < at + bytes && !b->mine.empty(); ++i) {
      if (!b->mine[i]) return "write between the rows of " + b->name;
    }
    return {};
  }
  for (size_t i = at; i < at + bytes; ++i) {
    if (b->writer[i] == kForeign) return "write between the rows of output " + b->name;
    if (b->writer[i] != 0) {
      return "output " + b->name + " written twice at byte " + std::to_string(i) + ", first by " +
             (b->writer[i] == kEarlier ? "an earlier kernel"
                                       : "block " + std::to_string(b->writer[i] - 1));
    }
    b->writer[i] = uint32_t(block) + 1;
  }
  return {};
}

std::string Memory::Add(const void* to, size_t bytes) const {
  const Buffer* b = Find(to, bytes);
  if (!b) return "global atomic outside every buffer";
  if (b->use != Use::kShared) return "atomic on " + b->name + ", which is not shared";
  return {};
}

std::string Memory::End() const {
  for (const Buffer& b : buffers_) {
    size_t missing = 0, first = 0;
    for (size_t i = b.writer.size(); i-- > 0;) {
      if (b.writer[i] == 0) {
        ++missing;
        first = i;
      }
    }
    if (missing > 0) {
      return std::to_string(missing) + " of " + std::to_string(b.bytes) + " bytes of output " +
             b.name + " were never written, the first at " + std::to_string(first);
    }
  }
  return {};
}

}  // namespace emu
