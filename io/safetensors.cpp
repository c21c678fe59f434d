// io/safetensors.cpp: .safetensors files around their header. Not here: its grammar.
#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "io/file.h"
#include "io/safetensors_header.h"
#include "io/text.h"

namespace heed::io {
namespace {

Result<TensorFile> Load(const ByteSource& source) {
  if (source.size() < kSafetensorsPrefix) {
    return Invalid("has ", source.size(),
                   " bytes; a safetensors file has at least 8, the length of its header");
  }
  std::array<std::byte, kSafetensorsPrefix> prefix{};
  if (Status status = source.ReadAt(0, prefix); !status) return status;
  if (std::memcmp(prefix.data(), "\x93NUMPY", 6) == 0) {
    return Invalid("is a .npy file; a safetensors file is needed");
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < prefix.size(); ++i) {
    length |= std::to_integer<std::uint64_t>(prefix[i]) << (8 * i);
  }
  if (length > kMaxSafetensorsHeader) {
    return Invalid("the header length is ", length, "; it must be at most ", kMaxSafetensorsHeader);
  }
  if (length > source.size() - kSafetensorsPrefix) {
    return Invalid("the header length is ", length, ", but only ",
                   source.size() - kSafetensorsPrefix, " bytes follow it");
  }
  std::string json(static_cast<std::size_t>(length), '\0');
  if (Status status =
          source.ReadAt(kSafetensorsPrefix, std::as_writable_bytes(std::span<char>(json)));
      !status) {
    return status;
  }
  const std::uint64_t data_start = kSafetensorsPrefix + length;
  Result<SafetensorsHeader> header = ParseSafetensorsHeader(json, source.size() - data_start);
  if (!header) return header.status();

  // The header's check bounds what is allocated here by the size of the source.
  TensorFile file;
  file.metadata = std::move(header->metadata);
  file.tensors.reserve(header->entries.size());
  for (SafetensorsEntry& entry : header->entries) {
    Result<Tensor> tensor = MakeTensor(std::move(entry.name), entry.type, std::move(entry.shape));
    if (!tensor) return tensor.status();
    if (Status status = source.ReadAt(data_start + entry.begin, tensor->data); !status) {
      return status;
    }
    if (Status status = CheckTensor(*tensor); !status) return status;
    file.tensors.push_back(std::move(*tensor));
  }
  return file;
}

// The file in pieces, so that a writer need not copy the data. Pieces view `file` and `head`.
struct Pieces {
  std::string head;  // prefix and header
  std::vector<std::span<const std::byte>> all;
};

Status CheckFile(const TensorFile& file) {
  std::unordered_set<std::string> names;
  for (const Tensor& tensor : file.tensors) {
    if (!IsUtf8(tensor.name)) {
      return Invalid("tensor ", Quote(tensor.name), ": the name is not UTF-8; it must be");
    }
    if (tensor.name == "__metadata__") {
      return Invalid("a tensor is named '__metadata__', which is the name of the metadata");
    }
    if (!names.insert(tensor.name).second) {
      return Invalid("tensor ", Quote(tensor.name), " is given twice; names must be unique");
    }
    if (Status status = CheckTensor(tensor); !status) return status;
  }
  for (const auto& [key, value] : file.metadata) {
    if (!IsUtf8(key) || !IsUtf8(value)) {
      return Invalid("metadata ", Quote(key), ": key and value must be UTF-8");
    }
  }
  return {};
}

Status MakePieces(const TensorFile& file, Pieces& pieces) {
  if (Status status = CheckFile(file); !status) return status;
  std::vector<SafetensorsEntry> entries;
  std::vector<std::size_t> order;  // in which the data lies
  for (const Tensor& tensor : file.tensors) {
    order.push_back(order.size());
    entries.push_back({tensor.name, tensor.type, tensor.shape, 0, 0});
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return SizeOf(entries[a].type) > SizeOf(entries[b].type);
  });
  pieces.all.emplace_back();  // for the head, which is only known after the offsets
  std::uint64_t offset = 0;
  for (const std::size_t i : order) {
    entries[i].begin = offset;
    offset += file.tensors[i].data.size();
    entries[i].end = offset;
    pieces.all.emplace_back(file.tensors[i].data);
  }
  const std::string json = FormatSafetensorsHeader(entries, file.metadata);
  if (json.size() > kMaxSafetensorsHeader) {
    return Invalid("the header takes ", json.size(), " bytes; it must be at most ",
                   kMaxSafetensorsHeader);
  }
  for (std::size_t i = 0; i < kSafetensorsPrefix; ++i) {
    pieces.head += static_cast<char>((json.size() >> (8 * i)) & 0xFF);
  }
  pieces.head += json;
  pieces.all[0] = std::as_bytes(std::span<const char>(pieces.head));
  return {};
}

}  // namespace

Result<TensorFile> ParseSafetensors(const std::byte* data, std::size_t size) {
  return NoThrow([&] { return Load(MemorySource(data, size)); });
}

Result<TensorFile> ReadSafetensors(const std::string& path) {
  Result<TensorFile> file = NoThrow([&]() -> Result<TensorFile> {
    const Result<std::unique_ptr<ByteSource>> source = OpenFile(path);
    if (!source) return source.status();
    return Load(**source);
  });
  if (!file) return WithPath(path, file.status());
  return file;
}

Result<AlignedBytes> FormatSafetensors(const TensorFile& file) {
  return NoThrow([&]() -> Result<AlignedBytes> {
    Pieces pieces;
    if (Status status = MakePieces(file, pieces); !status) return status;
    AlignedBytes out;
    for (const auto& piece : pieces.all) out.insert(out.end(), piece.begin(), piece.end());
    return out;
  });
}

Status WriteSafetensors(const std::string& path, const TensorFile& file) {
  Pieces pieces;
  const Status status = NoThrow([&] { return MakePieces(file, pieces); });
  if (!status) return WithPath(path, status);
  return ReplaceFile(path, pieces.all);
}

}  // namespace heed::io
