#include <heed/heed.h>

#include <iostream>
#include <vector>

int main() {
  const heed::Problem p{.batch = 1, .q_len = 512, .k_len = 512, .q_heads = 8, .k_heads = 2, .dim = 64,
                        .dtype = heed::DType::kF32, .causal = true, .want_lse = true};
  std::vector<float> q(1 * 512 * 8 * 64, 0.1f), k(1 * 512 * 2 * 64, 0.2f), v(k.size(), 1.0f);
  std::vector<float> o(q.size()), lse(1 * 8 * 512);

  heed::Status s = heed::Forward(p, {.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data(), .lse = lse.data()});
  if (!s) return std::cerr << s.message() << '\n', 1;  // a sentence, never an abort

  heed::Result<heed::Plan> plan = heed::MakePlan(p);  // or: plan once, run often
  if (!plan) return std::cerr << plan.status().message() << '\n', 1;
  std::cout << plan->Describe();  // what `heed explain` prints
  std::vector<std::byte> workspace(static_cast<std::size_t>(plan->workspace_bytes()));
  s = heed::Run(*plan, {.q = q.data(), .k = k.data(), .v = v.data(), .o = o.data(), .lse = lse.data(), .workspace = workspace});
  std::cout << "o[0] = " << o[0] << ", lse[0] = " << lse[0] << '\n';
  return s ? 0 : 1;
}
