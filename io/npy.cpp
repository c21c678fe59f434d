// io/npy.cpp: .npy files around their header. Not here: the header's grammar (npy_header.cpp).
#include "io/npy.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "io/file.h"
#include "io/npy_header.h"
#include "io/text.h"

namespace heed::io {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kFixed = 8;                           // magic and version
constexpr std::uint64_t kMaxHeader = std::uint64_t{1} << 20;  // ours: 64 dimensions take 2 KiB

// Where the data starts, and what it is.
struct Front {
  NpyHeader header;
  std::uint64_t data_start = 0;
};

Result<Front> LoadFront(const ByteSource& source) {
  // Magic, version and the longer form of the length.
  std::array<std::byte, 12> bytes{};
  const std::uint64_t have = std::min<std::uint64_t>(source.size(), bytes.size());
  if (have < 10) {
    return Invalid("has ", source.size(), " bytes; a .npy file has at least 10 before its header");
  }
  if (Status status = source.ReadAt(0, std::span(bytes).first(static_cast<std::size_t>(have)));
      !status) {
    return status;
  }
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return Invalid(std::memcmp(bytes.data(), "PK", 2) == 0
                       ? "is an archive such as .npz; a .npy file is needed"
                       : "does not begin with \\x93NUMPY, so it is not a .npy file");
  }
  const int major = std::to_integer<int>(bytes[6]);
  const int minor = std::to_integer<int>(bytes[7]);
  if (major < 1 || major > 3 || minor != 0) {
    return Invalid("has version ", major, ".", minor, " of the format; it must be 1.0, 2.0 or 3.0");
  }
  const std::uint64_t length_bytes = major == 1 ? 2 : 4;
  const std::uint64_t header_start = kFixed + length_bytes;
  if (source.size() < header_start) {
    return Invalid("has ", source.size(), " bytes; this version of the format has at least ",
                   header_start, " before its header");
  }
  std::uint64_t length = 0;
  for (std::uint64_t i = 0; i < length_bytes; ++i) {
    length |= std::to_integer<std::uint64_t>(bytes[kFixed + i]) << (8 * i);
  }
  if (length > kMaxHeader) {
    return Invalid("the header length is ", length, "; it must be at most ", kMaxHeader);
  }
  if (length > source.size() - header_start) {
    return Invalid("the header length is ", length, ", but only ", source.size() - header_start,
                   " bytes follow it");
  }
  std::string text(static_cast<std::size_t>(length), '\0');
  if (Status status = source.ReadAt(header_start, std::as_writable_bytes(std::span<char>(text)));
      !status) {
    return status;
  }
  Result<NpyHeader> header = ParseNpyHeader(text);
  if (!header) return header.status();
  return Front{std::move(*header), header_start + length};
}

struct Digit {  // of an odometer that counts through the elements in row-major order
  std::int64_t value = 0;
  std::int64_t size = 0;
  std::int64_t stride = 0;  // in elements of the source
};

// Copies elements of N bytes that lie first index fastest to row-major order: walks the target in
// order, and an odometer along with it that says where in the source the element is.
template <std::size_t N>
void ToRowMajor(const AlignedBytes& from, std::vector<Digit> odometer, AlignedBytes& to) {
  std::int64_t source = 0;
  for (std::size_t at = 0; at < to.size(); at += N) {
    std::memcpy(to.data() + at, from.data() + source * static_cast<std::int64_t>(N), N);
    for (std::size_t d = odometer.size(); d-- > 0;) {
      Digit& digit = odometer[d];
      source += digit.stride;
      if (++digit.value < digit.size) break;
      source -= digit.stride * digit.size;
      digit.value = 0;
    }
  }
}

void FortranToRowMajor(Tensor& tensor) {
  std::vector<Digit> odometer;
  std::int64_t stride = 1;
  for (const std::int64_t size : tensor.shape) {
    if (size != 1) odometer.push_back({0, size, stride});  // so that carries are rare
    stride *= size;
  }
  AlignedBytes row_major(tensor.data.size());
  switch (SizeOf(tensor.type)) {
    case 1:
      ToRowMajor<1>(tensor.data, std::move(odometer), row_major);
      break;
    case 2:
      ToRowMajor<2>(tensor.data, std::move(odometer), row_major);
      break;
    case 4:
      ToRowMajor<4>(tensor.data, std::move(odometer), row_major);
      break;
    default:
      ToRowMajor<8>(tensor.data, std::move(odometer), row_major);
  }
  tensor.data = std::move(row_major);
}

