// io/text.h: how sentences about files are worded; UTF-8. Internal to io/. Not here: formats.
#pragma once

#include <concepts>
#include <cstdint>
#include <exception>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "heed/types.h"

namespace heed::io {

inline void AppendText(std::string& out, std::string_view part) { out += part; }
template <std::integral T>
void AppendText(std::string& out, T part) {
  out += std::to_string(part);
}

/// The parts, text or integers, in one string.
template <class... Parts>
std::string Cat(const Parts&... parts) {
  std::string out;
  (AppendText(out, parts), ...);
  return out;
}

/// kInvalid and the sentence of the parts.
template <class... Parts>
Status Invalid(const Parts&... parts) {
  return Status(StatusCode::kInvalid, Cat(parts...));
}

/// A name from a file, fit for a sentence: in quotes, one line, at most about 80 bytes.
std::string Quote(std::string_view name);

/// "[2, 3]"; long shapes are cut after 8 dimensions.
std::string ShapeText(std::span<const std::int64_t> shape);

/// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsUtf8(std::string_view text);

/// The same failure with "`path`: " before its sentence; success stays success.
Status WithPath(const std::string& path, const Status& status);

/// Calls f and turns what it throws (in practice: no memory) into a Status: the wall between the
/// standard library, which throws, and our callers, who never see it.
template <class F>
std::invoke_result_t<F> NoThrow(F&& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kRefused, "there is not enough memory for the tensors");
  } catch (const std::length_error&) {
    return Status(StatusCode::kRefused, "there is not enough memory for the tensors");
  } catch (const std::exception& e) {
    return Status(StatusCode::kInvalid, e.what());
  }
}

}  // namespace heed::io
