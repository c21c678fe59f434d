// runner_test.cpp: the conformance runner's own behaviour: wrong expected values are seen, bad
// files end in a sentence, folders are expanded in order.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <string>

#include "io/safetensors.h"
#include "verify/conformance.h"
#include "verify/verify_testing.h"

namespace heed::verify {
namespace {

namespace fs = std::filesystem;

RunOptions Reference(bool backward = true) {
  RunOptions o;
  o.plan.backend = "reference";
  o.backward = backward;
  return o;
}

io::TensorFile Load(const std::string& name) {
  Result<io::TensorFile> file = io::ReadSafetensors(CaseFolder() + "/" + name + ".safetensors");
  EXPECT_TRUE(file.ok()) << file.status().message();
  return *file;
}

io::Tensor* Find(io::TensorFile* file, const std::string& name) {
  for (io::Tensor& tensor : file->tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// Changes a good case and runs it.
CaseResult RunChanged(const std::string& name, const std::function<void(io::TensorFile*)>& change) {
  io::TensorFile file = Load(name);
  change(&file);
  const Result<CaseFile> made = CaseOf(std::move(file), DType::kF32);
  if (made) return RunCase(*made, Reference());
  CaseResult r;
  r.status = CaseStatus::kFail;
  r.reason = made.status().message();
  return r;
}

TEST(Runner, TellsTheWorstTensorItsBoundAndItsPlace) {
  const CaseResult r = RunCase(CaseFolder() + "/plain_d16.safetensors", Reference());
  EXPECT_EQ(r.status, CaseStatus::kPass) << r.reason;
  EXPECT_EQ(r.name, "plain_d16");
  EXPECT_EQ(r.tensors.size(), 5u);
  EXPECT_FALSE(r.tensor.empty());
  EXPECT_GT(r.bound, 0);
  EXPECT_LE(r.max_error, r.bound);
  EXPECT_GE(r.at.size(), 3u);
}

TEST(Runner, SeesEveryWrongExpectedValue) {
  for (const char* tensor : {"out", "lse", "dq", "dk", "dv", "dbias", "dsinks"}) {
    const std::string name = std::string(tensor) == "dsinks" ? "sinks" : "bias_full";
    const CaseResult r = RunChanged(
        name, [&](io::TensorFile* file) { Find(file, tensor)->As<float>()[1] += 0.01f; });
    EXPECT_EQ(r.status, CaseStatus::kFail) << tensor;
    EXPECT_EQ(r.tensor, tensor);
    EXPECT_NE(r.reason.find(tensor), std::string::npos) << r.reason;
  }
}

TEST(Runner, SeesAWrongCache) {
  for (const char* tensor : {"k_cache_after", "v_cache_after"}) {
    const CaseResult nan = RunChanged("cache_append_causal", [&](io::TensorFile* file) {
      Find(file, tensor)->As<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    });
    EXPECT_EQ(nan.status, CaseStatus::kFail) << tensor;
    const CaseResult finite = RunChanged("cache_append_causal", [&](io::TensorFile* file) {
      auto values = Find(file, tensor)->As<float>();
      for (float& x : values) {
        if (x != x) {
          x = 0;
          break;
        }
      }
    });
    EXPECT_EQ(finite.status, CaseStatus::kFail) << tensor;
  }
}

TEST(Runner, ForwardAloneDoesNotLookAtGradients) {
  io::TensorFile file = Load("plain_d16");
  Find(&file, "dq")->As<float>()[0] += 1;
  const Result<CaseFile> made = CaseOf(std::move(file), DType::kF32);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(RunCase(*made, Reference(false)).status, CaseStatus::kPass);
  EXPECT_EQ(RunCase(*made, Reference(true)).status, CaseStatus::kFail);
}

TEST(Runner, ARefusalIsNotAFailure) {
  RunOptions o;
  o.plan.backend = "cpu";
  o.dtype = DType::kF64;
  const CaseResult r = RunCase(CaseFolder() + "/plain_d16.safetensors", o);
  EXPECT_EQ(r.status, CaseStatus::kRefused);
  EXPECT_FALSE(r.reason.empty());
}

TEST(Runner, Float64TensorsAreServedByTheReference) {
  RunOptions o = Reference();
  o.dtype = DType::kF64;
  for (const char* name : {"everything", "plain_d16", "dlse_sinks_softcap", "growing_logits"}) {
    const CaseResult r = RunCase(CaseFolder() + "/" + name + ".safetensors", o);
    EXPECT_EQ(r.status, CaseStatus::kPass) << name << ": " << r.reason;
  }
}

struct Broken {
  const char* what;
  std::function<void(io::TensorFile*)> change;
};

void Remove(io::TensorFile* file, const std::string& name) {
  std::erase_if(file->tensors, [&](const io::Tensor& t) { return t.name == name; });
}

TEST(Runner, FilesThatAreNoCasesFailWithASentence) {
  const Broken broken[] = {
      {"layout", [](auto* f) { f->metadata["layout"] = "HDBS"; }},
      {"layout", [](auto* f) { f->metadata.clear(); }},
      {"causal", [](auto* f) { f->metadata["causal"] = "perhaps"; }},
      {"window", [](auto* f) { f->metadata["window"] = "[1, 2, 3]"; }},
      {"window", [](auto* f) { f->metadata["window"] = "[1,"; }},
      {"window", [](auto* f) { f->metadata["window"] = "[99999999999999999999, 0]"; }},
      {"scale", [](auto* f) { f->metadata["scale"] = "a half"; }},
      {"scale", [](auto* f) { f->metadata["scale"] = "nan"; }},
      {"align", [](auto* f) { f->metadata["align"] = "left"; }},
      {"dropout", [](auto* f) { f->metadata["dropout_p"] = "1.5"; }},
      {"'q'", [](auto* f) { Remove(f, "q"); }},
      {"'v'", [](auto* f) { Remove(f, "v"); }},
      {"'out'", [](auto* f) { Remove(f, "out"); }},
      {"'dout'", [](auto* f) { Remove(f, "dout"); }},
      {"together", [](auto* f) { Remove(f, "dk"); }},
      {"no case has", [](auto* f) { Find(f, "dk")->name = "dkk"; }},
      {"'q'",
       [](auto* f) {
         Find(f, "q")->shape = {2, 17, 32};
       }},
      {"'lse'",
       [](auto* f) {
         Find(f, "lse")->shape = {2, 17, 2};
       }},
      {"belong",
       [](auto* f) {
         Find(f, "k")->shape = {17, 2, 2, 16}, Find(f, "v")->shape = {17, 2, 2, 16};
       }},
      {"too large",
       [](auto* f) {
         Find(f, "q")->shape = {std::int64_t{1} << 40, 0, 2, 16};
       }},
      {"too large",
       [](auto* f) {
         Find(f, "q")->shape = {1 << 19, 1 << 19, 1 << 19, 0};
       }},
  };
  for (const Broken& b : broken) {
    const CaseResult r = RunChanged("plain_d16", b.change);
    EXPECT_EQ(r.status, CaseStatus::kFail) << b.what;
    EXPECT_NE(r.reason.find(b.what), std::string::npos) << b.what << " is not in: " << r.reason;
  }
}

TEST(Runner, IndicesOutOfRangeFailWithASentence) {
  const auto set = [](const char* name, std::size_t at, std::int32_t value) {
    return [=](io::TensorFile* f) { Find(f, name)->template As<std::int32_t>()[at] = value; };
  };
  EXPECT_EQ(RunChanged("varlen_plain", set("cu_seqlens_q", 1, -5)).status, CaseStatus::kFail);
  EXPECT_EQ(RunChanged("varlen_plain", set("cu_seqlens_k", 4, 1000000)).status, CaseStatus::kFail);
  EXPECT_EQ(RunChanged("cache_pages_16", set("block_table", 0, 4000)).status, CaseStatus::kFail);
  EXPECT_EQ(RunChanged("cache_decode", set("cache_seqlens", 0, 44)).status, CaseStatus::kFail);
  EXPECT_EQ(RunChanged("key_lengths_causal", set("key_lengths", 0, -1)).status, CaseStatus::kFail);
}

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::path(testing::TempDir()) /
            ("heed_runner_" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
             "_" + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  void TearDown() override { fs::remove_all(path_); }
  std::string Write(const std::string& name, const std::string& content) {
    const std::string at = (path_ / name).string();
    std::ofstream(at, std::ios::binary) << content;
    return at;
  }
  fs::path path_;
};

TEST_F(Folder, UnreadableFilesFailAndAreNamedByTheFile) {
  for (const std::string& content :
       {std::string(), std::string("12345678"), std::string(200, '\xff')}) {
    const CaseResult r = RunCase(Write("bad.safetensors", content), Reference());
    EXPECT_EQ(r.status, CaseStatus::kFail);
    EXPECT_EQ(r.name, "bad");
    EXPECT_FALSE(r.reason.empty());
  }
  EXPECT_EQ(RunCase((path_ / "absent.safetensors").string(), Reference()).status,
            CaseStatus::kFail);
}

TEST_F(Folder, IsExpandedInOrder) {
  Write("b.safetensors", "");
  Write("a.safetensors", "");
  Write("c.txt", "");
  const std::string single = Write("z.bin", "");
  const auto paths = ExpandPaths({single, path_.string()});
  ASSERT_TRUE(paths.ok()) << paths.status().message();
  ASSERT_EQ(paths->size(), 3u);
  EXPECT_EQ((*paths)[0], single);
  EXPECT_EQ(StemOf((*paths)[1]), "a");
  EXPECT_EQ(StemOf((*paths)[2]), "b");
}

TEST_F(Folder, WithoutCasesOrAbsentIsAnError) {
  EXPECT_FALSE(ExpandPaths({path_.string()}).ok());
  EXPECT_FALSE(ExpandPaths({(path_ / "absent").string()}).ok());
  EXPECT_EQ(ExpandPaths({CaseFolder()})->size(), 69u);
}

}  // namespace
}  // namespace heed::verify
