// Global memory of a launch: the buffers a kernel may touch, and what it may do with each.
// Everything else is an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emu {

enum class Use {
  kInput,   // never written
  kOutput,  // every byte written exactly once, and read by the block that wrote it alone, or by a
            // later kernel
  kShared   // read, written and added to by all: counters, partial results, sums
};

class Memory {
 public:
  void Add(const char* name, void* data, size_t bytes, Use use);
  template <class T>
  void Input(const char* name, const std::vector<T>& v) {
    Add(name, const_cast<T*>(v.data()), v.size() * sizeof(T), Use::kInput);
  }
  template <class T>
  void Output(const char* name, std::vector<T>& v) {
    Add(name, v.data(), v.size() * sizeof(T), Use::kOutput);
  }
  template <class T>
  void Shared(const char* name, std::vector<T>& v) {
    Add(name, v.data(), v.size() * sizeof(T), Use::kShared);
  }

  // An output of which only the bytes that `mine` names may be written, as where rows have gaps
  // between them; the others belong to somebody else.
  // kShared: it may be written more than once.
  void AddOutput(const char* name, void* data, size_t bytes, const std::vector<bool>& mine,
                 Use use = Use::kOutput);
  // For kernels from now on: what one writes, a later one may only read.
  void Change(const std::string& name, Use use);

  // Poisons the outputs and forgets who wrote what.
  void Begin();
  // Between two kernels: what the first one wrote, anyone may read.
  void Next();
  // Each returns what is wrong, or nothing.
  std::string Read(const void* from, size_t bytes, int block) const;
  std::string ReadOnly(const void* from, size_t bytes) const;  // the path that sees no writes
  std::string Write(const void* to, size_t bytes, int block);
  std::string Add(const void* to, size_t bytes) const;
  // Output bytes that nobody wrote.
  std::string End() const;

 private:
  struct Buffer {
    std::string name;
    char* data;
    size_t bytes;
    Use use;
    std::vector<uint32_t> writer;  // of an output's byte: block + 1, or kEarlier or kForeign
    std::vector<bool> mine;        // empty: all are
  };
  static constexpr uint32_t kEarlier = ~0u - 1, kForeign = ~0u;
  const Buffer* Find(const void* p, size_t bytes) const;

  std::vector<Buffer> buffers_;
};

}  // namespace emu
