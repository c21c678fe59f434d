// verify/case_paths.cpp: cases by the paths of their files. Not here: what a case is (case_file.cpp),
// running one (conformance.cpp).
#include <algorithm>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <system_error>
#include <utility>

#include "io/safetensors.h"
#include "verify/case_file.h"
#include "verify/conformance.h"

namespace heed::verify {
namespace {

namespace fs = std::filesystem;

CaseResult Failed(std::string name, std::string reason) {
  CaseResult r;
  r.name = std::move(name);
  r.status = CaseStatus::kFail;
  r.reason = std::move(reason);
  return r;
}

}  // namespace

Result<CaseFile> ReadCase(const std::string& path, DType dtype) {
  Result<io::TensorFile> file = io::ReadSafetensors(path);
  if (!file) return file.status();
  return CaseOf(std::move(*file), dtype);
}

CaseResult RunCase(const std::string& path, const RunOptions& options) {
  std::string name = path;
  try {
    name = fs::path(path).stem().string();
    Result<CaseFile> file = ReadCase(path, options.dtype);
    if (!file) return Failed(name, file.status().message());
    if (file->name.empty()) file->name = name;
    return RunCase(*file, options);
  } catch (const std::exception& e) {
    return Failed(name, e.what());
  }
}

Result<std::vector<std::string>> ExpandPaths(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) return Status(StatusCode::kInvalid, path + ": no such file or folder");
    if (!fs::is_directory(status)) {
      files.push_back(path);
      continue;
    }
    const std::size_t before = files.size();
    fs::directory_iterator at(path, error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
      if (at->path().extension() == ".safetensors") files.push_back(at->path().string());
    }
    if (error) return Status(StatusCode::kInvalid, path + ": " + error.message());
    if (files.size() == before) {
      return Status(StatusCode::kInvalid, path + ": the folder holds no .safetensors file");
    }
    std::sort(files.begin() + static_cast<std::ptrdiff_t>(before), files.end());
  }
  return files;
}

}  // namespace heed::verify
