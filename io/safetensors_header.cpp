// io/safetensors_header.cpp: the JSON in a .safetensors file, event by event. Not here: data.
#include "io/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "io/text.h"

namespace heed::io {
namespace {

constexpr char kMetadataKey[] = "__metadata__";

std::string TypeNames() {
  std::string out;
  for (const ElementTypeInfo& info : kElementTypes) out += Cat(out.empty() ? "" : ", ", info.name);
  return out;
}

// Takes the events of the JSON parser. Events rather than a document tree, since a tree keeps only
// one of two equal names; and every event is legal in one place only, so what is nested deeper than
// the format allows ends the parse at once.
class HeaderEvents {
 public:
  using Json = nlohmann::json;

  explicit HeaderEvents(SafetensorsHeader& header) : header_(header) {}

  const std::string& error() const { return error_; }

  bool null() { return Wrong("null"); }
  bool boolean(bool) { return Wrong("a boolean"); }
  bool number_float(Json::number_float_t, const Json::string_t& text) {
    constexpr std::size_t kLong = 40;
    return Wrong(Cat("the number ", std::string_view(text).substr(0, kLong),
                     text.size() > kLong ? "…" : ""));
  }
  bool binary(Json::binary_t&) { return Wrong("binary data"); }

  bool number_integer(Json::number_integer_t value) {
    if (value >= 0) return number_unsigned(static_cast<Json::number_unsigned_t>(value));
    return Wrong(Cat("the number ", value));
  }

  bool number_unsigned(Json::number_unsigned_t value) {
    if (place_ == Place::kInShape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return Wrong(Cat("the number ", value));
      }
      entry_.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == Place::kInOffsets && offset_count_ < 2) {
      (offset_count_++ == 0 ? entry_.begin : entry_.end) = value;
      return true;
    }
    return Wrong(Cat("the number ", value));
  }

  bool string(Json::string_t& value) {
    if (place_ == Place::kMetadataValue) {
      header_.metadata.emplace(std::move(metadata_key_), std::move(value));
      place_ = Place::kInMetadata;
      return true;
    }
    if (place_ != Place::kDtype) return Wrong("a string");
    const std::optional<ElementType> type = ElementTypeNamed(value);
    if (!type) {
      return Fail(Cat("tensor ", Quote(entry_.name), ": dtype ", Quote(value),
                      " is not known; it must be one of ", TypeNames()));
    }
    entry_.type = *type;
    place_ = Place::kInEntry;
    return true;
  }

  bool start_object(std::size_t) {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kInHeader;
        return true;
      case Place::kMetadata:
        place_ = Place::kInMetadata;
        return true;
      case Place::kEntry:
        place_ = Place::kInEntry;
        return true;
      default:
        return Wrong("an object");
    }
  }

  bool key(Json::string_t& name) {
    if (place_ == Place::kInHeader) return HeaderKey(name);
    if (place_ == Place::kInMetadata) {
      if (header_.metadata.count(name) != 0) {
        return Fail(
            Cat(kMetadataKey, ": the key ", Quote(name), " is given twice; keys must be unique"));
      }
      metadata_key_ = std::move(name);
      place_ = Place::kMetadataValue;
      return true;
    }
    return EntryKey(name);
  }

