// backward_far_test.cpp: rows of inputs and gradients more than 2^31 elements behind each other give the
// bits that tensors close together give. Not here: ordinary strides (backward_pairwise_test.cpp).
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "backward_testing.h"
#include "verify/array.h"
#include "verify/layout.h"

namespace heed::testing_backward {
namespace {

using verify::Role;

constexpr std::int64_t kFar = (std::int64_t{1} << 31) + 16, kRows = 3;

// Address space without memory behind it, but for the pages that are touched.
class Sparse {
 public:
  Sparse()
      : map_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (map_ == MAP_FAILED) map_ = nullptr;
  }
  ~Sparse() {
    if (map_) munmap(map_, kBytes);
  }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;
  void* data() { return map_; }

 private:
  static constexpr std::size_t kBytes = ((kRows - 1) * kFar + 1000) * 4;
  void* map_ = nullptr;
};

class BackwardFar : public testing::TestWithParam<Engine> {};

TEST_P(BackwardFar, RowsHaveTheBitsOfRowsCloseTogether) {
  cases::Case c;
  c.problem = {.q_len = kRows,
               .k_len = kRows,
               .q_heads = 2,
               .k_heads = 1,
               .dim = 24,
               .dim_v = 40,
               .causal = true,
               .want_lse = true};
  c.problem.bias = {.given = true, .rows = kRows, .cols = kRows};
  Call call = MakeCall(c, {.dlse = true, .dbias = true});
  const Gradients want = Differentiate(GetParam(), call);
  const Problem close = want.problem;

  Problem far = call.problem;
  for (Strides* s : {&far.q_strides, &far.k_strides, &far.v_strides, &far.o_strides,
                     &far.dout_strides, &far.dq_strides, &far.dk_strides, &far.dv_strides}) {
    s->row = kFar;
  }
  far.bias.stride_row = kFar;
  Sparse q, k, v, o, dout, bias, dq, dk, dv;
  for (Sparse* s : {&q, &k, &v, &o, &dout, &bias, &dq, &dk, &dv}) {
    if (!s->data()) GTEST_SKIP() << "no address space of 17 GB per tensor";
  }
  const Buffers near = call.Inputs();
  const auto copy = [&](Role role, const void* from, const Problem& to_problem, void* to) {
    const verify::View a = verify::ViewOf(close, role), b = verify::ViewOf(to_problem, role);
    for (std::int64_t n = 0; n < verify::CountOf(a.shape); ++n) {
      verify::Store(to, b.type, verify::OffsetOf(b, n),
                    verify::Load(from, a.type, verify::OffsetOf(a, n)));
    }
  };
  copy(Role::kQ, near.q, far, q.data());
  copy(Role::kK, near.k, far, k.data());
  copy(Role::kV, near.v, far, v.data());
  copy(Role::kO, want.o.view().data, far, o.data());
  copy(Role::kDout, near.dout, far, dout.data());
  copy(Role::kBias, near.bias, far, bias.data());
  std::vector<float> lse, dbias(kRows * kRows, 77);
  for (const double x : want.lse.Values().values) lse.push_back(static_cast<float>(x));
  Buffers b{.q = q.data(),
            .k = k.data(),
            .v = v.data(),
            .o = o.data(),
            .lse = lse.data(),
            .bias = bias.data()};
  b.dout = dout.data();
  b.dlse = near.dlse;
  b.dq = dq.data();
  b.dk = dk.data();
  b.dv = dv.data();
  b.dbias = dbias.data();
  const Status status =
      Backward(far, b, {.backend = GetParam().backend, .isa = GetParam().isa, .threads = 1});
  ASSERT_TRUE(status.ok()) << status.message();
  const auto same = [&](Role role, const verify::Guarded& expected, const void* data) {
    const verify::Array got = verify::Gather(verify::ViewOf(far, role, data));
    ExpectSameBits(expected.Values().values, got.values, verify::Name(role));
  };
  same(Role::kDq, want.dq, dq.data());
  same(Role::kDk, want.dk, dk.data());
  same(Role::kDv, want.dv, dv.data());
  same(Role::kDbias, want.dbias, dbias.data());
}

INSTANTIATE_TEST_SUITE_P(Engines, BackwardFar, testing::ValuesIn(Engines()),
                         [](const auto& test) { return test.param.name(); });

}  // namespace
}  // namespace heed::testing_backward
