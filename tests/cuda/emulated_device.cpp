// emulated_device.cpp: see emulated_device.h.
#include "emulated_device.h"

#include <cstdlib>
#include <vector>

#include "bodies.h"
#include "cuda/cuda_backward.h"
#include "cuda/cuda_call.h"
#include "cuda/instances.h"
#include "cuda/machines.h"
#include "verify/array.h"
#include "verify/layout.h"

namespace heed::cuda {
namespace {

using verify::Role;

// Every buffer of a call, by what the Problem says of it.
class CallMemory {
 public:
  CallMemory(const Launches& l, const Facts& facts, emu::Use outputs, emu::Memory* memory)
      : p_(l.problem), b_(l.buffers), memory_(*memory), outputs_(outputs) {
    AddInputs();
    if (l.backward) {
      AddBackward(*l.backward, PlanBackward(l.problem, facts));
    } else {
      AddForward(l.call, PlanCall(l.problem, facts).parts);
    }
  }

  // Of all results, added to `bits`: FNV-1a over their bytes.
  std::uint64_t Bits(std::uint64_t bits) const {
    const auto add = [&](Role role, const void* data) {
      const verify::View view = verify::ViewOf(p_, role, data);
      const std::int64_t size = SizeOf(view.type);
      verify::ForEachOffset(view, [&](std::int64_t offset) {
        for (std::int64_t byte = 0; byte < size; ++byte) {
          bits = (bits ^ static_cast<const std::uint8_t*>(data)[offset * size + byte]) *
                 0x100000001B3u;
        }
      });
    };
    if (p_.op == heed::Op::kBackward) {
      for (const auto& [role, data] : Gradients()) add(role, data);
      return bits;
    }
    add(Role::kO, b_.o);
    if (p_.want_lse) add(Role::kLse, b_.lse);
    if (p_.want_probs) add(Role::kProbs, b_.probs);
    if (p_.cache.given && p_.cache.new_len > 0) {
      add(Role::kKCache, b_.k_cache);
      add(Role::kVCache, b_.v_cache);
    }
    return bits;
  }

  // What this kernel writes, and others read.
  void For(Kernel kernel) {
    const emu::Use caches = kernel == Kernel::append ? emu::Use::kShared : emu::Use::kInput;
    memory_.Change("k_cache", caches);
    memory_.Change("v_cache", caches);
    const emu::Use pieces = kernel == Kernel::join ? emu::Use::kInput : emu::Use::kShared;
    memory_.Change("pieces", pieces);
    memory_.Change("pieces' lse", pieces);
    memory_.Change("rows", kernel == Kernel::prepare ? emu::Use::kShared : emu::Use::kInput);
  }

 private:
  void AddInputs() {
    const Cache& cache = p_.cache;
    Input(Role::kQ, b_.q);
    Input(cache.given ? Role::kKCache : Role::kK, cache.given ? b_.k_cache : b_.k);
    Input(cache.given ? Role::kVCache : Role::kV, cache.given ? b_.v_cache : b_.v);
    if (cache.given && cache.new_len > 0) {
      Input(Role::kKNew, b_.k_new);
      Input(Role::kVNew, b_.v_new);
    }
    if (cache.rotary != Rotary::kNone) {
      Input(Role::kRotaryCos, b_.rotary_cos);
      Input(Role::kRotarySin, b_.rotary_sin);
    }
    if (p_.bias.given) Input(Role::kBias, b_.bias);
    if (p_.mask.given) Input(Role::kMask, b_.mask);
    if (p_.block_map.given) Input(Role::kBlockMap, b_.block_map);
    if (p_.alibi != Alibi::kNone) Input(Role::kSlopes, b_.alibi_slopes);
    if (p_.sinks) Input(Role::kSinks, b_.sinks);
    Indices("key_lengths", b_.key_lengths, p_.batch);
    Indices("query_offsets", b_.query_offsets, p_.batch);
    Indices("cu_seqlens_q", b_.cu_seqlens_q, p_.batch + 1);
    Indices("cu_seqlens_k", b_.cu_seqlens_k, p_.batch + 1);
    Indices("cache_seqlens", b_.cache_seqlens, p_.batch);
    Indices("cache_batch_idx", b_.cache_batch_idx, p_.batch);
    Indices("cache_leftpad", b_.cache_leftpad, p_.batch);
    Indices("block_table", b_.block_table, p_.batch * cache.blocks);
  }
  void AddForward(const ForwardCall& c, const Parts& parts) {
    Output(Role::kO, b_.o);
    if (p_.want_lse) Output(Role::kLse, b_.lse);
    if (p_.want_probs) Output(Role::kProbs, b_.probs);
    Part("kinds", c.kinds.kinds, parts.kinds, emu::Use::kOutput);
    Part("rotated", c.cache.rotated, parts.rotated, emu::Use::kOutput);
    Part("pieces", c.split.o, parts.o, emu::Use::kShared);
    Part("pieces' lse", c.split.lse, parts.o_lse, emu::Use::kShared);
  }
  void AddBackward(const BackwardCall& c, const PlannedBackward& planned) {
    Input(Role::kO, b_.o);
    Input(Role::kLse, b_.lse);
    Input(Role::kDout, b_.dout);
    if (p_.dlse) Input(Role::kDlse, b_.dlse);
    for (const auto& [role, data] : Gradients()) {
      if (p_.accumulate) {
        Add(role, data, emu::Use::kShared);
      } else {
        Output(role, data);
      }
    }
    Part("kinds", c.forward.kinds.kinds, planned.kinds, emu::Use::kOutput);
    Part("rows", c.rows, planned.rows, emu::Use::kShared);
  }
  std::vector<std::pair<Role, void*>> Gradients() const {
    std::vector<std::pair<Role, void*>> all = {
        {Role::kDq, b_.dq}, {Role::kDk, b_.dk}, {Role::kDv, b_.dv}};
    if (p_.want_dbias) all.emplace_back(Role::kDbias, b_.dbias);
    if (p_.want_dsinks) all.emplace_back(Role::kDsinks, b_.dsinks);
    return all;
  }