  bool end_object() {
    if (place_ == Place::kInEntry) return FinishEntry();
    place_ = place_ == Place::kInMetadata ? Place::kInHeader : Place::kEnd;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ == Place::kShape) {
      place_ = Place::kInShape;
      return true;
    }
    if (place_ == Place::kOffsets) {
      place_ = Place::kInOffsets;
      return true;
    }
    return Wrong("an array");
  }

  bool end_array() {
    if (place_ == Place::kInOffsets && offset_count_ != 2) {
      return Fail(Cat("tensor ", Quote(entry_.name), ": data_offsets has ", offset_count_,
                      " numbers; it must have 2"));
    }
    place_ = Place::kInEntry;
    return true;
  }

  // The parser's own wording is about its internals; the place is what helps. It counts from 1.
  bool parse_error(std::size_t position, const std::string& last_token, const Json::exception&) {
    return Fail(
        Cat("the header is not JSON at its byte ", position - 1, ", near ", Quote(last_token)));
  }

 private:
  enum class Place {
    kStart,
    kInHeader,
    kMetadata,
    kInMetadata,
    kMetadataValue,
    kEntry,
    kInEntry,
    kDtype,
    kShape,
    kInShape,
    kOffsets,
    kInOffsets,
    kEnd,
  };

  bool Fail(std::string sentence) {
    error_ = std::move(sentence);
    return false;
  }

  // A value of another type than this place takes.
  bool Wrong(std::string_view got) {
    const std::string tensor = Cat("tensor ", Quote(entry_.name), ": ");
    switch (place_) {
      case Place::kMetadata:
        return Fail(Cat(kMetadataKey, " is ", got, "; it must be an object of strings"));
      case Place::kMetadataValue:
        return Fail(Cat(kMetadataKey, ": the value of ", Quote(metadata_key_), " is ", got,
                        "; it must be a string"));
      case Place::kEntry:
        return Fail(
            Cat(tensor, "is ", got, "; it must be an object with dtype, shape and data_offsets"));
      case Place::kDtype:
        return Fail(Cat(tensor, "dtype is ", got, "; it must be one of ", TypeNames()));
      case Place::kShape:
        return Fail(Cat(tensor, "shape is ", got, "; it must be an array of integers"));
      case Place::kInShape:
        return Fail(Cat(tensor, "shape has ", got, " at dimension ", entry_.shape.size(),
                        "; dimensions must be integers from 0 to 2^63 - 1"));
      case Place::kOffsets:
        return Fail(Cat(tensor, "data_offsets is ", got, "; it must be an array of 2 integers"));
      case Place::kInOffsets:
        return Fail(Cat(tensor, "data_offsets has ", got, " at place ", offset_count_,
                        "; it must be 2 integers from 0 to 2^64 - 1"));
      default:
        return Fail(Cat("the header is ", got, "; it must be an object"));
    }
  }

  bool HeaderKey(std::string& name) {
    if (name == kMetadataKey) {
      if (std::exchange(has_metadata_, true)) {
        return Fail(Cat(kMetadataKey, " is given twice; it may be given once"));
      }
      place_ = Place::kMetadata;
      return true;
    }
    if (!names_.insert(name).second) {
      return Fail(Cat("tensor ", Quote(name), " is given twice; names must be unique"));
    }
    entry_ = SafetensorsEntry{};
    entry_.name = std::move(name);
    has_dtype_ = has_shape_ = has_offsets_ = false;
    offset_count_ = 0;
    place_ = Place::kEntry;
    return true;
  }

  bool EntryKey(const std::string& name) {
    bool* seen = name == "dtype"          ? &has_dtype_
                 : name == "shape"        ? &has_shape_
                 : name == "data_offsets" ? &has_offsets_
                                          : nullptr;
    if (seen == nullptr) {
      return Fail(Cat("tensor ", Quote(entry_.name), ": the key ", Quote(name),
                      " is not known; it must be dtype, shape or data_offsets"));
    }
    if (std::exchange(*seen, true)) {
      return Fail(
          Cat("tensor ", Quote(entry_.name), ": ", name, " is given twice; it must be given once"));
    }
    place_ = seen == &has_dtype_   ? Place::kDtype
             : seen == &has_shape_ ? Place::kShape
                                   : Place::kOffsets;
    return true;
  }

  bool FinishEntry() {
    const char* missing = !has_dtype_     ? "dtype"
                          : !has_shape_   ? "shape"
                          : !has_offsets_ ? "data_offsets"
                                          : nullptr;
    if (missing != nullptr) {
      return Fail(Cat("tensor ", Quote(entry_.name), ": ", missing,
                      " is missing; dtype, shape and data_offsets must be given"));
    }
    header_.entries.push_back(std::move(entry_));
    place_ = Place::kInHeader;
    return true;
  }

  SafetensorsHeader& header_;
  std::string error_;
  Place place_ = Place::kStart;
  std::unordered_set<std::string> names_;
  std::string metadata_key_;
  SafetensorsEntry entry_;
  bool has_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  int offset_count_ = 0;
};

