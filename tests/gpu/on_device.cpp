// on_device.cpp: see on_device.h.
#include "on_device.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "device_memory.h"
#include "verify/array.h"
#include "verify/layout.h"

namespace heed::gpu {
namespace {

using verify::Role;

constexpr std::size_t kZone = 512;  // bytes
constexpr std::size_t kModulo = 256;
constexpr unsigned char kPattern = 0xFF;  // a NaN in every floating type

Status Wrong(std::string words) { return {StatusCode::kDevice, std::move(words)}; }

// One array on the device. `first`, `bytes`: of the host's memory that it mirrors.
class Mirror {
 public:
  Mirror(std::string name, char* first, std::size_t bytes, bool written)
      : name_(std::move(name)), first_(first), bytes_(bytes), written_(written) {}
  Mirror(const Mirror&) = delete;
  ~Mirror() {
    if (block_ != nullptr) Give(block_);
  }

  // `content`: what it holds at first; null: the pattern.
  Status Send(const char* content) {
    before_ = kZone + reinterpret_cast<std::uintptr_t>(first_) % kModulo;
    sent_.assign(before_ + bytes_ + kZone, kPattern);
    if (content != nullptr && bytes_ > 0) std::memcpy(sent_.data() + before_, content, bytes_);
    block_ = static_cast<char*>(Take(sent_.size()));
    if (block_ == nullptr) return Wrong("no memory on the device for " + name_);
    const std::string wrong = ToDevice(block_, sent_.data(), sent_.size());
    return wrong.empty() ? Status() : Wrong(name_ + " to the device: " + wrong);
  }

  // Brings back what was written, and looks at what may not be.
  Status Fetch() {
    std::vector<unsigned char> got(sent_.size());
    const std::string wrong = ToHost(got.data(), block_, got.size());
    if (!wrong.empty()) return Wrong(wrong);
    const auto same = [&](std::size_t from, std::size_t to) {
      return std::equal(got.begin() + std::ptrdiff_t(from), got.begin() + std::ptrdiff_t(to),
                        sent_.begin() + std::ptrdiff_t(from));
    };
    if (!same(0, before_)) return Wrong("bytes before " + name_ + " were changed");
    if (!same(before_ + bytes_, got.size()))
      return Wrong("bytes behind " + name_ + " were changed");
    if (!written_) {
      return same(before_, before_ + bytes_) ? Status() : Wrong(name_ + ", an input, was changed");
    }
    if (first_ != nullptr && bytes_ > 0) std::memcpy(first_, got.data() + before_, bytes_);
    return {};
  }

  char* data() const { return block_ + before_; }

 private:
  std::string name_;
  char* first_;
  std::size_t bytes_, before_ = 0;
  bool written_;
  char* block_ = nullptr;
  std::vector<unsigned char> sent_;
};

class CallOnDevice {
 public:
  CallOnDevice(const Plan& plan, const Buffers& buffers)
      : plan_(plan), p_(plan.problem()), b_(buffers) {}

  Status Run(Status (*run)(const Plan&, const Buffers&)) {
    SendTensors();
    SendOptions();
    SendIndices();
    const auto bytes = static_cast<std::size_t>(plan_.workspace_bytes());
    if (status_) {
      Mirror& workspace = mirrors_.emplace_back("the workspace", nullptr, bytes, true);
      status_ = workspace.Send(nullptr);
      b_.workspace = {workspace.data(), bytes};
    }
    b_.stream = nullptr;
    if (status_) status_ = run(plan_, b_);
    for (Mirror& mirror : mirrors_) {
      if (status_) status_ = mirror.Fetch();
    }
    return status_;
  }

