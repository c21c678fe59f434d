// decode.cpp: _core.decode, attention against a cache of keys and values. Not here: the rules of a
// cache (docs/semantics.md), which heed::Validate and heed::Run check.
#include <string>

#include "call.h"
#include "functions.h"

namespace heed::python {
namespace {

// What only a call on a cache has, in the order of its parameters.
enum CacheOption : int {
  kKNew,
  kVNew,
  kRotaryCos,
  kRotarySin,
  kRotaryInterleaved,
  kCacheSeqlens,
  kCacheBatchIdx,
  kCacheLeftpad,
  kBlockTable,
  kCacheOptions,
};
constexpr const char* kCacheNames[] = {
    "k_new",         "v_new",           "rotary_cos",    "rotary_sin", "rotary_interleaved",
    "cache_seqlens", "cache_batch_idx", "cache_leftpad", "block_table"};
using CacheIndices = std::make_index_sequence<kCacheOptions>;

class CacheCall : public Call {
 public:
  CacheCall(nb::handle q, nb::handle k_cache, nb::handle v_cache, const nb::handle* c)
      : Call(q, "q"), c_(c) {
    ReadTensors(q, k_cache, v_cache);
    ReadNew();
    ReadRotary();
    ReadIndices();
  }

 private:
  void Like(const View& view, const char* name, nb::handle array) const {
    if (view.element == FromDType(problem.dtype)) return;
    Raise(std::string(name) + " is " + ElementText(view, array) + " and q is " +
          Name(problem.dtype) + ": they must be of one dtype");
  }

  void ReadTensors(nb::handle q, nb::handle k_cache, nb::handle v_cache) {
    const View qv = ReadRows(q, "q", 4);
    Problem& p = problem;
    p.dtype = ToDType(qv.element);
    p.batch = qv.shape[0];
    p.q_len = qv.shape[1];
    p.q_heads = qv.shape[2];
    p.dim = qv.shape[3];
    View k = ReadRows(k_cache, "k_cache", 4), v = ReadRows(v_cache, "v_cache", 4);
    Like(k, "k_cache", k_cache);
    Like(v, "v_cache", v_cache);
    p.cache.given = true;
    p.cache.slots = k.shape[0];
    p.cache.rows = k.shape[1];
    p.k_heads = k.shape[2];
    p.dim_v = v.shape[3];
    if (k.shape[3] != p.dim || p.k_heads < 1 || p.q_heads % p.k_heads != 0) {
      Raise(
          "k_cache has the shape " + ShapeText(k) + " and q has " + ShapeText(qv) +
          ": the last axis must be the same, and the number of q's heads a multiple of k_cache's");
    }
    if (p.dim_v < 1)
      Raise("v_cache has the shape " + ShapeText(v) + ": its last axis must be 1 or more");
    CheckShape(v, "v_cache", {k.shape[0], k.shape[1], k.shape[2], v.shape[3]},
               "k_cache's but for the last axis");
    p.q_strides = RowStrides(qv);
    p.k_strides = RowStrides(k);
    p.v_strides = RowStrides(v);
    Begin(q, qv);
    buffers.k_cache = AddressOf(k);
    buffers.v_cache = AddressOf(v);
    caches_writable_ = k.writable && v.writable;
  }

  void ReadNew() {
    if (Given(c_[kKNew]) != Given(c_[kVNew])) {
      Raise(std::string(Given(c_[kKNew]) ? "k_new" : "v_new") +
            " is given alone: new rows need k_new and v_new");
    }
    if (!Given(c_[kKNew])) return;
    Problem& p = problem;
    const View k = ReadRows(c_[kKNew], "k_new", 4), v = ReadRows(c_[kVNew], "v_new", 4);
    Like(k, "k_new", c_[kKNew]);
    Like(v, "v_new", c_[kVNew]);
    p.cache.new_len = k.shape[1];
    CheckShape(k, "k_new", {p.batch, k.shape[1], p.k_heads, p.dim}, "(B, new rows, Hk, D)");
    CheckShape(v, "v_new", {p.batch, k.shape[1], p.k_heads, p.dim_v}, "(B, new rows, Hk, Dv)");
    if (p.cache.new_len == 0) return;  // rows that are none: nothing is written
    if (!caches_writable_)
      Raise("k_cache or v_cache is read-only: k_new and v_new are written to them");
    p.k_new_strides = RowStrides(k);
    p.v_new_strides = RowStrides(v);
    buffers.k_new = AddressOf(k);
    buffers.v_new = AddressOf(v);
  }

  void ReadRotary() {
    if (Given(c_[kRotaryCos]) != Given(c_[kRotarySin])) {
      Raise(std::string(Given(c_[kRotaryCos]) ? "rotary_cos" : "rotary_sin") +
            " is given alone: rotary embedding needs rotary_cos and rotary_sin");
    }
    if (!Given(c_[kRotaryCos])) return;
    Cache& cache = problem.cache;
    cache.rotary =
        Flag(c_[kRotaryInterleaved], "rotary_interleaved") ? Rotary::kInterleaved : Rotary::kHalf;
    const auto read = [&](int which, const char* name) {
      const View view = ReadRows(c_[which], name, 2);
      Like(view, name, c_[which]);
      if (!view.contiguous())
        Raise(std::string(name) + " is not contiguous: make a contiguous copy");
      return view;
    };
    const View cos = read(kRotaryCos, "rotary_cos"), sin = read(kRotarySin, "rotary_sin");
    CheckShape(sin, "rotary_sin", {cos.shape[0], cos.shape[1]}, "that of rotary_cos");
    cache.rotary_rows = cos.shape[0];
    cache.rotary_dim = 2 * cos.shape[1];
    buffers.rotary_cos = AddressOf(cos);
    buffers.rotary_sin = AddressOf(sin);
  }