// The offsets of each entry fit its shape and the data.
Status CheckExtent(const SafetensorsEntry& entry, std::uint64_t data_size) {
  const std::string where = Cat("tensor ", Quote(entry.name), ": ");
  const std::string offsets = Cat("data_offsets [", entry.begin, ", ", entry.end, "]");
  if (entry.begin > entry.end) {
    return Invalid(where, offsets, " run backward; the second must not be below the first");
  }
  if (entry.end > data_size) {
    return Invalid(where, offsets, " reach beyond the ", data_size, " bytes of data in the file");
  }
  const Result<std::int64_t> bytes = ByteCount(entry.type, entry.shape);
  if (!bytes) return Invalid(where, bytes.status().message());
  if (static_cast<std::uint64_t>(*bytes) != entry.end - entry.begin) {
    return Invalid(where, "shape ", ShapeText(entry.shape), " of ", Name(entry.type), " takes ",
                   *bytes, " bytes, but ", offsets, " hold ", entry.end - entry.begin,
                   "; they must be equal");
  }
  return {};
}

// The entries lie one behind the other: every byte of the data belongs to one tensor.
Status CheckCover(const std::vector<SafetensorsEntry>& entries, std::uint64_t data_size) {
  std::vector<const SafetensorsEntry*> sorted;
  sorted.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  std::uint64_t covered = 0;
  const SafetensorsEntry* before = nullptr;
  for (const SafetensorsEntry* entry : sorted) {
    if (entry->begin < covered) {
      return Invalid("tensor ", Quote(entry->name), ": data_offsets [", entry->begin, ", ",
                     entry->end, "] overlap tensor ", Quote(before->name), ", which ends at ",
                     covered, "; tensors must not share bytes");
    }
    if (entry->begin > covered) {
      return Invalid("tensor ", Quote(entry->name), ": data_offsets begin at ", entry->begin,
                     ", but the data before them ends at ", covered, "; there must be no holes");
    }
    covered = entry->end;
    before = entry;
  }
  if (covered != data_size) {
    return Invalid("the tensors end at byte ", covered, " of the data, but the file has ",
                   data_size, " bytes of data; there must be no rest");
  }
  return {};
}

}  // namespace

Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, std::uint64_t data_size) {
  if (json.empty() || json[0] != '{') {
    return Invalid("the header begins with ", Quote(json.substr(0, 1)), "; it must begin with '{'");
  }
  if (!IsUtf8(json)) return Invalid("the header is not UTF-8; it must be JSON in UTF-8");
  // The JSON parser takes a zero byte for the end of its input and would not see what follows.
  if (const std::size_t zero = json.find('\0'); zero != std::string_view::npos) {
    return Invalid("the header has a zero byte at its byte ", zero, "; padding must be spaces");
  }
  SafetensorsHeader header;
  HeaderEvents events(header);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &events)) {
    return Status(StatusCode::kInvalid, events.error());
  }
  for (const SafetensorsEntry& entry : header.entries) {
    if (Status status = CheckExtent(entry, data_size); !status) return status;
  }
  if (Status status = CheckCover(header.entries, data_size); !status) return status;
  return header;
}

std::string FormatSafetensorsHeader(std::span<const SafetensorsEntry> entries,
                                    const std::map<std::string, std::string>& metadata) {
  const auto quoted = [](const std::string& text) { return nlohmann::json(text).dump(); };
  std::string out = "{";
  if (!metadata.empty()) {
    out += Cat("\"", kMetadataKey, "\":{");
    for (const auto& [key, value] : metadata) out += Cat(quoted(key), ":", quoted(value), ",");
    out.back() = '}';
    out += ',';
  }
  for (const SafetensorsEntry& entry : entries) {
    out += Cat(quoted(entry.name), ":{\"dtype\":\"", Name(entry.type), "\",\"shape\":[");
    for (std::size_t i = 0; i < entry.shape.size(); ++i) {
      out += Cat(i == 0 ? "" : ",", entry.shape[i]);
    }
    out += Cat("],\"data_offsets\":[", entry.begin, ",", entry.end, "]},");
  }
  if (out.back() == ',') out.pop_back();
  out += '}';
  out.append((kAlignment - (kSafetensorsPrefix + out.size()) % kAlignment) % kAlignment, ' ');
  return out;
}

}  // namespace heed::io
