// verify/case_file.cpp: see case_file.h. Not here: files (case_paths.cpp).
#include "verify/case_file.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "verify/case_settings.h"
#include "verify/case_tensors.h"
#include "verify/layout.h"

namespace heed::verify {
namespace {

using Shape = std::vector<std::int64_t>;

constexpr std::int64_t kAny = -1;  // of a shape: any size

Status Bad(std::string sentence) { return {StatusCode::kInvalid, std::move(sentence)}; }

class Reader {
 public:
  explicit Reader(CaseFile* out) : out_(*out), p_(out->problem), settings_(out->tensors) {}

  Status Read() {
    for (const auto step : {&Reader::ReadSettings, &Reader::ReadShapes, &Reader::ReadOptions,
                            &Reader::ReadIndices, &Reader::ReadExpected}) {
      if (Status status = (this->*step)(); !status) return status;
    }
    return {};
  }

 private:
  const io::Tensor* Find(const char* name) const { return out_.tensors.Find(name); }

  Status Need(const char* name, const Shape& shape) const {
    const io::Tensor* tensor = Find(name);
    if (tensor == nullptr) return Bad("the tensor '" + std::string(name) + "' is missing");
    bool fits = tensor->shape.size() == shape.size();
    for (std::size_t n = 0; fits && n < shape.size(); ++n) {
      fits = shape[n] == kAny || tensor->shape[n] == shape[n];
    }
    if (fits) return {};
    return Bad("tensor '" + std::string(name) + "' has the shape " + ShapeText(tensor->shape) +
               "; it must be " + ShapeText(shape));
  }

  Status ReadSettings() {
    layout_ = settings_.Word("layout", "");
    if (layout_ != "BSHD" && layout_ != "THD" && layout_ != "CACHE") {
      return Bad("the setting 'layout' must be BSHD, THD or CACHE");
    }
    p_.ragged = layout_ == "THD";
    p_.cache.given = layout_ == "CACHE";
    const std::string align = settings_.Word("align", "bottom_right");
    if (align != "bottom_right" && align != "top_left" && align != "offset") {
      return Bad("the setting 'align' must be bottom_right, top_left or offset");
    }
    p_.align = align == "top_left" ? Align::kTopLeft
               : align == "offset" ? Align::kOffset
                                   : Align::kBottomRight;
    double scale = 0;
    const Status read[] = {settings_.Flag("causal", &p_.causal),
                           settings_.Pair("window", &p_.window_left, &p_.window_right),
                           settings_.Number("softcap", &p_.softcap),
                           settings_.Number("scale", &scale),
                           settings_.Number("dropout_p", &p_.dropout_p),
                           settings_.Number("seed", &p_.seed),
                           settings_.Number("offset", &p_.offset),
                           settings_.Number("prefix", &p_.prefix),
                           settings_.Number("chunk", &p_.chunk),
                           settings_.Pair("block_size", &p_.block_rows, &p_.block_cols)};
    for (const Status& status : read) {
      if (!status) return status;
    }
    if (settings_.Has("scale")) p_.scale = scale;
    return {};
  }

  Status ReadShapes() {
    const std::size_t first = p_.ragged ? 0 : 1;  // of the rows' axis
    const Shape rows = p_.ragged ? Shape{kAny, kAny, kAny} : Shape{kAny, kAny, kAny, kAny};
    if (Status status = Need("q", rows); !status) return status;
    const Shape& q = Find("q")->shape;
    p_.q_heads = q[first + 1];
    p_.dim = q[first + 2];
    if (p_.cache.given) return ReadCacheShapes(q);
    if (Status status = Need("k", rows); !status) return status;
    const Shape& k = Find("k")->shape;
    Shape v = k;
    v.back() = kAny;
    if (Status status = Need("v", v); !status) return status;
    p_.k_heads = k[first + 1];
    p_.dim_v = Find("v")->shape.back();
    if (k.back() != p_.dim || (!p_.ragged && k[0] != q[0])) {
      return Bad("the shapes of q and k, " + ShapeText(q) + " and " + ShapeText(k) +
                 ", do not belong together");
    }
    if (p_.ragged) return ReadRaggedShapes(q[0], k[0]);
    p_.batch = q[0];
    p_.q_len = q[1];
    p_.k_len = k[1];
    return {};
  }

