// abi.h: what a program in another language calls: plan once, run often, judge. Every function puts its
// sentence or its text into `says` (`room` bytes, cut where longer), and none throws. Calls are lines of
// text: request.h.
#pragma once

#include <cstddef>
#include <cstdint>

#define HEED_GPU_API __attribute__((visibility("default")))

extern "C" {

/// The backend's own words for why it cannot run here; 0: it can.
HEED_GPU_API int heed_gpu_absent(const char* backend, char* says, std::size_t room);

/// A plan with its buffers, to be released; null with a sentence.
HEED_GPU_API void* heed_gpu_prepare(const char* fields, char* says, std::size_t room);
HEED_GPU_API void heed_gpu_release(void* call);

HEED_GPU_API std::int64_t heed_gpu_workspace_bytes(const void* call);
HEED_GPU_API void heed_gpu_set_workspace(void* call, void* data, std::int64_t bytes);
HEED_GPU_API void heed_gpu_set_stream(void* call, void* stream);
HEED_GPU_API void heed_gpu_describe(const void* call, char* says, std::size_t room);

/// 0, or the status code.
HEED_GPU_API int heed_gpu_run(const void* call, char* says, std::size_t room);

/// Whether o and lse, or the gradients, of a call in host memory are right: 0 yes, with the worst error;
/// 1 no; 2 the call itself is wrong.
HEED_GPU_API int heed_gpu_judge(const char* fields, char* says, std::size_t room);
}