 private:
  void SendTensors() {
    const bool backward = p_.op == Op::kBackward, cache = p_.cache.given;
    Tensor(Role::kQ, &b_.q, true);
    Tensor(Role::kK, &b_.k, !cache);
    Tensor(Role::kV, &b_.v, !cache);
    Tensor(Role::kO, &b_.o, true, !backward);
    Tensor(Role::kLse, &b_.lse, p_.want_lse || backward, !backward);
    Tensor(Role::kProbs, &b_.probs, p_.want_probs, true);
    Tensor(Role::kKCache, &b_.k_cache, cache, true);
    Tensor(Role::kVCache, &b_.v_cache, cache, true);
    Tensor(Role::kKNew, &b_.k_new, cache && p_.cache.new_len > 0);
    Tensor(Role::kVNew, &b_.v_new, cache && p_.cache.new_len > 0);
    Tensor(Role::kRotaryCos, &b_.rotary_cos, p_.cache.rotary != Rotary::kNone);
    Tensor(Role::kRotarySin, &b_.rotary_sin, p_.cache.rotary != Rotary::kNone);
    Tensor(Role::kDout, &b_.dout, backward);
    Tensor(Role::kDlse, &b_.dlse, backward && p_.dlse);
    Tensor(Role::kDq, &b_.dq, backward, true);
    Tensor(Role::kDk, &b_.dk, backward, true);
    Tensor(Role::kDv, &b_.dv, backward, true);
    Tensor(Role::kDbias, &b_.dbias, p_.want_dbias, true);
    Tensor(Role::kDsinks, &b_.dsinks, p_.want_dsinks, true);
  }
  void SendOptions() {
    Tensor(Role::kBias, &b_.bias, p_.bias.given);
    Tensor(Role::kMask, &b_.mask, p_.mask.given);
    Tensor(Role::kBlockMap, &b_.block_map, p_.block_map.given);
    Tensor(Role::kSlopes, &b_.alibi_slopes, p_.alibi != Alibi::kNone);
    Tensor(Role::kSinks, &b_.sinks, p_.sinks);
  }
  void SendIndices() {
    Indices("key_lengths", &b_.key_lengths, p_.batch);
    Indices("query_offsets", &b_.query_offsets, p_.batch);
    Indices("cu_seqlens_q", &b_.cu_seqlens_q, p_.batch + 1);
    Indices("cu_seqlens_k", &b_.cu_seqlens_k, p_.batch + 1);
    Indices("cache_seqlens", &b_.cache_seqlens, p_.batch);
    Indices("cache_batch_idx", &b_.cache_batch_idx, p_.batch);
    Indices("cache_leftpad", &b_.cache_leftpad, p_.batch);
    Indices("block_table", &b_.block_table, p_.batch * p_.cache.blocks);
  }

  // Moves one pointer to the device; what the call has not stays as it is.
  template <class T>
  void Tensor(Role role, T** pointer, bool has, bool written = false) {
    if (!has || *pointer == nullptr) return;
    const verify::View view = verify::ViewOf(p_, role, *pointer);
    const verify::Reach reach = verify::ReachOf(view);
    const bool bytes = role == Role::kMask || role == Role::kBlockMap;
    const std::int64_t size = bytes ? 1 : SizeOf(view.type);
    Move(verify::Name(role), pointer, reach.first * size, (reach.last - reach.first) * size,
         written);
  }
  void Indices(const char* name, const std::int32_t** pointer, std::int64_t count) {
    if (*pointer != nullptr) Move(name, pointer, 0, count * 4, false);
  }
  template <class T>
  void Move(const char* name, T** pointer, std::int64_t first, std::int64_t bytes, bool written) {
    if (!status_) return;
    char* const start = static_cast<char*>(const_cast<void*>(static_cast<const void*>(*pointer)));
    Mirror& mirror =
        mirrors_.emplace_back(name, start + first, static_cast<std::size_t>(bytes), written);
    status_ = mirror.Send(start + first);
    if (status_) *pointer = reinterpret_cast<T*>(mirror.data() - first);
  }

  const Plan& plan_;
  const Problem& p_;
  Buffers b_;
  std::deque<Mirror> mirrors_;
  Status status_;
};

}  // namespace

Status RunOnDevice(const Plan& plan, const Buffers& buffers) {
  return RunOnDevice(plan, buffers, &heed::Run);
}

Status RunOnDevice(const Plan& plan, const Buffers& buffers,
                   Status (*run)(const Plan&, const Buffers&)) {
  return CallOnDevice(plan, buffers).Run(run);
}

}  // namespace heed::gpu