  static bool IsBytes(Role role) { return role == Role::kMask || role == Role::kBlockMap; }
  struct Extent {
    char* first;
    std::size_t bytes;
  };
  Extent ExtentOf(const verify::View& view, std::int64_t size) const {
    const verify::Reach reach = verify::ReachOf(view);
    return {static_cast<char*>(const_cast<void*>(view.data)) + reach.first * size,
            static_cast<std::size_t>((reach.last - reach.first) * size)};
  }
  void Input(Role role, const void* data) { Add(role, data, emu::Use::kInput); }
  void Add(Role role, const void* data, emu::Use use) {
    const verify::View view = verify::ViewOf(p_, role, data);
    const Extent e = ExtentOf(view, IsBytes(role) ? 1 : SizeOf(view.type));
    if (e.bytes > 0) memory_.Add(verify::Name(role), e.first, e.bytes, use);
  }
  void Output(Role role, void* data) {
    const verify::View view = verify::ViewOf(p_, role, data);
    const std::int64_t size = SizeOf(view.type);
    const Extent e = ExtentOf(view, size);
    if (e.bytes == 0) return;
    const std::int64_t before = verify::ReachOf(view).first;
    std::vector<bool> mine(e.bytes, false);
    verify::ForEachOffset(view, [&](std::int64_t offset) {
      for (std::int64_t byte = 0; byte < size; ++byte) {
        mine[static_cast<std::size_t>((offset - before) * size + byte)] = true;
      }
    });
    memory_.AddOutput(verify::Name(role), e.first, e.bytes, mine, outputs_);
  }
  void Indices(const char* name, const std::int32_t* data, std::int64_t count) {
    if (data == nullptr || count == 0) return;
    memory_.Add(name, const_cast<std::int32_t*>(data), static_cast<std::size_t>(count) * 4,
                emu::Use::kInput);
  }
  void Part(const char* name, void* data, const Parts::Part& part, emu::Use use) {
    if (part.bytes > 0) memory_.Add(name, data, static_cast<std::size_t>(part.bytes), use);
  }

  const Problem& p_;
  const Buffers& b_;
  emu::Memory& memory_;
  emu::Use outputs_;
};

const char* NameOf(Kernel kernel) {
  constexpr const char* kNames[] = {
      "forward_mma", "forward_fma", "append",   "classify", "join",     "probs",    "prepare",
      "queries_mma", "queries_fma", "keys_mma", "keys_fma", "bias_mma", "bias_fma", "sinks"};
  return kNames[static_cast<int>(kernel)];
}

void Add(const emu::Stats& more, emu::Stats* all) {
  all->mma += more.mma;
  all->async_copies += more.async_copies;
  all->ldmatrix_passes += more.ldmatrix_passes;
  all->ldmatrix_ideal += more.ldmatrix_ideal;
  all->shared_passes += more.shared_passes;
  all->shared_ideal += more.shared_ideal;
}

}  // namespace

EmulatedDevice& EmulatedDevice::The() {
  static EmulatedDevice device;
  return device;
}

const Device& TheDevice() { return EmulatedDevice::The(); }

void EmulatedDevice::Be(int arch) {
  arch_ = arch;
  for (const Facts& facts : KnownMachines()) {
    if (facts.arch == arch) facts_ = facts;
  }
  facts_.name = "emulated " + facts_.name;
}

void* EmulatedDevice::Take(std::size_t bytes, void* on) const {
  taken++;
  stream = on;
  return std::malloc(bytes);
}

void EmulatedDevice::Give(void* data, void*) const {
  given++;
  std::free(data);
}

Status EmulatedDevice::Run(const Launches& l) const {
  ran.clear();
  stats = {};
  stream = l.buffers.stream;
  emu::Memory memory;
  CallMemory call(l, facts_, arrays_are_wrong ? emu::Use::kShared : emu::Use::kOutput, &memory);
  memory.Begin();
  try {
    for (const Launch& launch : l.all) {
      const Instance& instance = InstanceOf(launch.row);
      ran += (ran.empty() ? "" : " ") + std::string(NameOf(instance.kernel));
      call.For(instance.kernel);
      emu::Config config = schedule;
      config.grid[0] = static_cast<int>(launch.blocks);
      config.threads = instance.threads();
      config.shared_bytes = instance.shared_bytes();
      config.arch = instance.arch;
      const BodyOf body = EmulatedBody(launch.row);
      const void* const take =
          IsOfBackward(instance.kernel) ? static_cast<const void*>(l.backward) : &l.call;
      Add(emu::RunGrid(config, memory, [&] { body(take); }), &stats);
      memory.Next();
    }
    bits = call.Bits(bits);
    const std::string wrong = arrays_are_wrong ? "" : memory.End();
    return wrong.empty() ? Status() : Status(StatusCode::kDevice, ran + ": " + wrong);
  } catch (const emu::Error& e) {
    return {StatusCode::kDevice, ran + ": " + e.what()};
  }
}

}  // namespace heed::cuda
