// What the emulator's tests share: run a small kernel under every schedule, and what it reported.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "cuda/ptx/ptx.h"
#include "emu/launch.h"

namespace emu {

namespace ptx = heed::cuda::ptx;

inline std::string ErrorOf(const Config& config, Memory& memory,
                           const std::function<void()>& kernel) {
  try {
    Launch(config, memory, kernel);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// A fault must be reported under every schedule, with this file's name and a line.
inline void ExpectReported(const Config& base, Memory& memory, const std::function<void()>& kernel,
                           const std::string& words, const char* file = __builtin_FILE()) {
  for (const Config& config : Schedules(base, 7)) {
    const std::string error = ErrorOf(config, memory, kernel);
    EXPECT_THAT(error, testing::HasSubstr(words)) << "order " << int(config.order);
    EXPECT_THAT(error, testing::HasSubstr(file)) << "order " << int(config.order);
  }
}
inline void ExpectReported(const Config& base, const std::function<void()>& kernel,
                           const std::string& words, const char* file = __builtin_FILE()) {
  Memory none;
  ExpectReported(base, none, kernel, words, file);
}

inline void ExpectClean(const Config& base, Memory& memory, const std::function<void()>& kernel) {
  for (const Config& config : Schedules(base, 7)) {
    EXPECT_EQ(ErrorOf(config, memory, kernel), "") << "order " << int(config.order);
  }
}

inline Config Threads(int threads, uint32_t shared_bytes = 4096, int arch = 900) {
  Config c;
  c.threads = threads;
  c.shared_bytes = shared_bytes;
  c.arch = arch;
  return c;
}

}  // namespace emu
