// heed/types.h: the small values every part of the API speaks in (dtype, Status, Result). Not here:
// Problem, Plan.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace heed {

/// Element type of q, k, v, o and their gradients. Row state and lse are always f32.
enum class DType : std::uint8_t {
  kF32,   ///< IEEE binary32
  kBF16,  ///< bfloat16: the upper half of a binary32
  kF16,   ///< IEEE binary16
  kF64,   ///< IEEE binary64; served by the reference backend only
};

/// Bytes of one element.
constexpr std::int64_t SizeOf(DType t) { return t == DType::kF64 ? 8 : t == DType::kF32 ? 4 : 2; }

/// "f32", "bf16", "f16", "f64".
constexpr const char* Name(DType t) {
  return t == DType::kF32 ? "f32" : t == DType::kBF16 ? "bf16" : t == DType::kF16 ? "f16" : "f64";
}

/// Why a call did not happen. kOk is the only success.
enum class StatusCode : std::uint8_t {
  kOk,
  kInvalid,  ///< the request is wrong, whoever serves it: fix the arguments
  kRefused,  ///< the request is right, but the backend (or every backend) asked cannot serve it
  kBuffers,  ///< the buffers do not fit the plan: null, overlapping, misaligned, workspace too
             ///< small
  kDevice,   ///< the device failed
};

/// Success, or a code and one sentence: which field, both numbers, what would be accepted.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  explicit operator bool() const { return ok(); }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

/// A value, or the Status that says why there is none. Look at ok() before taking the value.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                    // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)), value_() {}  // NOLINT: implicit on purpose

  bool ok() const { return status_.ok(); }
  explicit operator bool() const { return ok(); }
  const Status& status() const { return status_; }

  const T& operator*() const { return value_; }
  T& operator*() { return value_; }
  const T* operator->() const { return &value_; }
  T* operator->() { return &value_; }

 private:
  Status status_;
  T value_;
};

}  // namespace heed
