// io/tensor.cpp: sizes and checks of tensors. Not here: file formats, arithmetic.
#include "io/tensor.h"

#include <limits>
#include <utility>

#include "io/text.h"

namespace heed::io {

const Tensor* TensorFile::Find(std::string_view name) const {
  for (const Tensor& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

Result<std::int64_t> ByteCount(ElementType type, std::span<const std::int64_t> shape) {
  std::int64_t bytes = SizeOf(type);
  bool empty = false;
  for (const std::int64_t dim : shape) {
    if (dim < 0) {
      return Invalid("shape ", ShapeText(shape), " has the dimension ", dim,
                     "; dimensions must be 0 or more");
    }
    if (dim == 0) {
      empty = true;
    } else if (bytes > std::numeric_limits<std::int64_t>::max() / dim) {
      return Invalid("shape ", ShapeText(shape), " of ", Name(type),
                     " is too large: its bytes must stay below 2^63");
    } else {
      bytes *= dim;
    }
  }
  return empty ? 0 : bytes;
}

Status CheckTensor(const Tensor& tensor) {
  const Result<std::int64_t> bytes = ByteCount(tensor.type, tensor.shape);
  if (!bytes) return Invalid("tensor ", Quote(tensor.name), ": ", bytes.status().message());
  if (static_cast<std::uint64_t>(*bytes) != tensor.data.size()) {
    return Invalid("tensor ", Quote(tensor.name), ": shape ", ShapeText(tensor.shape), " of ",
                   Name(tensor.type), " takes ", *bytes, " bytes, but the data has ",
                   tensor.data.size(), "; they must be equal");
  }
  if (tensor.type != ElementType::kBool) return {};
  // First without a branch, so that it vectorizes; a wrong byte is looked for only if there is one.
  std::byte any{};
  for (const std::byte b : tensor.data) any |= b;
  if (any <= std::byte{1}) return {};
  std::size_t at = 0;
  while (tensor.data[at] <= std::byte{1}) ++at;
  return Invalid("tensor ", Quote(tensor.name), ": element ", at, " of a BOOL is the byte ",
                 std::to_integer<int>(tensor.data[at]), "; it must be 0 or 1");
}

Result<Tensor> MakeTensor(std::string name, ElementType type, std::vector<std::int64_t> shape) {
  return NoThrow([&]() -> Result<Tensor> {
    const Result<std::int64_t> bytes = ByteCount(type, shape);
    if (!bytes) return Invalid("tensor ", Quote(name), ": ", bytes.status().message());
    Tensor tensor{std::move(name), type, std::move(shape), {}};
    tensor.data.resize(static_cast<std::size_t>(*bytes));
    return tensor;
  });
}

}  // namespace heed::io