Result<Tensor> Load(const ByteSource& source, std::string name) {
  Result<Front> front = LoadFront(source);
  if (!front) return front.status();
  NpyHeader& header = front->header;
  const Result<std::int64_t> bytes = ByteCount(header.type, header.shape);
  if (!bytes) return bytes.status();
  // Checked before anything is allocated: what a header claims costs nothing.
  const std::uint64_t have = source.size() - front->data_start;
  if (static_cast<std::uint64_t>(*bytes) != have) {
    return Invalid("shape ", ShapeText(header.shape), " of ", Name(header.type), " takes ", *bytes,
                   " bytes, but ", have, " follow the header; they must be equal");
  }
  Result<Tensor> tensor = MakeTensor(std::move(name), header.type, std::move(header.shape));
  if (!tensor) return tensor;
  if (Status status = source.ReadAt(front->data_start, tensor->data); !status) return status;
  if (Status status = CheckTensor(*tensor); !status) return status;
  if (header.fortran_order && !tensor->data.empty()) FortranToRowMajor(*tensor);
  return tensor;
}

// Everything before the data: a multiple of 64 bytes, as numpy makes it.
Result<std::string> FormatFront(const Tensor& tensor) {
  if (Status status = CheckTensor(tensor); !status) return status;
  std::string text = FormatNpyHeader({tensor.type, false, tensor.shape});
  constexpr std::size_t kMaxOfVersion1 = 0xFFFF;
  const bool version1 = text.size() + kAlignment <= kMaxOfVersion1;
  const std::size_t length_bytes = version1 ? 2 : 4;
  const std::size_t unpadded = kFixed + length_bytes + text.size() + 1;
  text.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  text += '\n';
  if (text.size() > kMaxHeader) {
    return Invalid("tensor ", Quote(tensor.name), ": the ", tensor.shape.size(),
                   " dimensions make a header of ", text.size(), " bytes; it must be at most ",
                   kMaxHeader);
  }
  std::string out(kMagic);
  out += version1 ? '\1' : '\2';
  out += '\0';
  for (std::size_t i = 0; i < length_bytes; ++i) {
    out += static_cast<char>((text.size() >> (8 * i)) & 0xFF);
  }
  return out + text;
}

// "q" of "a/b/q.npy".
std::string NameOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.size() > 4 && name.ends_with(".npy")) name.resize(name.size() - 4);
  return name;
}

}  // namespace

Result<Tensor> ParseNpy(const std::byte* data, std::size_t size) {
  return NoThrow([&] { return Load(MemorySource(data, size), ""); });
}

Result<Tensor> ReadNpy(const std::string& path) {
  Result<Tensor> tensor = NoThrow([&]() -> Result<Tensor> {
    const Result<std::unique_ptr<ByteSource>> source = OpenFile(path);
    if (!source) return source.status();
    return Load(**source, NameOf(path));
  });
  if (!tensor) return WithPath(path, tensor.status());
  return tensor;
}

Result<AlignedBytes> FormatNpy(const Tensor& tensor) {
  return NoThrow([&]() -> Result<AlignedBytes> {
    const Result<std::string> front = FormatFront(tensor);
    if (!front) return front.status();
    const auto bytes = std::as_bytes(std::span<const char>(*front));
    AlignedBytes out(bytes.begin(), bytes.end());
    out.insert(out.end(), tensor.data.begin(), tensor.data.end());
    return out;
  });
}

Status WriteNpy(const std::string& path, const Tensor& tensor) {
  const Result<std::string> front = NoThrow([&] { return FormatFront(tensor); });
  if (!front) return WithPath(path, front.status());
  const std::array<std::span<const std::byte>, 2> pieces = {
      std::as_bytes(std::span<const char>(*front)), tensor.data};
  return ReplaceFile(path, pieces);
}

}  // namespace heed::io
