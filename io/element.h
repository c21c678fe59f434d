// io/element.h: the element types of tensor files and their C++ types. Not here: conversion.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "heed/types.h"

namespace heed::io {

/// What one element of a tensor in a file is. The order is that of kElementTypes.
enum class ElementType : std::uint8_t {
  kBool,  ///< one byte, 0 or 1: readers and writers refuse any other value
  kU8,
  kI8,
  kU16,
  kI16,
  kF16,
  kBF16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
};

/// bfloat16 as it lies in memory: the upper half of a binary32.
struct Bf16 {
  std::uint16_t bits = 0;
  friend bool operator==(const Bf16&, const Bf16&) = default;  // of bits: -0 differs from +0
};

/// IEEE binary16 as it lies in memory.
struct F16 {
  std::uint16_t bits = 0;
  friend bool operator==(const F16&, const F16&) = default;
};

struct ElementTypeInfo {
  ElementType type;
  std::int64_t size;   ///< bytes
  const char* name;    ///< as safetensors spells it
  const char* letter;  ///< kind and size as .npy spells them, without the byte order
};

/// One row per type. numpy has no bfloat16; arrays of ml_dtypes.bfloat16 are saved as the raw type
/// V2, so that is what BF16 is called in a .npy file.
inline constexpr std::array<ElementTypeInfo, 13> kElementTypes = {{
    {ElementType::kBool, 1, "BOOL", "b1"},
    {ElementType::kU8, 1, "U8", "u1"},
    {ElementType::kI8, 1, "I8", "i1"},
    {ElementType::kU16, 2, "U16", "u2"},
    {ElementType::kI16, 2, "I16", "i2"},
    {ElementType::kF16, 2, "F16", "f2"},
    {ElementType::kBF16, 2, "BF16", "V2"},
    {ElementType::kU32, 4, "U32", "u4"},
    {ElementType::kI32, 4, "I32", "i4"},
    {ElementType::kF32, 4, "F32", "f4"},
    {ElementType::kU64, 8, "U64", "u8"},
    {ElementType::kI64, 8, "I64", "i8"},
    {ElementType::kF64, 8, "F64", "f8"},
}};

constexpr const ElementTypeInfo& InfoOf(ElementType t) {
  return kElementTypes[static_cast<std::size_t>(t)];
}

static_assert(
    [] {
      for (std::size_t i = 0; i < kElementTypes.size(); ++i) {
        if (static_cast<std::size_t>(kElementTypes[i].type) != i) return false;
      }
      return true;
    }(),
    "the rows of kElementTypes are in the order of ElementType, since InfoOf indexes by it");

/// Bytes of one element.
constexpr std::int64_t SizeOf(ElementType t) { return InfoOf(t).size; }

/// "F32", "BF16", "BOOL", …: the spelling of safetensors.
constexpr const char* Name(ElementType t) { return InfoOf(t).name; }

constexpr bool IsFloat(ElementType t) {
  return t == ElementType::kF16 || t == ElementType::kBF16 || t == ElementType::kF32 ||
         t == ElementType::kF64;
}

/// The type that safetensors calls `name`, if there is one.
constexpr std::optional<ElementType> ElementTypeNamed(std::string_view name) {
  for (const ElementTypeInfo& info : kElementTypes) {
    if (name == info.name) return info.type;
  }
  return std::nullopt;
}

/// The type of q, k, v that has these elements, if there is one.
constexpr std::optional<DType> ToDType(ElementType t) {
  switch (t) {
    case ElementType::kF32:
      return DType::kF32;
    case ElementType::kBF16:
      return DType::kBF16;
    case ElementType::kF16:
      return DType::kF16;
    case ElementType::kF64:
      return DType::kF64;
    default:
      return std::nullopt;
  }
}

constexpr ElementType FromDType(DType t) {
  switch (t) {
    case DType::kBF16:
      return ElementType::kBF16;
    case DType::kF16:
      return ElementType::kF16;
    case DType::kF64:
      return ElementType::kF64;
    case DType::kF32:
      break;
  }
  return ElementType::kF32;
}

/// The ElementType whose elements are T in C++: kElementTypeOf<float> is kF32. Other T do not
/// compile.
template <class T>
inline constexpr ElementType kElementTypeOf = [] {
  static_assert(sizeof(T) == 0, "no tensor file holds elements of this C++ type");
  return ElementType::kBool;
}();
template <>
inline constexpr ElementType kElementTypeOf<bool> = ElementType::kBool;
template <>
inline constexpr ElementType kElementTypeOf<std::uint8_t> = ElementType::kU8;
template <>
inline constexpr ElementType kElementTypeOf<std::int8_t> = ElementType::kI8;
template <>
inline constexpr ElementType kElementTypeOf<std::uint16_t> = ElementType::kU16;
template <>
inline constexpr ElementType kElementTypeOf<std::int16_t> = ElementType::kI16;
template <>
inline constexpr ElementType kElementTypeOf<F16> = ElementType::kF16;
template <>
inline constexpr ElementType kElementTypeOf<Bf16> = ElementType::kBF16;
template <>
inline constexpr ElementType kElementTypeOf<std::uint32_t> = ElementType::kU32;
template <>
inline constexpr ElementType kElementTypeOf<std::int32_t> = ElementType::kI32;
template <>
inline constexpr ElementType kElementTypeOf<float> = ElementType::kF32;
template <>
inline constexpr ElementType kElementTypeOf<std::uint64_t> = ElementType::kU64;
template <>
inline constexpr ElementType kElementTypeOf<std::int64_t> = ElementType::kI64;
template <>
inline constexpr ElementType kElementTypeOf<double> = ElementType::kF64;

static_assert(sizeof(bool) == 1, "BOOL elements are used in place as C++ bool");

}  // namespace heed::io
