// tests/io/safetensors_refusal_test.cpp: every way a file can be wrong, with its sentence.
#include <gtest/gtest.h>

#include <limits>

#include "io/safetensors.h"
#include "tests/io/io_testing.h"

namespace heed::io {
namespace {

struct Refusal {
  std::string file;
  std::string sentence;
};

// One tensor 'x' with these three fields.
std::string Entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"("x":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}";
}

std::string One(const std::string& dtype, const std::string& shape, const std::string& offsets,
                const std::string& data = "") {
  return Safetensors("{" + Entry(dtype, shape, offsets) + "}", data);
}

const std::string kTypes = "BOOL, U8, I8, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64";
const std::string kF32 = R"("F32")";
const std::string kFour = "0123";
const std::string kGood = Entry(kF32, "[1]", "[0,4]");

const Refusal kRefusals[] = {
    // The frame.
    {"", "has 0 bytes; a safetensors file has at least 8, the length of its header"},
    {"1234567", "has 7 bytes; a safetensors file has at least 8, the length of its header"},
    {LittleEndian(3, 8) + "{}", "the header length is 3, but only 2 bytes follow it"},
    {LittleEndian(100'000'001, 8) + "{}",
     "the header length is 100000001; it must be at most 100000000"},
    {LittleEndian(~std::uint64_t{0}, 8) + "{}",
     "the header length is 18446744073709551615; it must be at most 100000000"},
    {Npy("{}"), "is a .npy file; a safetensors file is needed"},
    // Not JSON, not an object, not UTF-8.
    {Safetensors(""), "the header begins with ''; it must begin with '{'"},
    {Safetensors("[]"), "the header begins with '['; it must begin with '{'"},
    {Safetensors(" {}"), "the header begins with ' '; it must begin with '{'"},
    {Safetensors("\xEF\xBB\xBF{}"), "the header begins with '\\xef'; it must begin with '{'"},
    {Safetensors("{"), "the header is not JSON at its byte 1, near '{'"},
    {Safetensors("{} x"), "the header is not JSON at its byte 3, near '{} x'"},
    {Safetensors("{}{}"), "the header is not JSON at its byte 2, near '{}{'"},
    {Safetensors("{'x':1}"), "the header is not JSON at its byte 1, near '{\\x27'"},
    {Safetensors(R"({"x\ud800":1})"),
     "the header is not JSON at its byte 9, near '\"x\\x5cud800\"'"},
    {Safetensors("{\"\xFF\":1}"), "the header is not UTF-8; it must be JSON in UTF-8"},
    {Safetensors(std::string("{}\0", 3)),
     "the header has a zero byte at its byte 2; padding must be spaces"},
    {Safetensors(std::string("{}\0 {", 5)),
     "the header has a zero byte at its byte 2; padding must be spaces"},
    // Values of the wrong type, one place after the other.
    {Safetensors(R"({"x":1})"),
     "tensor 'x': is the number 1; it must be an object with dtype, shape and data_offsets"},
    {Safetensors(R"({"x":[]})"),
     "tensor 'x': is an array; it must be an object with dtype, shape and data_offsets"},
    {Safetensors(R"({"x":null})"),
     "tensor 'x': is null; it must be an object with dtype, shape and data_offsets"},
    {One("1", "[1]", "[0,4]", kFour),
     "tensor 'x': dtype is the number 1; it must be one of " + kTypes},
    {One("{}", "[1]", "[0,4]", kFour),
     "tensor 'x': dtype is an object; it must be one of " + kTypes},
    {One(R"("F8_E4M3")", "[1]", "[0,4]", kFour),
     "tensor 'x': dtype 'F8_E4M3' is not known; it must be one of " + kTypes},
    {One(R"("f32")", "[1]", "[0,4]", kFour),
     "tensor 'x': dtype 'f32' is not known; it must be one of " + kTypes},
    {One(kF32, "1", "[0,4]", kFour),
     "tensor 'x': shape is the number 1; it must be an array of integers"},
    {One(kF32, R"("1")", "[0,4]", kFour),
     "tensor 'x': shape is a string; it must be an array of integers"},
    {One(kF32, "[1,1.0]", "[0,4]", kFour),
     "tensor 'x': shape has the number 1.0 at dimension 1; dimensions must be integers from 0 to "
     "2^63 - 1"},
    {One(kF32, "[1,-2]", "[0,4]", kFour),
     "tensor 'x': shape has the number -2 at dimension 1; dimensions must be integers from 0 to "
     "2^63 - 1"},
    {One(kF32, "[9223372036854775808]", "[0,4]", kFour),
     "tensor 'x': shape has the number 9223372036854775808 at dimension 0; dimensions must be "
     "integers from 0 to 2^63 - 1"},
    {One(kF32, "[18446744073709551616]", "[0,4]", kFour),
     "tensor 'x': shape has the number 18446744073709551616 at dimension 0; dimensions must be "
     "integers from 0 to 2^63 - 1"},
    {One(kF32, "[" + std::string(200, '9') + "]", "[0,4]", kFour),
     "tensor 'x': shape has the number " + std::string(40, '9') +
         "… at dimension 0; dimensions must be integers from 0 to 2^63 - 1"},
    {One(kF32, "[true]", "[0,4]", kFour),
     "tensor 'x': shape has a boolean at dimension 0; dimensions must be integers from 0 to 2^63 - "
     "1"},
    {One(kF32, "[[1]]", "[0,4]", kFour),
     "tensor 'x': shape has an array at dimension 0; dimensions must be integers from 0 to 2^63 - "
     "1"},
    {One(kF32, std::string(100000, '['), ""),
     "tensor 'x': shape has an array at dimension 0; dimensions must be integers from 0 to 2^63 - "
     "1"},
    {One(kF32, "[1]", "{}", kFour),
     "tensor 'x': data_offsets is an object; it must be an array of 2 integers"},
    {One(kF32, "[1]", "[0]", kFour), "tensor 'x': data_offsets has 1 numbers; it must have 2"},
    {One(kF32, "[1]", "[]", kFour), "tensor 'x': data_offsets has 0 numbers; it must have 2"},
    {One(kF32, "[1]", "[0,4,4]", kFour),
     "tensor 'x': data_offsets has the number 4 at place 2; it must be 2 integers from 0 to 2^64 - "
     "1"},
    {One(kF32, "[1]", "[-1,4]", kFour),
     "tensor 'x': data_offsets has the number -1 at place 0; it must be 2 integers from 0 to 2^64 "
     "- "
     "1"},
    {One(kF32, "[1]", R"([0,"4"])", kFour),
     "tensor 'x': data_offsets has a string at place 1; it must be 2 integers from 0 to 2^64 - 1"},
    {One(kF32, "[1]", "[0,1e400]", kFour), "the header is not JSON at its byte 54, near '1e400'"},
    {Safetensors(R"({"__metadata__":"x"})"),
     "__metadata__ is a string; it must be an object of strings"},
    {Safetensors(R"({"__metadata__":{"a":1}})"),
     "__metadata__: the value of 'a' is the number 1; it must be a string"},
    {Safetensors(R"({"__metadata__":{"a":{"b":"c"}}})"),
     "__metadata__: the value of 'a' is an object; it must be a string"},
    // Missing, unknown and repeated keys.
    {Safetensors(R"({"x":{}})"),
     "tensor 'x': dtype is missing; dtype, shape and data_offsets must be given"},
    {Safetensors(R"({"x":{"dtype":"F32","data_offsets":[0,0]}})"),
     "tensor 'x': shape is missing; dtype, shape and data_offsets must be given"},
    {Safetensors(R"({"x":{"dtype":"F32","shape":[0]}})"),
     "tensor 'x': data_offsets is missing; dtype, shape and data_offsets must be given"},
    {Safetensors(R"({"x":{"strides":[1]}})"),
     "tensor 'x': the key 'strides' is not known; it must be dtype, shape or data_offsets"},
    {Safetensors(R"({"x":{"dtype":"F32","dtype":"F32"}})"),
     "tensor 'x': dtype is given twice; it must be given once"},
    {Safetensors(R"({"x":{"shape":[1],"shape":[2]}})"),
     "tensor 'x': shape is given twice; it must be given once"},
    {Safetensors(R"({"x":{"data_offsets":[0,0],"data_offsets":[0,0]}})"),
     "tensor 'x': data_offsets is given twice; it must be given once"},
    {Safetensors("{" + kGood + "," + kGood + "}", kFour),
     "tensor 'x' is given twice; names must be unique"},
    {Safetensors(R"({)" + kGood + R"(,"\u0078":{}})", kFour),
     "tensor 'x' is given twice; names must be unique"},
    {Safetensors(R"({"__metadata__":{"a":"1","a":"2"}})"),
     "__metadata__: the key 'a' is given twice; keys must be unique"},
    {Safetensors(R"({"__metadata__":{},"__metadata__":{}})"),
     "__metadata__ is given twice; it may be given once"},
    // Offsets against shape, file and each other.
    {One(kF32, "[1]", "[4,0]", kFour),
     "tensor 'x': data_offsets [4, 0] run backward; the second must not be below the first"},
    {One(kF32, "[1]", "[0,4]", "012"),
     "tensor 'x': data_offsets [0, 4] reach beyond the 3 bytes of data in the file"},
    {One(kF32, "[1]", "[18446744073709551612,18446744073709551615]", kFour),
     "tensor 'x': data_offsets [18446744073709551612, 18446744073709551615] reach beyond the 4 "
     "bytes of data in the file"},
    {One(kF32, "[2,1]", "[0,4]", kFour),
     "tensor 'x': shape [2, 1] of F32 takes 8 bytes, but data_offsets [0, 4] hold 4; they must be "
     "equal"},
    {One(kF32, "[4294967296,4294967296]", "[0,0]"),
     "tensor 'x': shape [4294967296, 4294967296] of F32 is too large: its bytes must stay below "
     "2^63"},
    {One(kF32, "[0,4294967296,4294967296]", "[0,0]"),
     "tensor 'x': shape [0, 4294967296, 4294967296] of F32 is too large: its bytes must stay below "
     "2^63"},
    {Safetensors("{" + kGood + R"(,"y":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})", "01234"),
     "tensor 'y': data_offsets [3, 5] overlap tensor 'x', which ends at 4; tensors must not share "
     "bytes"},
    {Safetensors("{" + kGood + R"(,"y":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})", kFour),
     "tensor 'y': data_offsets [2, 2] overlap tensor 'x', which ends at 4; tensors must not share "
     "bytes"},
    {Safetensors("{" + kGood + R"(,"y":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})",
                 "012345"),
     "tensor 'y': data_offsets begin at 5, but the data before them ends at 4; there must be no "
     "holes"},
    {One(kF32, "[1]", "[1,5]", "01234"),
     "tensor 'x': data_offsets begin at 1, but the data before them ends at 0; there must be no "
     "holes"},
    {One(kF32, "[1]", "[0,4]", "01234"),
     "the tensors end at byte 4 of the data, but the file has 5 bytes of data; there must be no "
     "rest"},
    {Safetensors("{}", "0"),
     "the tensors end at byte 0 of the data, but the file has 1 bytes of data; there must be no "
     "rest"},
    // Data.
    {One(R"("BOOL")", "[2]", "[0,2]", "\x01\x02"),
     "tensor 'x': element 1 of a BOOL is the byte 2; it must be 0 or 1"},
};

TEST(SafetensorsRefusal, EveryRuleHasItsSentence) {
  for (const Refusal& row : kRefusals) {
    const AlignedBytes bytes = BytesOf(row.file);
    const Result<TensorFile> file = ParseSafetensors(bytes.data(), bytes.size());
    EXPECT_EQ(file.status().code(), StatusCode::kInvalid);
    EXPECT_EQ(file.status().message(), row.sentence);
  }
}

TEST(SafetensorsRefusal, SentencesNameTheFile) {
  const TemporaryFolder folder;
  for (const Refusal& row : kRefusals) {
    const std::string path = folder / "bad.safetensors";
    Create(path, row.file);
    EXPECT_EQ(ReadSafetensors(path).status().message(), path + ": " + row.sentence);
  }
}

TEST(SafetensorsRefusal, EveryTruncationIsRefused) {
  TensorFile file;
  file.tensors = {Make<float>("q", {2}, {1, 2}), Make<std::uint8_t>("m", {1}, {1})};
  file.metadata = {{"a", "b"}};
  const Result<AlignedBytes> bytes = FormatSafetensors(file);
  ASSERT_TRUE(bytes.ok());
  for (std::size_t size = 0; size < bytes->size(); ++size) {
    const AlignedBytes cut(bytes->begin(), bytes->begin() + static_cast<std::ptrdiff_t>(size));
    const Result<TensorFile> parsed = ParseSafetensors(cut.data(), cut.size());
    EXPECT_FALSE(parsed.ok()) << size;
    EXPECT_FALSE(parsed.status().message().empty());
  }
}

TEST(SafetensorsRefusal, TheWriterRefusesWhatTheReaderWould) {
  const auto refusal = [](const TensorFile& file) {
    return FormatSafetensors(file).status().message();
  };
  TensorFile file;
  file.tensors = {Make<float>("x", {1}, {1}), Make<float>("x", {1}, {1})};
  EXPECT_EQ(refusal(file), "tensor 'x' is given twice; names must be unique");
  file.tensors = {Make<float>("__metadata__", {1}, {1})};
  EXPECT_EQ(refusal(file), "a tensor is named '__metadata__', which is the name of the metadata");
  file.tensors = {Make<float>("\xFF", {1}, {1})};
  EXPECT_EQ(refusal(file), "tensor '\\xff': the name is not UTF-8; it must be");
  file.tensors = {Make<float>("x", {1}, {1})};
  file.tensors[0].data.pop_back();
  EXPECT_EQ(refusal(file),
            "tensor 'x': shape [1] of F32 takes 4 bytes, but the data has 3; they must be equal");
  file.tensors.clear();
  file.metadata = {{"k", "\x80"}};
  EXPECT_EQ(refusal(file), "metadata 'k': key and value must be UTF-8");

  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  EXPECT_EQ(WriteSafetensors(path, file).message(),
            path + ": metadata 'k': key and value must be UTF-8");
  EXPECT_EQ(folder.FileCount(), 0u);
}

}  // namespace
}  // namespace heed::io
