// abi.cpp: see abi.h.
#include "abi.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "heed/heed.h"
#include "judge.h"
#include "request.h"

namespace heed::gpu {
namespace {

struct Prepared {
  Plan plan;
  Buffers buffers;
};

void Say(const std::string& text, char* says, std::size_t room) {
  if (room == 0) return;
  const std::size_t length = std::min(text.size(), room - 1);
  std::memcpy(says, text.data(), length);
  says[length] = '\0';
}

// f's value; `otherwise`, and its words said, where it throws.
template <class T, class F>
T Guard(char* says, std::size_t room, T otherwise, F&& f) {
  try {
    return f();
  } catch (const std::exception& e) {
    Say(e.what(), says, room);
    return otherwise;
  }
}

const Prepared& Of(const void* call) { return *static_cast<const Prepared*>(call); }

}  // namespace
}  // namespace heed::gpu

using heed::gpu::Guard;
using heed::gpu::Of;
using heed::gpu::Prepared;
using heed::gpu::Say;

int heed_gpu_absent(const char* backend, char* says, std::size_t room) {
  return Guard(says, room, 1, [&] {
    for (const heed::BackendInfo& info : heed::Backends()) {
      if (info.name != backend) continue;
      Say(info.reason, says, room);
      return info.available ? 0 : 1;
    }
    Say(std::string("this build has no backend called ") + backend, says, room);
    return 1;
  });
}

void* heed_gpu_prepare(const char* fields, char* says, std::size_t room) {
  return Guard<void*>(says, room, nullptr, [&]() -> void* {
    heed::gpu::Request request;
    if (heed::Status status = heed::gpu::Parse(fields, &request); !status) {
      Say(status.message(), says, room);
      return nullptr;
    }
    heed::Result<heed::Plan> plan = heed::MakePlan(request.problem, request.options);
    if (!plan) {
      Say(plan.status().message(), says, room);
      return nullptr;
    }
    return std::make_unique<Prepared>(Prepared{std::move(*plan), request.buffers}).release();
  });
}

void heed_gpu_release(void* call) { delete static_cast<Prepared*>(call); }

std::int64_t heed_gpu_workspace_bytes(const void* call) { return Of(call).plan.workspace_bytes(); }

void heed_gpu_set_workspace(void* call, void* data, std::int64_t bytes) {
  static_cast<Prepared*>(call)->buffers.workspace = {data, static_cast<std::size_t>(bytes)};
}

void heed_gpu_set_stream(void* call, void* stream) {
  static_cast<Prepared*>(call)->buffers.stream = stream;
}

void heed_gpu_describe(const void* call, char* says, std::size_t room) {
  Guard(says, room, 0, [&] {
    Say(Of(call).plan.Describe(), says, room);
    return 0;
  });
}

int heed_gpu_run(const void* call, char* says, std::size_t room) {
  return Guard(says, room, -1, [&] {
    const heed::Status status = heed::Run(Of(call).plan, Of(call).buffers);
    if (!status) Say(status.message(), says, room);
    return static_cast<int>(status.code());
  });
}

int heed_gpu_judge(const char* fields, char* says, std::size_t room) {
  return Guard(says, room, 2, [&] {
    heed::gpu::Request request;
    if (heed::Status status = heed::gpu::Parse(fields, &request); !status) {
      Say(status.message(), says, room);
      return 2;
    }
    const heed::gpu::Verdict verdict = heed::gpu::JudgeResults(request.problem, request.buffers);
    Say(verdict.words, says, room);
    return verdict.status == heed::verify::CaseStatus::kPass ? 0 : 1;
  });
}
