// dlpack.h: the structs of DLPack's C exchange protocol that are read here, as DLPack 1.1 and later
// lay them out (https://github.com/dmlc/dlpack). A stable C interface: written down, not included,
// so that building needs no package that has the header.
#pragma once

#include <cstdint>

namespace heed::python::dlpack {

constexpr std::int32_t kCpu = 1, kCuda = 2;
constexpr std::uint32_t kMajor = 1;  // of the versions that these structs belong to

enum Code : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

struct Version {
  std::uint32_t major, minor;
};

struct Tensor {
  void* data;
  std::int32_t device_type, device_id;
  std::int32_t ndim;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements
  std::uint64_t byte_offset;
};

// What the capsule "dlpack_exchange_api" of an array type points to.
struct ExchangeApi {
  Version version;
  ExchangeApi* previous;
  int (*allocate)(Tensor*, void**, void*, void (*)(void*, const char*, const char*));
  int (*managed_from)(void* object, void** out);
  int (*managed_to)(void* tensor, void** object);
  int (*borrow)(void* object, Tensor* out);  // may be null
  int (*work_stream)(std::int32_t, std::int32_t, void**);
};

}  // namespace heed::python::dlpack