  Status ReadRaggedShapes(std::int64_t total_q, std::int64_t total_k) {
    if (Status status = Need("cu_seqlens_q", {kAny}); !status) return status;
    const std::int64_t ends = Find("cu_seqlens_q")->shape[0];
    if (ends < 1) return Bad("cu_seqlens_q is empty");
    if (Status status = Need("cu_seqlens_k", {ends}); !status) return status;
    const auto longest = [&](const char* name) {
      const auto ends_of = Find(name)->As<std::int32_t>();
      std::int64_t most = 0;
      for (std::size_t n = 1; n < ends_of.size(); ++n) {
        most = std::max(most, std::int64_t{ends_of[n]} - ends_of[n - 1]);
      }
      return most;
    };
    p_.batch = ends - 1;
    p_.total_q = total_q;
    p_.total_k = total_k;
    p_.q_len = longest("cu_seqlens_q");
    p_.k_len = longest("cu_seqlens_k");
    return {};
  }

  Status ReadCacheShapes(const Shape& q) {
    Cache& c = p_.cache;
    p_.batch = q[0];
    p_.q_len = q[1];
    if (Status status = Need("k_cache", {kAny, kAny, kAny, p_.dim}); !status) return status;
    Shape cache = Find("k_cache")->shape;
    c.slots = cache[0];
    c.rows = cache[1];
    p_.k_heads = cache[2];
    cache[3] = kAny;
    if (Status status = Need("v_cache", cache); !status) return status;
    p_.dim_v = Find("v_cache")->shape[3];
    if (Status status = Need("cache_seqlens", {p_.batch}); !status) return status;
    if (Find("block_table") != nullptr) {
      if (Status status = Need("block_table", {p_.batch, kAny}); !status) return status;
      c.blocks = Find("block_table")->shape[1];
    }
    if (Find("k_new") != nullptr || Find("v_new") != nullptr) {
      if (Status status = Need("k_new", {p_.batch, kAny, p_.k_heads, p_.dim}); !status)
        return status;
      c.new_len = Find("k_new")->shape[1];
      if (Status status = Need("v_new", {p_.batch, c.new_len, p_.k_heads, p_.dim_v}); !status)
        return status;
    }
    return ReadRotary();
  }

  Status ReadRotary() {
    const std::string rotary = settings_.Word("rotary", "none");
    if (rotary == "none") return {};
    if (rotary != "interleaved" && rotary != "half") {
      return Bad("the setting 'rotary' must be none, interleaved or half");
    }
    Cache& c = p_.cache;
    c.rotary = rotary == "half" ? Rotary::kHalf : Rotary::kInterleaved;
    if (Status status = Need("rotary_cos", {kAny, kAny}); !status) return status;
    const Shape& table = Find("rotary_cos")->shape;
    c.rotary_rows = table[0];
    c.rotary_dim = 2 * table[1];
    return Need("rotary_sin", table);
  }

  // A tensor of 4 axes that broadcasts.
  Status Spread(const char* name, Broadcast* t) const {
    const io::Tensor* tensor = Find(name);
    if (tensor == nullptr) return {};
    if (Status status = Need(name, {kAny, kAny, kAny, kAny}); !status) return status;
    *t = {.given = true,
          .batch = tensor->shape[0],
          .heads = tensor->shape[1],
          .rows = tensor->shape[2],
          .cols = tensor->shape[3]};
    return {};
  }

  Status ReadOptions() {
    if (Status status = Spread("bias", &p_.bias); !status) return status;
    if (Status status = Spread("mask", &p_.mask); !status) return status;
    if (Status status = Spread("block_map", &p_.block_map); !status) return status;
    if (const io::Tensor* slopes = Find("alibi_slopes")) {
      p_.alibi = slopes->shape.size() == 2 ? Alibi::kPerBatchHead : Alibi::kPerHead;
      const Shape shape =
          slopes->shape.size() == 2 ? Shape{p_.batch, p_.q_heads} : Shape{p_.q_heads};
      if (Status status = Need("alibi_slopes", shape); !status) return status;
    }
    p_.sinks = Find("sinks") != nullptr;
    return p_.sinks ? Need("sinks", {p_.q_heads}) : Status{};
  }

  Status ReadIndices() {
    p_.key_lengths = Find("key_lengths") != nullptr;
    p_.cache.batch_idx = Find("cache_batch_idx") != nullptr;
    p_.cache.leftpad = Find("cache_leftpad") != nullptr;
    for (const char* name : {"key_lengths", "cache_batch_idx", "cache_leftpad"}) {
      if (Find(name) == nullptr) continue;
      if (Status status = Need(name, {p_.batch}); !status) return status;
    }
    const io::Tensor* offsets = Find("query_offset");
    if (offsets == nullptr) return {};
    if (Status status = Need("query_offset", {kAny}); !status) return status;
    if (offsets->shape[0] == 1) {
      p_.query_offset = offsets->As<std::int32_t>()[0];
      return {};
    }
    p_.query_offsets = true;
    return Need("query_offset", {p_.batch});
  }

