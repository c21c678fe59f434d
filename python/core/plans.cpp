// plans.cpp: see plans.h. A plan takes about a microsecond to make, as much as a small call.
#include "plans.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <list>
#include <memory>
#include <new>
#include <string_view>
#include <unordered_map>

#include "device.h"
#include "gil.h"
#include "sentences.h"

namespace heed::python {
namespace {

// Every field of a call in a row of words, so that keys compare and hash as memory.
class Key {
 public:
  Key(const Problem& problem, const PlanOptions& options, int device) {
    // The number of names is that of Problem's fields: one that is added does not compile here until
    // it is in the key, too.
    const auto& [batch, q_len, k_len, q_heads, k_heads, dim, dim_v, dtype, causal, window_left,
                 window_right, align, query_offset, query_offsets, prefix, chunk, scale, softcap,
                 alibi, bias, bias_dtype, mask, block_map, block_rows, block_cols, sinks,
                 key_lengths, ragged, total_q, total_k, cache, dropout_p, seed, offset, op,
                 want_lse, want_probs, out_dtype, dlse, want_dbias, want_dsinks, f32_grads,
                 accumulate, q_strides, k_strides, v_strides, o_strides, k_new_strides,
                 v_new_strides, dout_strides, dq_strides, dk_strides, dv_strides] = problem;
    for (const std::int64_t n :
         {batch, q_len, k_len, q_heads, k_heads, dim, dim_v, window_left, window_right, prefix,
          chunk, block_rows, block_cols, total_q, total_k}) {
      Put(n);
    }
    Put(query_offset.value_or(0));
    Put(Bits(scale.value_or(0)));
    Put(Bits(softcap));
    Put(Bits(dropout_p));
    Put(static_cast<std::int64_t>(seed));
    Put(static_cast<std::int64_t>(offset));
    // Small values side by side.
    std::int64_t small = 0;
    for (const int n :
         {static_cast<int>(dtype), static_cast<int>(align), static_cast<int>(alibi),
          static_cast<int>(bias_dtype), out_dtype ? 1 + static_cast<int>(*out_dtype) : 0}) {
      small = small * 8 + n;
    }
    for (const bool b :
         {causal, query_offset.has_value(), query_offsets, scale.has_value(), sinks, key_lengths,
          ragged, op == Op::kBackward, want_lse, want_probs, dlse, want_dbias, want_dsinks,
          f32_grads, accumulate, bias.given, mask.given, block_map.given, cache.given}) {
      small = small * 2 + (b ? 1 : 0);
    }
    Put(small);
    for (const Broadcast* t : {&bias, &mask, &block_map}) {
      if (t->given) PutBroadcast(*t);
    }
    if (cache.given) PutCache(cache);
    for (const Strides* s : {&q_strides, &k_strides, &v_strides}) PutStrides(*s);
    if (op == Op::kBackward) {
      for (const Strides* s : {&o_strides, &dout_strides, &dq_strides, &dk_strides, &dv_strides}) {
        PutStrides(*s);
      }
    } else {
      PutStrides(o_strides);
    }
    const auto& [backend, isa, threads, arch] = options;
    Put(threads);
    Put(device);
    PutText(backend);
    PutText(isa);
    PutText(arch);
  }

  bool operator==(const Key& other) const {
    return used_ == other.used_ && std::memcmp(words_.data(), other.words_.data(), used_ * 8) == 0;
  }
  std::size_t Hash() const {
    // Four chains, so that the multiplications do not wait for each other.
    std::uint64_t h[4] = {used_, 1, 2, 3};
    for (std::size_t i = 0; i < used_; i++) {
      h[i % 4] = (h[i % 4] ^ static_cast<std::uint64_t>(words_[i])) * 0x9E3779B97F4A7C15u;
      h[i % 4] ^= h[i % 4] >> 32;
    }
    return h[0] ^ (h[1] * 3) ^ (h[2] * 5) ^ (h[3] * 7);
  }

 private:
  static constexpr std::size_t kWords = 128;

