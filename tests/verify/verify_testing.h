// verify_testing.h: what the tests of verify share: where the cases lie, their names. Not here: any
// check.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "verify/conformance.h"

namespace heed::verify {

inline std::string CaseFolder() { return HEED_SOURCE_DIR "/tests/data/conformance"; }

inline std::vector<std::string> CasePaths() {
  Result<std::vector<std::string>> paths = ExpandPaths({CaseFolder()});
  return paths ? *paths : std::vector<std::string>{};
}

inline std::string StemOf(const std::string& path) {
  return std::filesystem::path(path).stem().string();
}

/// A file's inputs with its caches in place: fine for what only reads.
inline Buffers ReadableInputs(const CaseFile& file) {
  Buffers b = file.Inputs();
  const auto cache = [&](const char* name) -> void* {
    const io::Tensor* t = file.tensors.Find(name);
    return t == nullptr ? nullptr : const_cast<std::byte*>(t->data.data());
  };
  b.k_cache = cache("k_cache");
  b.v_cache = cache("v_cache");
  return b;
}

/// The forward or, where the case has gradients, the backward.
inline Problem FullProblem(const CaseFile& file) {
  return file.has_gradients() ? file.BackwardProblem() : file.problem;
}

/// Calls f(name, expected, of) for each pair of fields of Results.
template <class F>
void ForEachResult(const Results& a, const Results& b, F&& f) {
  f("o", a.o, b.o);
  f("lse", a.lse, b.lse);
  f("probs", a.probs, b.probs);
  f("dq", a.dq, b.dq);
  f("dk", a.dk, b.dk);
  f("dv", a.dv, b.dv);
  f("dbias", a.dbias, b.dbias);
  f("dsinks", a.dsinks, b.dsinks);
  f("k_cache", a.k_cache, b.k_cache);
  f("v_cache", a.v_cache, b.v_cache);
}

}  // namespace heed::verify
