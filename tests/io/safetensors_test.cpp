// tests/io/safetensors_test.cpp: good files. Not here: safetensors_refusal_test.cpp.
#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/io/io_testing.h"

namespace heed::io {
namespace {

TensorFile Sample() {
  TensorFile file;
  file.tensors.push_back(*MakeTensor("mask", ElementType::kBool, {3}));
  file.tensors.push_back(Make<float>("q", {2, 2}, {1, -0.0f, 3, 4}));
  file.tensors.push_back(Make<double>("größe \"\\\n", {}, {0.1}));
  file.tensors.push_back(Make<std::int64_t>("", {0, 7}, {}));
  file.tensors.push_back(Make<float>("nan", {1, 1, 1}, {std::numeric_limits<float>::quiet_NaN()}));
  file.metadata = {{"causal", "true"}, {"", std::string("\0x", 2)}, {"text", "é\n\"quoted\""}};
  return file;
}

Result<TensorFile> Parse(const std::string& text) {
  const AlignedBytes bytes = BytesOf(text);
  return ParseSafetensors(bytes.data(), bytes.size());
}

TEST(Safetensors, WhatIsFormattedParsesToTheSame) {
  const TensorFile file = Sample();
  const Result<AlignedBytes> bytes = FormatSafetensors(file);
  ASSERT_TRUE(bytes.ok()) << bytes.status().message();
  const Result<TensorFile> back = ParseSafetensors(bytes->data(), bytes->size());
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(*back, file);
}

TEST(Safetensors, WhatIsWrittenReadsTheSame) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  const TensorFile file = Sample();
  const Status written = WriteSafetensors(path, file);
  ASSERT_TRUE(written.ok()) << written.message();
  EXPECT_EQ(Contents(path), TextOf(*FormatSafetensors(file)));
  const Result<TensorFile> back = ReadSafetensors(path);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(*back, file);
  for (const Tensor& tensor : back->tensors) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data.data()) % kAlignment, 0u);
  }
}

TEST(Safetensors, LaysTensorsOutByElementSizeOnAlignedData) {
  TensorFile file;
  file.tensors = {Make<std::uint8_t>("b", {1}, {1}), Make<float>("f", {1}, {2}),
                  Make<double>("d", {1}, {3}), Make<float>("g", {1}, {4})};
  const std::string text = TextOf(*FormatSafetensors(file));
  const std::string header = R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[16,17]},)"
                             R"("f":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
                             R"("d":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},)"
                             R"("g":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})";
  EXPECT_EQ(text.substr(8, header.size()), header);
  EXPECT_EQ((text.size() - 17) % kAlignment, 0u);
}

TEST(Safetensors, EveryElementTypeHasItsName) {
  for (const ElementTypeInfo& info : kElementTypes) {
    TensorFile file;
    file.tensors.push_back(*MakeTensor("x", info.type, {3}));
    const Result<AlignedBytes> bytes = FormatSafetensors(file);
    ASSERT_TRUE(bytes.ok());
    EXPECT_NE(TextOf(*bytes).find(std::string("\"").append(info.name).append("\"")),
              std::string::npos);
    EXPECT_EQ(*ParseSafetensors(bytes->data(), bytes->size()), file);
  }
}

// Files as other writers may make them.
TEST(Safetensors, ReadsWhatTheFormatAllows) {
  EXPECT_EQ(*Parse(Safetensors("{}")), TensorFile{});
  EXPECT_EQ(*Parse(Safetensors("{ \n\t}   \n")), TensorFile{});
  EXPECT_EQ(*Parse(Safetensors(R"({"__metadata__":{}})")), TensorFile{});
  // Keys in any order, escapes in names, empty tensors between others and at the end.
  const Result<TensorFile> file = Parse(Safetensors(
      R"({"\u0062":{"data_offsets":[2,3],"shape":[1],"dtype":"U8"},)"
      R"("e":{"dtype":"F32","shape":[0],"data_offsets":[2,2]},)"
      R"("z":{"dtype":"F64","shape":[2,0],"data_offsets":[3,3]},)"
      R"("s":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},"__metadata__":{"k":"v"}})",
      "\x80\x3F\x05"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->tensors.size(), 4u);
  EXPECT_EQ(file->tensors[0], Make<std::uint8_t>("b", {1}, {5}));
  EXPECT_EQ(*file->Find("s"), Make<Bf16>("s", {}, {Bf16{0x3F80}}));
  EXPECT_EQ(file->metadata.at("k"), "v");
}

TEST(Safetensors, ManyTensorsAreNotSlow) {
  TensorFile file;
  for (int i = 0; i < 20000; ++i) {
    file.tensors.push_back(Make<std::uint8_t>(std::to_string(i), {1}, {1}));
  }
  const Result<AlignedBytes> bytes = FormatSafetensors(file);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(*ParseSafetensors(bytes->data(), bytes->size()), file);
}

}  // namespace
}  // namespace heed::io
