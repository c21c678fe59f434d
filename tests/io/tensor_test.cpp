// tests/io/tensor_test.cpp: io/element.h and io/tensor.h, and the wording of io/text.h.
#include "io/tensor.h"

#include <gtest/gtest.h>

#include "io/text.h"
#include "tests/io/io_testing.h"

namespace heed::io {
namespace {

TEST(ElementType, NamesAndDTypesGoBothWays) {
  for (const ElementTypeInfo& info : kElementTypes) {
    EXPECT_EQ(ElementTypeNamed(Name(info.type)), info.type);
    if (const auto dtype = ToDType(info.type)) {
      EXPECT_EQ(FromDType(*dtype), info.type);
      EXPECT_EQ(heed::SizeOf(*dtype), SizeOf(info.type));
    }
    EXPECT_EQ(ToDType(info.type).has_value(), IsFloat(info.type));
  }
  EXPECT_EQ(ElementTypeNamed("F8_E4M3"), std::nullopt);
  EXPECT_EQ(FromDType(DType::kF64), ElementType::kF64);
}

TEST(Tensor, IsAlignedAndTyped) {
  Tensor t = Make<float>("x", {2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.data.data()) % kAlignment, 0u);
  EXPECT_EQ(t.ElementCount(), 6);
  ASSERT_EQ(t.As<float>().size(), 6u);
  t.As<float>()[5] = 7;
  EXPECT_EQ(std::as_const(t).As<float>()[5], 7.0f);
  EXPECT_TRUE(t.As<std::int32_t>().empty());  // not what it holds
}

TEST(Tensor, RankZeroAndEmptyAreLegal) {
  EXPECT_EQ(Make<double>("x", {}, {1.5}).ElementCount(), 1);
  EXPECT_EQ(Make<double>("x", {3, 0, 2}, {}).ElementCount(), 0);
  EXPECT_TRUE(CheckTensor(Make<double>("x", {0}, {})).ok());
}

TEST(Tensor, RefusesWhatDoesNotFit) {
  EXPECT_EQ(MakeTensor("x", ElementType::kF32, {2, -1}).status().message(),
            "tensor 'x': shape [2, -1] has the dimension -1; dimensions must be 0 or more");
  const std::int64_t huge = std::int64_t{1} << 31;
  EXPECT_EQ(MakeTensor("x", ElementType::kF32, {huge, huge, 0}).status().message(),
            "tensor 'x': shape [2147483648, 2147483648, 0] of F32 is too large: its bytes must "
            "stay below 2^63");
  const std::vector<float> one = {1};
  EXPECT_EQ(TensorOf<float>("x", {2}, one).status().message(),
            "the shape has 2 elements and 1 values are given: they must be equal");
  // More than any machine has: a Status, not an exception.
  const Result<Tensor> too_much = MakeTensor("x", ElementType::kU8, {std::int64_t{1} << 60});
  EXPECT_EQ(too_much.status().code(), StatusCode::kRefused);
  EXPECT_EQ(too_much.status().message(), "there is not enough memory for the tensors");
}

TEST(Tensor, BoolsAreZeroOrOne) {
  Tensor t = *MakeTensor("mask", ElementType::kBool, {3});
  t.data[2] = std::byte{2};
  EXPECT_EQ(CheckTensor(t).message(),
            "tensor 'mask': element 2 of a BOOL is the byte 2; it must be 0 or 1");
}

TEST(TensorFile, FindsByName) {
  TensorFile file;
  file.tensors = {Make<float>("a", {1}, {1}), Make<float>("b", {1}, {2})};
  EXPECT_EQ(file.Find("b"), &file.tensors[1]);
  EXPECT_EQ(file.Find("c"), nullptr);
}

TEST(Text, QuoteIsOneShortLine) {
  EXPECT_EQ(Quote("q"), "'q'");
  EXPECT_EQ(Quote("größe"), "'größe'");
  EXPECT_EQ(Quote("a'b\\c\n\xFF"), "'a\\x27b\\x5cc\\x0a\\xff'");
  EXPECT_EQ(Quote(std::string(200, 'x')), "'" + std::string(79, 'x') + "…'");
}

TEST(Text, Utf8ByItsTable) {
  for (const char* good : {"", "a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                           "\xEE\x80\x80", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(IsUtf8(good)) << Quote(good);
  }
  for (const char* bad :
       {"\x80", "\xC1\x81", "\xC2", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE1\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "a\xFFz", "\xE1\x80z", "\xC2z", "\xFE"}) {
    EXPECT_FALSE(IsUtf8(bad)) << Quote(bad);
  }
}

}  // namespace
}  // namespace heed::io