  void Put(std::int64_t n) {
    if (used_ == kWords) Raise("the key of a plan is longer than its room");
    words_[used_++] = n;
  }
  void PutStrides(const Strides& s) {
    const auto& [batch, row, head] = s;
    Put(batch);
    Put(row);
    Put(head);
  }
  void PutBroadcast(const Broadcast& t) {
    const auto& [given, batch, heads, rows, cols, sb, sh, sr, sc] = t;
    for (const std::int64_t n : {batch, heads, rows, cols, sb, sh, sr, sc}) Put(n);
  }
  void PutCache(const Cache& c) {
    const auto& [given, slots, rows, blocks, new_len, batch_idx, leftpad, rotary, rotary_dim,
                 rotary_rows] = c;
    for (const std::int64_t n : {slots, rows, blocks, new_len, rotary_dim, rotary_rows}) Put(n);
    Put(batch_idx * 16 + leftpad * 8 + static_cast<int>(rotary));
  }
  // Names longer than this are unknown ones, and unknown names get no plan.
  void PutText(std::string_view text) {
    std::int64_t words[3] = {};
    const std::size_t n = text.size() < 16 ? text.size() : 16;
    std::memcpy(words, text.data(), n);
    words[2] = static_cast<std::int64_t>(text.size());
    for (const std::int64_t word : words) Put(word);
  }
  static std::int64_t Bits(double x) {
    std::int64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
  }

  std::size_t used_ = 0;
  std::array<std::int64_t, kWords> words_;
};

struct HashOf {
  std::size_t operator()(const Key* key) const { return key->Hash(); }
};
struct SameKey {
  bool operator()(const Key* a, const Key* b) const { return *a == *b; }
};

// The last used first.
class Plans {
 public:
  const Plan* Find(const Key& key) {
    if (!order_.empty() && order_.front().first == key) return &order_.front().second;
    const auto at = places_.find(&key);
    if (at == places_.end()) return nullptr;
    order_.splice(order_.begin(), order_, at->second);
    return &order_.front().second;
  }
  void Add(const Key& key, const Plan& plan) {
    if (order_.size() == kMost) {
      places_.erase(&order_.back().first);
      order_.pop_back();
    }
    order_.emplace_front(key, plan);
    places_[&order_.front().first] = order_.begin();
  }
  void Clear() {
    places_.clear();
    order_.clear();
  }
  std::size_t size() const { return order_.size(); }

 private:
  static constexpr std::size_t kMost = 256;
  using Order = std::list<std::pair<Key, Plan>>;
  Order order_;
  std::unordered_map<const Key*, Order::iterator, HashOf, SameKey> places_;
};

// Guarded by the GIL, as every caller holds it.
Plans& ThePlans() {
  static Plans* plans = new Plans;  // never destroyed: threads may call while the process ends
  return *plans;
}

// Memory that a thread's next call finds again.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }
  Workspace Take(std::size_t bytes) {
    if (bytes > bytes_) {
      std::free(data_);
      data_ = std::malloc(bytes);
      bytes_ = data_ ? bytes : 0;
      if (data_ == nullptr)
        Raise("no memory for a workspace of " + std::to_string(bytes) + " bytes");
    }
    return {data_, bytes_};
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// A workspace above this is given back after the call: nobody expects a sleeping thread to hold it.
constexpr std::size_t kMostKept = std::size_t{64} << 20;

}  // namespace

namespace {

void CheckOf(const Problem& problem, const Status& status) {
  if (!status) Raise(InPythonsWords(status.message(), problem));
}

}  // namespace

Plan PlanFor(const Problem& problem, const PlanOptions& options, int device) {
  if (problem.dropout_p > 0) {
    Result<Plan> plan = MakePlan(problem, options);
    CheckOf(problem, plan.status());
    return *plan;
  }
  const Key key(problem, options, device);
  if (const Plan* kept = ThePlans().Find(key)) return *kept;
  Result<Plan> plan = MakePlan(problem, options);
  CheckOf(problem, plan.status());
  ThePlans().Add(key, *plan);
  return *plan;
}

void ForgetPlans() { ThePlans().Clear(); }
std::size_t PlansKept() { return ThePlans().size(); }

void RunPlan(const Problem& problem, const Plan& plan, Buffers buffers, int device) {
  const auto needed = static_cast<std::size_t>(plan.workspace_bytes());
  if (device != kHost) {
    nb::object memory;
    if (needed > 0) {
      memory = DeviceBytes(needed, device, &buffers.workspace.data);
      buffers.workspace.bytes = needed;
    }
    CheckOf(problem, WithoutGil([&] { return Run(plan, buffers); }));
    return;
  }
  thread_local Scratch kept;
  Scratch own;
  buffers.workspace = (needed <= kMostKept ? kept : own).Take(needed > 0 ? needed : 1);
  CheckOf(problem, WithoutGil([&] { return Run(plan, buffers); }));
}

}  // namespace heed::python
