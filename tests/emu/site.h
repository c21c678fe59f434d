// Where in a kernel an instruction stands: what every report names.
#pragma once

namespace emu {

struct At {
  const char* file;
  int line;
  // As a default argument it names the caller's line.
  static constexpr At Here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

struct Site {
  const char* op;
  At at;
};

}  // namespace emu
