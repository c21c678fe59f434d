// tests/io/io_property_test.cpp: random files come back; damaged ones get a sentence.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "io/convert.h"
#include "io/npy.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "tests/io/io_testing.h"

namespace heed::io {
namespace {

ElementType AnyType() { return kElementTypes[*rc::gen::inRange<std::size_t>(0, 13)].type; }

Tensor AnyTensor(std::string name) {
  const auto rank = *rc::gen::inRange<std::size_t>(0, 5);
  const auto shape =
      *rc::gen::container<std::vector<std::int64_t>>(rank, rc::gen::inRange<std::int64_t>(0, 5));
  Tensor tensor = *MakeTensor(std::move(name), AnyType(), shape);
  const int limit = tensor.type == ElementType::kBool ? 2 : 256;
  for (std::byte& b : tensor.data) b = static_cast<std::byte>(*rc::gen::inRange(0, limit));
  return tensor;
}

// Text with quotes, control characters and more than one byte per character, but always UTF-8.
std::string AnyText() {
  const auto parts = *rc::gen::container<std::vector<std::string>>(rc::gen::element<std::string>(
      "a", "b", "q", "\"", "\\", "\n", std::string(1, '\0'), "é", "€", "😀", "\x7F", "{", "}"));
  std::string out;
  for (const std::string& part : parts) out += part;
  return out;
}

TensorFile AnyFile() {
  TensorFile file;
  const int count = *rc::gen::inRange(0, 5);
  for (int i = 0; i < count; ++i) {
    const std::string name = AnyText();
    if (file.Find(name) == nullptr) file.tensors.push_back(AnyTensor(name));
  }
  const int keys = *rc::gen::inRange(0, 3);
  for (int i = 0; i < keys; ++i) file.metadata[AnyText()] = AnyText();
  return file;
}

// A few bytes changed, put in, taken out, or the end cut off.
AlignedBytes Damaged(AlignedBytes bytes) {
  const int count = *rc::gen::inRange(1, 4);
  for (int i = 0; i < count && !bytes.empty(); ++i) {
    // Mostly in the front, where the header is.
    const auto reach = *rc::gen::element<std::size_t>(16, 400, bytes.size());
    const auto at = *rc::gen::inRange<std::size_t>(0, std::min(reach, bytes.size()));
    const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    const auto value = static_cast<std::byte>(*rc::gen::element(
        *rc::gen::inRange(0, 256), int('"'), int('{'), int('}'), int('['), int('9'), int(',')));
    switch (*rc::gen::inRange(0, 5)) {
      case 0:
        bytes.erase(place);
        break;
      case 1:
        bytes.insert(place, value);
        break;
      case 2:
        bytes.resize(at);
        break;
      default:
        *place = value;
    }
  }
  return bytes;
}

// One line that a person can read.
void CheckSentence(const Status& status) {
  RC_ASSERT(!status.ok());
  RC_ASSERT(!status.message().empty());
  RC_ASSERT(status.message().find('\n') == std::string::npos);
  RC_ASSERT(status.message().find('\0') == std::string::npos);
  RC_ASSERT(IsUtf8(status.message()));
  RC_ASSERT(status.message().size() < 600u);
}

RC_GTEST_PROP(IoProperty, SafetensorsRoundTrip, ()) {
  const TensorFile file = AnyFile();
  const Result<AlignedBytes> bytes = FormatSafetensors(file);
  RC_ASSERT(bytes.ok());
  const Result<TensorFile> back = ParseSafetensors(bytes->data(), bytes->size());
  RC_ASSERT(back.ok());
  RC_ASSERT(*back == file);
}

RC_GTEST_PROP(IoProperty, NpyRoundTrip, ()) {
  const Tensor tensor = AnyTensor("");
  const Result<AlignedBytes> bytes = FormatNpy(tensor);
  RC_ASSERT(bytes.ok());
  const Result<Tensor> back = ParseNpy(bytes->data(), bytes->size());
  RC_ASSERT(back.ok());
  RC_ASSERT(*back == tensor);
}

// What is still taken after damage must itself survive a round trip: nothing half-read comes out.
RC_GTEST_PROP(IoProperty, DamagedSafetensors, ()) {
  const AlignedBytes bytes = Damaged(*FormatSafetensors(AnyFile()));
  const Result<TensorFile> file = ParseSafetensors(bytes.data(), bytes.size());
  if (!file) return CheckSentence(file.status());
  const Result<AlignedBytes> again = FormatSafetensors(*file);
  RC_ASSERT(again.ok());
  RC_ASSERT(*ParseSafetensors(again->data(), again->size()) == *file);
}

RC_GTEST_PROP(IoProperty, DamagedNpy, ()) {
  const AlignedBytes bytes = Damaged(*FormatNpy(AnyTensor("")));
  const Result<Tensor> tensor = ParseNpy(bytes.data(), bytes.size());
  if (!tensor) return CheckSentence(tensor.status());
  const Result<AlignedBytes> again = FormatNpy(*tensor);
  RC_ASSERT(again.ok());
  RC_ASSERT(*ParseNpy(again->data(), again->size()) == *tensor);
}

// Widening loses nothing: there and back are the same bits, but for NaN, which need only stay NaN.
RC_GTEST_PROP(IoProperty, WideningAndBackIsTheSame, ()) {
  const auto bits = *rc::gen::arbitrary<std::uint16_t>();
  const bool bf16 = *rc::gen::arbitrary<bool>();
  const Tensor narrow = bf16 ? Make<Bf16>("x", {}, {Bf16{bits}}) : Make<F16>("x", {}, {F16{bits}});
  const ElementType wide = *rc::gen::element(ElementType::kF32, ElementType::kF64);
  const Result<Tensor> back = Convert(*Convert(narrow, wide), narrow.type);
  RC_ASSERT(back.ok());
  const float before = bf16 ? ToFloat(Bf16{bits}) : ToFloat(F16{bits});
  const float after = bf16 ? ToFloat(back->As<Bf16>()[0]) : ToFloat(back->As<F16>()[0]);
  if (std::isnan(before)) {
    RC_ASSERT(std::isnan(after));
  } else {
    RC_ASSERT(*back == narrow);
  }
}

}  // namespace
}  // namespace heed::io
