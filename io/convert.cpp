// io/convert.cpp: whole tensors between element types. Not here: the rounding (convert.h).
#include "io/convert.h"

#include <limits>
#include <string>
#include <utility>

#include "io/text.h"

namespace heed::io {
namespace {

// Calls f with a value of the C++ type of `type`; the one switch over element types.
template <class F>
auto WithElement(ElementType type, F&& f) {
  switch (type) {
    case ElementType::kBool:
      return f(bool{});
    case ElementType::kU8:
      return f(std::uint8_t{});
    case ElementType::kI8:
      return f(std::int8_t{});
    case ElementType::kU16:
      return f(std::uint16_t{});
    case ElementType::kI16:
      return f(std::int16_t{});
    case ElementType::kF16:
      return f(F16{});
    case ElementType::kBF16:
      return f(Bf16{});
    case ElementType::kU32:
      return f(std::uint32_t{});
    case ElementType::kI32:
      return f(std::int32_t{});
    case ElementType::kU64:
      return f(std::uint64_t{});
    case ElementType::kI64:
      return f(std::int64_t{});
    case ElementType::kF64:
      return f(double{});
    case ElementType::kF32:
      break;
  }
  return f(float{});
}

// std::in_range takes neither bool nor character types; bool counts as 0 and 1 here.
template <class To, class From>
bool Fits(From value) {
  if constexpr (std::same_as<From, bool>) {
    return true;
  } else if constexpr (std::same_as<To, bool>) {
    return value == From{0} || value == From{1};
  } else if constexpr (FloatElement<To>) {
    constexpr std::int64_t kExact = std::int64_t{1} << 53;  // every integer up to here is a double
    return std::cmp_less_equal(value, kExact) && std::cmp_greater_equal(value, -kExact);
  } else {
    return std::in_range<To>(value);
  }
}

template <class From, class To>
Status ConvertElements(const Tensor& from, Tensor& to) {
  const std::span<const From> in = from.As<From>();
  const std::span<To> out = to.As<To>();
  if constexpr (FloatElement<From> && FloatElement<To>) {
    RoundAll<To, From>(in, out);
  } else if constexpr (FloatElement<From>) {
    return Invalid("tensor ", Quote(from.name), ": ", Name(from.type), " cannot become ",
                   Name(to.type), "; a floating type could");
  } else {
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (!Fits<To>(in[i])) {
        return Invalid("tensor ", Quote(from.name), ": element ", i, " is ", +in[i],
                       " and does not fit ", Name(to.type),
                       FloatElement<To> ? " (integers up to 2^53 do)" : "");
      }
      if constexpr (FloatElement<To>) {
        out[i] = RoundTo<To>(static_cast<double>(in[i]));
      } else {
        out[i] = static_cast<To>(in[i]);
      }
    }
  }
  return {};
}

}  // namespace

Result<Tensor> Convert(const Tensor& tensor, ElementType to) {
  return NoThrow([&]() -> Result<Tensor> {
    if (Status checked = CheckTensor(tensor); !checked) return checked;
    if (tensor.type == to) return tensor;
    Result<Tensor> out = MakeTensor(tensor.name, to, tensor.shape);
    if (!out) return out;
    const Status status = WithElement(tensor.type, [&](auto from_element) {
      return WithElement(to, [&](auto to_element) {
        return ConvertElements<decltype(from_element), decltype(to_element)>(tensor, *out);
      });
    });
    if (!status) return status;
    return out;
  });
}

}  // namespace heed::io
