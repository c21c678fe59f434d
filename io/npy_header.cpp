// io/npy_header.cpp: the Python literal in a .npy file. Not here: array data.
#include "io/npy_header.h"

#include <charconv>
#include <utility>

#include "io/text.h"

namespace heed::io {
namespace {

constexpr char kKnownTypes[] =
    "it must be little-endian b1, u1, i1, u2, i2, f2, V2 (read as BF16), u4, i4, f4, u8, i8 or f8, "
    "such as '<f4'";

Result<ElementType> TypeOfDescr(std::string_view descr) {
  if (!descr.empty() && descr[0] == '>') {
    return Invalid("descr ", Quote(descr), " is big-endian; ", kKnownTypes);
  }
  if (descr.size() > 1 && descr[1] == 'O') {
    return Invalid("descr ", Quote(descr), " is an array of Python objects; ", kKnownTypes);
  }
  for (const ElementTypeInfo& info : kElementTypes) {
    if (descr.empty() || descr.substr(1) != info.letter) continue;
    // '|' says that byte order does not matter: single bytes, and raw bytes such as V2.
    const bool no_order = info.size == 1 || info.type == ElementType::kBF16;
    if (descr[0] == '<' || (descr[0] == '|' && no_order)) return info.type;
  }
  return Invalid("descr ", Quote(descr), " is not known; ", kKnownTypes);
}

// Walks over the text. Each Take either takes what it is named after and the space behind it, or
// says what was there instead.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) { SkipSpace(); }

  bool AtEnd() const { return at_ == text_.size(); }

  bool Peek(char c) const { return !AtEnd() && text_[at_] == c; }

  bool TakeIf(char c) {
    if (!Peek(c)) return false;
    ++at_;
    SkipSpace();
    return true;
  }

  Status Take(char c) {
    if (TakeIf(c)) return {};
    return Expected(Cat("'", std::string_view(&c, 1), "'"));
  }

  // 'text' or "text", without escapes: no legal key or descr has any.
  Result<std::string_view> TakeString() {
    if (!Peek('\'') && !Peek('"')) return Expected("a string in quotes");
    const std::size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) return Expected("a string with its closing quote");
    const std::string_view value = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    SkipSpace();
    return value;
  }

  Result<bool> TakeBool() {
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      SkipSpace();
      return value;
    }
    return Expected("True or False");
  }

  // An integer with the L that Python 2 may have put behind it.
  Result<std::int64_t> TakeInteger() {
    std::int64_t value = 0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error != std::errc()) return Expected("an integer below 2^63");
    at_ += static_cast<std::size_t>(end - begin);
    if (Peek('L')) ++at_;
    SkipSpace();
    return value;
  }

  Status Expected(std::string_view what) const {
    if (AtEnd()) return Invalid("the header ends where ", what, " is expected");
    return Invalid("the header has ", Quote(text_.substr(at_, 12)), " at its byte ", at_,
                   ", where ", what, " is expected");
  }

 private:
  void SkipSpace() {
    constexpr std::string_view kSpace = " \t\r\n\f";
    while (!AtEnd() && kSpace.find(text_[at_]) != std::string_view::npos) ++at_;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

Status TakeDescr(Cursor& cursor, NpyHeader& header) {
  if (cursor.Peek('[')) return Invalid("descr is a structured type; ", kKnownTypes);
  const Result<std::string_view> descr = cursor.TakeString();
  if (!descr) return descr.status();
  const Result<ElementType> type = TypeOfDescr(*descr);
  if (!type) return type.status();
  header.type = *type;
  return {};
}

Status TakeOrder(Cursor& cursor, NpyHeader& header) {
  const Result<bool> fortran_order = cursor.TakeBool();
  if (!fortran_order) return fortran_order.status();
  header.fortran_order = *fortran_order;
  return {};
}

// A tuple of integers: (), (3,), (2, 3), (2, 3,). In Python (3) is no tuple.
Status TakeShape(Cursor& cursor, NpyHeader& header) {
  if (Status status = cursor.Take('('); !status) return status;
  while (!cursor.TakeIf(')')) {
    const Result<std::int64_t> dim = cursor.TakeInteger();
    if (!dim) return dim.status();
    if (*dim < 0) {
      return Invalid("shape has ", *dim, " at dimension ", header.shape.size(),
                     "; dimensions must be 0 or more");
    }
    header.shape.push_back(*dim);
    if (cursor.Peek(')') && header.shape.size() > 1) continue;
    if (Status status = cursor.Take(','); !status) return status;
  }
  return {};
}

}  // namespace

Result<NpyHeader> ParseNpyHeader(std::string_view text) {
  struct Field {
    std::string_view key;
    Status (*take)(Cursor&, NpyHeader&);
    bool seen;
  };
  Field fields[] = {{"descr", TakeDescr, false},
                    {"fortran_order", TakeOrder, false},
                    {"shape", TakeShape, false}};

  NpyHeader header;
  Cursor cursor(text);
  if (Status status = cursor.Take('{'); !status) return status;
  while (!cursor.TakeIf('}')) {
    const Result<std::string_view> key = cursor.TakeString();
    if (!key) return key.status();
    Field* field = nullptr;
    for (Field& known : fields) {
      if (known.key == *key) field = &known;
    }
    if (field == nullptr) {
      return Invalid("the header has the key ", Quote(*key),
                     "; it must have descr, fortran_order and shape");
    }
    if (std::exchange(field->seen, true)) {
      return Invalid("the header has ", field->key, " twice; it must have it once");
    }
    if (Status status = cursor.Take(':'); !status) return status;
    if (Status status = field->take(cursor, header); !status) return status;
    if (cursor.Peek('}')) continue;
    if (Status status = cursor.Take(','); !status) return status;
  }
  if (!cursor.AtEnd()) return cursor.Expected("the end");
  for (const Field& field : fields) {
    if (!field.seen) {
      return Invalid("the header has no ", field.key,
                     "; it must have descr, fortran_order and shape");
    }
  }
  return header;
}

std::string FormatNpyHeader(const NpyHeader& header) {
  const ElementTypeInfo& info = InfoOf(header.type);
  std::string out =
      Cat("{'descr': '", info.size == 1 ? "|" : "<", info.letter,
          "', 'fortran_order': ", header.fortran_order ? "True" : "False", ", 'shape': (");
  for (std::size_t i = 0; i < header.shape.size(); ++i) {
    out += Cat(i == 0 ? "" : " ", header.shape[i], ",");
  }
  if (header.shape.size() > 1) out.pop_back();
  out += "), }";
  return out;
}

}  // namespace heed::io
