// io/tensor.h: a named tensor in memory, and those of one file. Not here: formats, arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "heed/types.h"
#include "io/element.h"

namespace heed::io {

/// A cache line, and the widest vector of any engine.
inline constexpr std::size_t kAlignment = 64;

/// The allocator that makes a vector start on a cache line.
template <class T>
struct AlignedAllocator {
  using value_type = T;

  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}  // NOLINT: implicit, as allocators must be

  T* allocate(std::size_t n) {
    // No system gives a process more; some allocators (sanitizers) end the program when asked.
    constexpr std::size_t kAddressSpace = std::size_t{1} << 47;
    if (n > kAddressSpace / sizeof(T)) throw std::bad_alloc();
    return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{kAlignment}));
  }
  void deallocate(T* p, std::size_t) { ::operator delete (p, std::align_val_t{kAlignment}); }

  friend bool operator==(const AlignedAllocator&, const AlignedAllocator&) { return true; }
};

using AlignedBytes = std::vector<std::byte, AlignedAllocator<std::byte>>;

/// A dense row-major tensor that owns its elements (little-endian, as every host we build for).
/// Rank 0 is one element; a dimension of 0 makes a tensor without elements, whose data() is null.
struct Tensor {
  std::string name;
  ElementType type = ElementType::kF32;
  std::vector<std::int64_t> shape;
  AlignedBytes data;

  /// From the bytes, so that it is never more than there is, whatever `shape` says.
  std::int64_t ElementCount() const {
    return static_cast<std::int64_t>(data.size()) / SizeOf(type);
  }

  /// The elements, or nothing if T is not the C++ type of `type`: look at `type` first.
  template <class T>
  std::span<const T> As() const {
    if (kElementTypeOf<T> != type) return {};
    return {reinterpret_cast<const T*>(data.data()), data.size() / sizeof(T)};
  }
  template <class T>
  std::span<T> As() {
    if (kElementTypeOf<T> != type) return {};
    return {reinterpret_cast<T*>(data.data()), data.size() / sizeof(T)};
  }

  /// Of the bytes: NaN equals itself, -0 differs from +0.
  friend bool operator==(const Tensor&, const Tensor&) = default;
};

/// What one file holds. Names are unique; the order is the file's and is kept by the writer.
struct TensorFile {
  std::vector<Tensor> tensors;
  std::map<std::string, std::string> metadata;

  /// The tensor of that name, or null.
  const Tensor* Find(std::string_view name) const;

  friend bool operator==(const TensorFile&, const TensorFile&) = default;
};

/// Bytes that a tensor takes. Fails for a negative dimension, and where the product of the non-zero
/// dimensions and the element size leaves int64 (so strides are safe to compute for any tensor that
/// passes).
Result<std::int64_t> ByteCount(ElementType type, std::span<const std::int64_t> shape);

/// Fails unless `data` has the bytes that type and shape ask for and a BOOL holds only 0 and 1.
Status CheckTensor(const Tensor& tensor);

/// A tensor of zeros.
Result<Tensor> MakeTensor(std::string name, ElementType type, std::vector<std::int64_t> shape);

/// A tensor with a copy of `values`, whose number must be the product of `shape`.
template <class T>
Result<Tensor> TensorOf(std::string name, std::vector<std::int64_t> shape,
                        std::span<const T> values) {
  Result<Tensor> made = MakeTensor(std::move(name), kElementTypeOf<T>, std::move(shape));
  if (!made) return made;
  if (made->data.size() != values.size_bytes()) {
    return Status(StatusCode::kInvalid, "the shape has " + std::to_string(made->ElementCount()) +
                                            " elements and " + std::to_string(values.size()) +
                                            " values are given: they must be equal");
  }
  if (!values.empty()) std::memcpy(made->data.data(), values.data(), values.size_bytes());
  return made;
}

}  // namespace heed::io