  Status Take(const char* name, Role role, Array* out) const {
    const io::Tensor* tensor = Find(name);
    if (tensor == nullptr) return {};
    const Shape shape = ViewOf(p_, role).shape;
    if (Status status = Need(name, shape); !status) return status;
    const auto values = tensor->As<double>();
    *out = {shape, {values.begin(), values.end()}};
    return {};
  }

  Status ReadExpected() {
    Results& e = out_.expected;
    if (Find("out") == nullptr) return Bad("the tensor 'out' is missing");
    const Status taken[] = {Take("out", Role::kO, &e.o),
                            Take("lse", Role::kLse, &e.lse),
                            Take("dq", Role::kDq, &e.dq),
                            Take("dk", Role::kDk, &e.dk),
                            Take("dv", Role::kDv, &e.dv),
                            Take("dbias", Role::kDbias, &e.dbias),
                            Take("dsinks", Role::kDsinks, &e.dsinks)};
    for (const Status& status : taken) {
      if (!status) return status;
    }
    if (p_.cache.given) {
      if (Status status = Take("k_cache_after", Role::kKCache, &e.k_cache); !status) return status;
      if (Status status = Take("v_cache_after", Role::kVCache, &e.v_cache); !status) return status;
    }
    if (e.dbias.given() && !p_.bias.given) return Bad("there is a dbias but no bias");
    if (e.dsinks.given() && !p_.sinks) return Bad("there are dsinks but no sinks");
    const int gradients = e.dq.given() + e.dk.given() + e.dv.given();
    if (gradients != 0 && gradients != 3) return Bad("dq, dk and dv must be given together");
    if (gradients == 0 && (e.dbias.given() || e.dsinks.given()))
      return Bad("dq, dk and dv are missing");
    p_.want_lse = e.lse.given();
    if (gradients == 0) return {};
    if (Find("dlse") != nullptr) {
      if (Status status = Need("dlse", ViewOf(p_, Role::kDlse).shape); !status) return status;
    }
    return Need("dout", ViewOf(p_, Role::kDout).shape);
  }

  CaseFile& out_;
  Problem& p_;
  Settings settings_;
  std::string layout_;
};

}  // namespace

Problem CaseFile::BackwardProblem() const {
  Problem p = problem;
  p.op = Op::kBackward;
  p.want_lse = false;
  p.dlse = tensors.Find("dlse") != nullptr;
  p.want_dbias = expected.dbias.given();
  p.want_dsinks = expected.dsinks.given();
  return p;
}

Buffers CaseFile::Inputs() const {
  const auto at = [&](const char* key) -> const void* {
    const io::Tensor* tensor = tensors.Find(key);
    // A tensor without elements still needs an address.
    static const double kNothing = 0;
    return tensor == nullptr      ? nullptr
           : tensor->data.empty() ? &kNothing
                                  : static_cast<const void*>(tensor->data.data());
  };
  const auto floats = [&](const char* key) { return static_cast<const float*>(at(key)); };
  const auto bytes = [&](const char* key) { return static_cast<const std::uint8_t*>(at(key)); };
  const auto ints = [&](const char* key) { return static_cast<const std::int32_t*>(at(key)); };
  Buffers b;
  b.q = at("q");
  b.k = at("k");
  b.v = at("v");
  b.alibi_slopes = floats("alibi_slopes");
  b.bias = at("bias");
  b.mask = bytes("mask");
  b.block_map = bytes("block_map");
  b.sinks = floats("sinks");
  b.key_lengths = ints("key_lengths");
  b.query_offsets = problem.query_offsets ? ints("query_offset") : nullptr;
  b.cu_seqlens_q = ints("cu_seqlens_q");
  b.cu_seqlens_k = ints("cu_seqlens_k");
  b.k_new = at("k_new");
  b.v_new = at("v_new");
  b.rotary_cos = at("rotary_cos");
  b.rotary_sin = at("rotary_sin");
  b.cache_seqlens = ints("cache_seqlens");
  b.cache_batch_idx = ints("cache_batch_idx");
  b.cache_leftpad = ints("cache_leftpad");
  b.block_table = ints("block_table");
  b.dout = at("dout");
  b.dlse = floats("dlse");
  return b;
}

Result<CaseFile> CaseOf(io::TensorFile file, DType dtype) {
  CaseFile c;
  c.tensors = std::move(file);
  c.problem.dtype = dtype;
  if (Status status = ConvertTensors(dtype, &c.tensors); !status) return status;
  c.name = Settings(c.tensors).Word("name", "");
  if (Status status = Reader(&c).Read(); !status) return status;
  return c;
}

}  // namespace heed::verify
