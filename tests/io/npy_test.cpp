// tests/io/npy_test.cpp: .npy files, the good ones and every refusal with its sentence.
#include "io/npy.h"

#include <gtest/gtest.h>

#include "io/npy_header.h"
#include "tests/io/io_testing.h"

namespace heed::io {
namespace {

Result<Tensor> Parse(const std::string& text) {
  const AlignedBytes bytes = BytesOf(text);
  return ParseNpy(bytes.data(), bytes.size());
}

// The header of a row-major array.
std::string Header(const std::string& descr, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
}

TEST(Npy, WhatIsFormattedParsesToTheSame) {
  for (const ElementTypeInfo& info : kElementTypes) {
    for (const auto& shape :
         std::vector<std::vector<std::int64_t>>{{}, {0}, {1}, {5}, {2, 3}, {0, 4}, {2, 1, 3, 1}}) {
      const Tensor tensor = *MakeTensor("", info.type, shape);
      const Result<AlignedBytes> bytes = FormatNpy(tensor);
      ASSERT_TRUE(bytes.ok()) << bytes.status().message();
      EXPECT_EQ((bytes->size() - tensor.data.size()) % kAlignment, 0u);
      const Result<Tensor> back = ParseNpy(bytes->data(), bytes->size());
      ASSERT_TRUE(back.ok()) << back.status().message();
      EXPECT_EQ(*back, tensor);
    }
  }
}

TEST(Npy, TheBytesAreThoseOfNumpy) {
  std::string expected = Npy(Header("<f4", "(2, 1)"));
  expected.resize(127, ' ');
  expected[8] = 118;  // 128 - 10
  expected += "\n" + std::string("\0\0\x80\x3F\0\0\0\x40", 8);
  EXPECT_EQ(TextOf(*FormatNpy(Make<float>("q", {2, 1}, {1, 2}))), expected);
  EXPECT_EQ(FormatNpyHeader({ElementType::kBool, false, {}}), Header("|b1", "()"));
  EXPECT_EQ(FormatNpyHeader({ElementType::kBF16, false, {3}}), Header("<V2", "(3,)"));
}

TEST(Npy, ReadsAndWritesFilesAndNamesTheTensorAfterThem) {
  const TemporaryFolder folder;
  const Tensor tensor = Make<float>("q.0", {3}, {1, 2, 3});
  const Status written = WriteNpy(folder / "q.0.npy", tensor);
  ASSERT_TRUE(written.ok()) << written.message();
  EXPECT_EQ(Contents(folder / "q.0.npy"), TextOf(*FormatNpy(tensor)));
  const Result<Tensor> back = ReadNpy(folder / "q.0.npy");
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(*back, tensor);
}

TEST(Npy, ReadsAllVersionsAndWhatPythonAllows) {
  const Tensor want = Make<std::uint8_t>("", {2}, {7, 8});
  const std::string header = Header("|u1", "(2,)");
  for (const char version : {'\2', '\3'}) {
    EXPECT_EQ(*Parse(std::string("\x93NUMPY") + version + '\0' + LittleEndian(header.size(), 4) +
                     header + "\7\10"),
              want);
  }
  for (const char* text :
       {"{'descr': '<u1', 'fortran_order': False, 'shape': (2,)}",
        "{\"shape\":(2L,),\"fortran_order\":False,\"descr\":\"|u1\"}  \n",
        " { 'descr' : '|u1' , 'shape' : ( 2 , ) , 'fortran_order' : True , } \n"}) {
    const Result<Tensor> tensor = Parse(Npy(text, "\7\10"));
    ASSERT_TRUE(tensor.ok()) << tensor.status().message();
    EXPECT_EQ(*tensor, want);
  }
  EXPECT_EQ(*Parse(Npy(Header("|V2", "()"), "\x80\x3F")), Make<Bf16>("", {}, {Bf16{0x3F80}}));
}

TEST(Npy, FortranOrderBecomesRowMajor) {
  // Element (i, j, k) has the value 100 i + 10 j + k and lies first index fastest.
  for (const ElementType type :
       {ElementType::kU8, ElementType::kI16, ElementType::kF32, ElementType::kI64}) {
    const std::vector<std::int64_t> shape = {2, 1, 3, 2};
    Tensor want = *MakeTensor("", type, shape);
    std::string data(want.data.size(), '\0');
    const auto size = static_cast<std::size_t>(SizeOf(type));
    std::size_t at = 0;
    for (std::size_t i = 0; i < 2; ++i) {
      for (std::size_t j = 0; j < 3; ++j) {
        for (std::size_t k = 0; k < 2; ++k, ++at) {
          const auto value = static_cast<unsigned char>(100 * i + 10 * j + k);
          want.data[at * size] = std::byte{value};
          data[(i + 2 * j + 6 * k) * size] = static_cast<char>(value);
        }
      }
    }
    const std::string header = FormatNpyHeader({type, true, shape});
    const Result<Tensor> got = Parse(Npy(header, data));
    ASSERT_TRUE(got.ok()) << got.status().message();
    EXPECT_EQ(*got, want);
  }
  EXPECT_EQ(*Parse(Npy(FormatNpyHeader({ElementType::kF32, true, {}}), std::string(4, '\0'))),
            *MakeTensor("", ElementType::kF32, {}));
  EXPECT_EQ(*Parse(Npy(FormatNpyHeader({ElementType::kF32, true, {0, 3}}))),
            *MakeTensor("", ElementType::kF32, {0, 3}));
}

TEST(Npy, ManyDimensionsTakeVersionTwo) {
  const Tensor tensor = *MakeTensor("x", ElementType::kU8, std::vector<std::int64_t>(30000, 1));
  const Result<AlignedBytes> bytes = FormatNpy(tensor);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ((*bytes)[6], std::byte{2});
  EXPECT_EQ(ParseNpy(bytes->data(), bytes->size())->shape, tensor.shape);
  EXPECT_EQ(FormatNpy(*MakeTensor("x", ElementType::kU8, std::vector<std::int64_t>(400000, 1)))
                .status()
                .message(),
            "tensor 'x': the 400000 dimensions make a header of 1200116 bytes; it must be at most "
            "1048576");
}

struct Refusal {
  std::string file;
  std::string sentence;
};

const std::string kKnown =
    "it must be little-endian b1, u1, i1, u2, i2, f2, V2 (read as BF16), u4, i4, f4, u8, i8 or f8, "
    "such as '<f4'";
const std::string kKeys = "it must have descr, fortran_order and shape";

const Refusal kRefusals[] = {
    // The frame.
    {"", "has 0 bytes; a .npy file has at least 10 before its header"},
    {"\x93NUMPY", "has 6 bytes; a .npy file has at least 10 before its header"},
    {"\x93NUMPZ\1\0\0\0xx", "has 7 bytes; a .npy file has at least 10 before its header"},
    {"PK\3\4"
     "567890123",
     "is an archive such as .npz; a .npy file is needed"},
    {"0123456789", "does not begin with \\x93NUMPY, so it is not a .npy file"},
    {std::string("\x93NUMPY\4\0\0\0\0\0", 12),
     "has version 4.0 of the format; it must be 1.0, 2.0 or 3.0"},
    {std::string("\x93NUMPY\1\1\0\0\0\0", 12),
     "has version 1.1 of the format; it must be 1.0, 2.0 or 3.0"},
    {std::string("\x93NUMPY\2\0\1\0\0", 11),
     "has 11 bytes; this version of the format has at least 12 before its header"},
    {std::string("\x93NUMPY\1\0\5\0{}", 12), "the header length is 5, but only 2 bytes follow it"},
    {std::string("\x93NUMPY\2\0\xFF\xFF\xFF\xFF", 12),
     "the header length is 4294967295; it must be at most 1048576"},
    // The literal.
    {Npy(""), "the header ends where '{' is expected"},
    {Npy("[]"), "the header has '[]' at its byte 0, where '{' is expected"},
    {Npy("{"), "the header ends where a string in quotes is expected"},
    {Npy("{} x"), "the header has 'x' at its byte 3, where the end is expected"},
    {Npy("{}"), "the header has no descr; " + kKeys},
    {Npy("{1: 2}"), "the header has '1: 2}' at its byte 1, where a string in quotes is expected"},
    {Npy("{'descr"),
     "the header has '\\x27descr' at its byte 1, where a string with its closing quote "
     "is expected"},
    {Npy("{'descr' '<f4'}"),
     "the header has '\\x27<f4\\x27}' at its byte 9, where ':' is expected"},
    {Npy("{'descr': '<f4' 'shape': ()}"),
     "the header has '\\x27shape\\x27: ()}' at its byte 16, where ',' is expected"},
    {Npy("{'order': 'C'}"), "the header has the key 'order'; " + kKeys},
    {Npy("{'descr': '<f4', 'descr': '<f4'}"), "the header has descr twice; it must have it once"},
    {Npy("{'shape': (), 'shape': ()}"), "the header has shape twice; it must have it once"},
    {Npy("{'descr': '<f4', 'shape': ()}"), "the header has no fortran_order; " + kKeys},
    {Npy("{'descr': '<f4', 'fortran_order': False}"), "the header has no shape; " + kKeys},
    {Npy("{'fortran_order': 0}"),
     "the header has '0}' at its byte 18, where True or False is expected"},
    {Npy(std::string("{\0}", 3)),
     "the header has '\\x00}' at its byte 1, where a string in quotes is expected"},
    // descr.
    {Npy(Header(">f4", "()"), "0123"), "descr '>f4' is big-endian; " + kKnown},
    {Npy(Header("|O", "()"), "0123"), "descr '|O' is an array of Python objects; " + kKnown},
    {Npy(Header("<c8", "()"), "0123"), "descr '<c8' is not known; " + kKnown},
    {Npy(Header("<U3", "()"), "0123"), "descr '<U3' is not known; " + kKnown},
    {Npy(Header("|f4", "()"), "0123"), "descr '|f4' is not known; " + kKnown},
    {Npy(Header("f4", "()"), "0123"), "descr 'f4' is not known; " + kKnown},
    {Npy(Header("", "()"), "0123"), "descr '' is not known; " + kKnown},
    {Npy(Header("|V3", "()"), "012"), "descr '|V3' is not known; " + kKnown},
    {Npy("{'descr': [('x', '<f4')]}"), "descr is a structured type; " + kKnown},
    {Npy("{'descr': 4}"),
     "the header has '4}' at its byte 10, where a string in quotes is expected"},
    // shape.
    {Npy(Header("<f4", "3"), "0123"),
     "the header has '3, }' at its byte 50, where '(' is expected"},
    {Npy(Header("<f4", "(3)"), "0123"),
     "the header has '), }' at its byte 52, where ',' is expected"},
    {Npy(Header("<f4", "(,)"), "0123"),
     "the header has ',), }' at its byte 51, where an integer below 2^63 is expected"},
    {Npy(Header("<f4", "(1,,)"), "0123"),
     "the header has ',), }' at its byte 53, where an integer below 2^63 is expected"},
    {Npy(Header("<f4", "(1.5,)"), "0123"),
     "the header has '.5,), }' at its byte 52, where ',' is expected"},
    {Npy(Header("<f4", "(2, -3)"), "0123"),
     "shape has -3 at dimension 1; dimensions must be 0 or more"},
    {Npy(Header("<f4", "(9223372036854775808,)"), "0123"),
     "the header has '922337203685' at its byte 51, where an integer below 2^63 is expected"},
    {Npy(Header("<f4", "(4294967296, 4294967296)"), "0123"),
     "shape [4294967296, 4294967296] of F32 is too large: its bytes must stay below 2^63"},
    // Data.
    {Npy(Header("<f4", "(2,)"), "0123"),
     "shape [2] of F32 takes 8 bytes, but 4 follow the header; they must be equal"},
    {Npy(Header("<f4", "(1,)"), "01234"),
     "shape [1] of F32 takes 4 bytes, but 5 follow the header; they must be equal"},
    {Npy(Header("|b1", "(2,)"), "\1\3"),
     "tensor '': element 1 of a BOOL is the byte 3; it must be 0 or 1"},
};

TEST(NpyRefusal, EveryRuleHasItsSentence) {
  for (const Refusal& row : kRefusals) {
    const Result<Tensor> tensor = Parse(row.file);
    EXPECT_EQ(tensor.status().code(), StatusCode::kInvalid);
    EXPECT_EQ(tensor.status().message(), row.sentence);
  }
}

TEST(NpyRefusal, SentencesNameTheFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "bad.npy";
  Create(path, "0123456789");
  EXPECT_EQ(ReadNpy(path).status().message(),
            path + ": does not begin with \\x93NUMPY, so it is not a .npy file");
  Tensor broken = Make<float>("x", {1}, {1});
  broken.shape = {2};
  EXPECT_EQ(WriteNpy(path, broken).message(),
            path +
                ": tensor 'x': shape [2] of F32 takes 8 bytes, but the data has 4; they must be "
                "equal");
}

TEST(NpyRefusal, EveryTruncationIsRefused) {
  const Result<AlignedBytes> bytes = FormatNpy(Make<float>("q", {2}, {1, 2}));
  ASSERT_TRUE(bytes.ok());
  for (std::size_t size = 0; size < bytes->size(); ++size) {
    const AlignedBytes cut(bytes->begin(), bytes->begin() + static_cast<std::ptrdiff_t>(size));
    const Result<Tensor> parsed = ParseNpy(cut.data(), cut.size());
    EXPECT_FALSE(parsed.ok()) << size;
    EXPECT_FALSE(parsed.status().message().empty());
  }
}

}  // namespace
}  // namespace heed::io
