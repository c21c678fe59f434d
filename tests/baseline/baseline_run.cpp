// baseline_run: one small attention on whatever machine this is, checked against four lines of
// arithmetic. Run under an emulator without AVX it proves that the library starts and computes there.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "heed/heed.h"

namespace {

constexpr int kRows = 5, kKeys = 7, kDim = 8;

float At(int i, int d, int salt) {
  return std::sin(static_cast<float>(i * kDim + d + salt) * 0.7f);
}

double Expected(const std::vector<float>& q, const std::vector<float>& k,
                const std::vector<float>& v, int i, int d) {
  double sum = 0, out = 0;
  for (int j = 0; j < kKeys; ++j) {
    double s = 0;
    for (int e = 0; e < kDim; ++e) s += double{q[i * kDim + e]} * double{k[j * kDim + e]};
    const double p = std::exp(s / std::sqrt(double{kDim}));
    sum += p;
    out += p * double{v[j * kDim + d]};
  }
  return out / sum;
}

}  // namespace

int main() {
  std::vector<float> q(kRows * kDim), k(kKeys * kDim), v(kKeys * kDim), o(kRows * kDim);
  for (int i = 0; i < kKeys; ++i) {
    for (int d = 0; d < kDim; ++d) {
      if (i < kRows) q[i * kDim + d] = At(i, d, 1);
      k[i * kDim + d] = At(i, d, 2);
      v[i * kDim + d] = At(i, d, 3);
    }
  }
  heed::Problem p;
  p.batch = p.q_heads = p.k_heads = 1;
  p.q_len = kRows;
  p.k_len = kKeys;
  p.dim = p.dim_v = kDim;
  p.dtype = heed::DType::kF32;
  heed::Buffers b;
  b.q = q.data();
  b.k = k.data();
  b.v = v.data();
  b.o = o.data();

  const heed::Result<heed::Plan> plan = heed::MakePlan(p);
  if (!plan.ok()) return std::printf("refused: %s\n", plan.status().message().c_str()), 1;
  if (const heed::Status s = heed::Forward(p, b); !s.ok())
    return std::printf("%s\n", s.message().c_str()), 1;
  double worst = 0;
  for (int i = 0; i < kRows; ++i) {
    for (int d = 0; d < kDim; ++d) {
      const double error = std::fabs(Expected(q, k, v, i, d) - double{o[i * kDim + d]});
      if (!(error <= worst)) worst = error;
    }
  }
  std::printf("isa %s, worst error %g\n", plan->Info().isa.c_str(), worst);
  // Seven products of values below 1 in f32: a few 1e-7. An emulated baseline machine has no AVX.
  return plan->Info().isa == "scalar" && worst < 1e-5 ? 0 : 1;
}
