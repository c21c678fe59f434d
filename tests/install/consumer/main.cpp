// The smallest use of an installed heed, in words that C++17 knows too.
#include <heed/heed.h>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  heed::Problem p;
  p.batch = 1;
  p.q_len = p.k_len = 3;
  p.q_heads = p.k_heads = 2;
  p.dim = p.dim_v = 4;
  p.dtype = heed::DType::kF32;
  // Equal keys give equal weights, so every output is the mean of the values: 2.
  std::vector<float> q(3 * 2 * 4, 0.5f), k(q.size(), 1.0f), v(q.size()), o(q.size());
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i / 8 + 1);
  heed::Buffers b;
  b.q = q.data();
  b.k = k.data();
  b.v = v.data();
  b.o = o.data();

  const heed::Result<heed::Plan> plan = heed::MakePlan(p);
  if (!plan.ok()) return std::printf("%s\n", plan.status().message().c_str()), 1;
  const heed::Status status = heed::Forward(p, b);
  if (!status.ok()) return std::printf("%s\n", status.message().c_str()), 1;
  for (float x : o) {
    if (!(std::fabs(x - 2.0f) < 1e-6f)) return std::printf("got %g, expected 2\n", double{x}), 1;
  }
  std::printf("heed %s\n%s", heed::Version(), plan->Describe().c_str());
  return 0;
}
