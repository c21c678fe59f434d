// flat_case.cpp: see flat_case.h.
#include "flat_case.h"

#include <fstream>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "io/element.h"

namespace heed::gpu {
namespace {

Status Bad(const std::string& path, const std::string& what) {
  return {StatusCode::kInvalid, path + ": " + what};
}

}  // namespace

Result<io::TensorFile> ReadFlatCase(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Bad(path, "cannot be opened");
  io::TensorFile file;
  std::string line;
  while (std::getline(in, line) && line != "data") {
    std::istringstream words(line);
    std::string what, name;
    words >> what >> name;
    if (what == "set") {
      std::string value;
      std::getline(words >> std::ws, value);
      file.metadata[name] = value;
    } else if (what == "tensor") {
      std::string type;
      words >> type;
      std::vector<std::int64_t> shape;
      for (std::int64_t size = 0; words >> size;) shape.push_back(size);
      const std::optional<io::ElementType> element = io::ElementTypeNamed(type);
      if (!element) return Bad(path, "no element type is called " + type);
      Result<io::Tensor> made = io::MakeTensor(name, *element, std::move(shape));
      if (!made) return made.status();
      file.tensors.push_back(std::move(*made));
    } else {
      return Bad(path, "a line begins with '" + what + "': it must be set, tensor or data");
    }
  }
  for (io::Tensor& tensor : file.tensors) {
    in.read(reinterpret_cast<char*>(tensor.data.data()),
            static_cast<std::streamsize>(tensor.data.size()));
    if (!in) return Bad(path, "it ends within the tensor '" + tensor.name + "'");
  }
  if (in.peek() != std::ifstream::traits_type::eof()) return Bad(path, "bytes follow the tensors");
  return file;
}

}  // namespace heed::gpu