  void ReadIndices() {
    Cache& cache = problem.cache;
    const std::int64_t batch = problem.batch;
    if (Given(c_[kBlockTable])) {
      const View view = Read(c_[kBlockTable], "block_table");
      if (view.element != Element::kI32) {
        Raise("block_table has the dtype " + ElementText(view, c_[kBlockTable]) +
              ": it must be int32");
      }
      if (view.ndim != 2 || view.shape[0] != batch || view.shape[1] < 1) {
        Raise("block_table has the shape " + ShapeText(view) + ": it must be (" +
              std::to_string(batch) + ", pages of the longest sequence)");
      }
      cache.blocks = view.shape[1];
      buffers.block_table = Integers(c_[kBlockTable], "block_table", -1);
    }
    if (Given(c_[kCacheBatchIdx])) {
      cache.batch_idx = true;
      buffers.cache_batch_idx = Integers(c_[kCacheBatchIdx], "cache_batch_idx", batch);
    }
    if (Given(c_[kCacheLeftpad])) {
      cache.leftpad = true;
      buffers.cache_leftpad = Integers(c_[kCacheLeftpad], "cache_leftpad", batch);
    }
    const nb::handle lengths = c_[kCacheSeqlens];
    if (Given(lengths) && (IsNumpy(lengths) || IsTorch(lengths))) {
      const View view = Read(lengths, "cache_seqlens");
      if (view.ndim > 0 || view.device != kHost) {
        buffers.cache_seqlens = view.ndim > 0 ? Integers(lengths, "cache_seqlens", batch)
                                              : Spread(lengths, "cache_seqlens");
        return;
      }
    }
    const std::int64_t capacity = cache.rows * (cache.blocks > 0 ? cache.blocks : 1);
    if (!Given(lengths) && cache.new_len > 0) {
      Raise("k_new is given without cache_seqlens: it says at which row the new keys begin");
    }
    const std::int64_t n =
        Given(lengths) ? heed::python::Integer(lengths, "cache_seqlens") : capacity;
    if (n < 0 || n > capacity || n > INT32_MAX) {
      Raise("cache_seqlens is " + std::to_string(n) + ": it must be from 0 to " +
            std::to_string(capacity) + ", the rows of an entry");
    }
    buffers.cache_seqlens = Repeated(static_cast<std::int32_t>(n));
  }

  const nb::handle* c_;
  bool caches_writable_ = true;
};

nb::object Decode(nb::handle q, nb::handle k_cache, nb::handle v_cache, const nb::handle* c,
                  const nb::handle* o, bool return_lse, bool guarded) {
  if (guarded && IsTorch(q)) {
    nb::handle tensors[24];
    int n = 0;
    for (const nb::handle t : {q, k_cache, v_cache}) {
      if (IsTorch(t)) tensors[n++] = t;
    }
    for (int i = 0; i < kCacheOptions; i++) {
      if (Given(c[i]) && IsTorch(c[i])) tensors[n++] = c[i];
    }
    for (int i = 0; i < kOptions; i++) {
      if (Given(o[i]) && IsTorch(o[i]) && n < 24) tensors[n++] = o[i];
    }
    if (TorchWatcher(tensors, n, Guard::kAll) != Watcher::kNobody) return NotHere();
  }
  CacheCall call(q, k_cache, v_cache, c);
  call.ReadHow(o);
  call.ReadScore(o);
  Problem& p = call.problem;
  p.want_lse = return_lse;
  const Plan plan = call.MakePlan();
  nb::object out, lse;
  View view = call.arrays.New(FromDType(p.dtype), {p.batch, p.q_len, p.q_heads, p.dim_v}, &out);
  call.buffers.o = AddressOf(view);
  if (return_lse) {
    view = call.arrays.New(Element::kF32, {p.batch, p.q_heads, p.q_len}, &lse);
    call.buffers.lse = static_cast<float*>(AddressOf(view));
  }
  call.Run(plan);
  if (return_lse) return nb::make_tuple(out, lse);
  return out;
}

template <std::size_t... C, std::size_t... I>
void Add(nb::module_& m, std::index_sequence<C...>, std::index_sequence<I...>) {
  m.def(
      "decode",
      [](nb::handle q, nb::handle k_cache, nb::handle v_cache, Each<C>... cache, Each<I>... options,
         nb::handle return_lse, bool guarded) {
        const nb::handle c[] = {cache...}, o[] = {options...};
        return Decode(q, k_cache, v_cache, c, o, Flag(return_lse, "return_lse"), guarded);
      },
      nb::arg("q").none(), nb::arg("k_cache").none(), nb::arg("v_cache").none(),
      nb::arg(kCacheNames[C]).none()..., nb::arg(kOptionNames[I]).none()..., nb::arg("return_lse"),
      nb::arg("guarded"),
      "heed.decode on arrays of one library. Of the options of attention those of ragged batches,\n"
      "key_lengths and dropout are not looked at.");
}

}  // namespace

void AddDecode(nb::module_& m) { Add(m, CacheIndices{}, OptionIndices{}); }

}  // namespace heed::python
