// locality_probe.cpp: the term that docs/adding-a-term.md adds, against a bias of the same values, on
// every backend and instruction set there is. Built by adding_a_term_test.py alone.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "heed/heed.h"

namespace {

constexpr int kQueries = 70, kKeys = 100, kDim = 24;
constexpr double kLocality = 0.003;

std::vector<float> Waves(int n, double step) {
  std::vector<float> out(n);
  for (int i = 0; i < n; i++) out[i] = static_cast<float>(std::sin(step * i));
  return out;
}

double Failed(const heed::Status& status) {
  std::printf("%s\n", status.message().c_str());
  return -1;
}

// The largest difference between the term and the bias; negative: a call failed.
double Difference(const std::string& backend, const std::string& isa) {
  const auto q = Waves(kQueries * kDim, 0.7), k = Waves(kKeys * kDim, 1.3),
             v = Waves(kKeys * kDim, 0.011);
  std::vector<float> bias(kQueries * kKeys), with_term(kQueries * kDim), with_bias(kQueries * kDim);
  for (int i = 0; i < kQueries; i++)
    for (int j = 0; j < kKeys; j++) {
      const double distance = i + kKeys - kQueries - j;
      bias[i * kKeys + j] = static_cast<float>(-kLocality * distance * distance);
    }
  heed::Problem p;
  p.q_len = kQueries;
  p.k_len = kKeys;
  p.dim = kDim;
  heed::PlanOptions options;
  options.backend = backend;
  options.isa = isa;
  heed::Buffers b;
  b.q = q.data();
  b.k = k.data();
  b.v = v.data();
  b.o = with_term.data();
  p.locality = kLocality;
  if (const heed::Status s = heed::Forward(p, b, options); !s) return Failed(s);
  p.locality = 0;
  p.bias.given = true;
  p.bias.rows = kQueries;
  p.bias.cols = kKeys;
  b.bias = bias.data();
  b.o = with_bias.data();
  if (const heed::Status s = heed::Forward(p, b, options); !s) return Failed(s);
  double most = 0, size = 0;
  for (std::size_t n = 0; n < with_term.size(); n++) {
    most = std::fmax(most, std::fabs(with_term[n] - with_bias[n]));
    size = std::fmax(size, std::fabs(with_bias[n]));
  }
  return size > 1e-3 ? most : -1;  // zeros would agree with anything
}

}  // namespace

int main() {
  int wrong = 0;
  const auto check = [&](const std::string& backend, const std::string& isa) {
    const double difference = Difference(backend, isa);
    std::printf("%s %s: %g\n", backend.c_str(), isa.c_str(), difference);
    if (!(difference >= 0 && difference < 1e-5)) wrong++;
  };
  for (const heed::BackendInfo& backend : heed::Backends()) {
    if (!backend.available) continue;
    if (backend.isas.empty()) check(backend.name, "auto");
    for (const heed::IsaInfo& isa : backend.isas)
      if (isa.usable) check(backend.name, isa.name);
  }
  heed::Problem p;
  p.q_len = p.k_len = p.dim = 1;
  p.locality = -1;
  const heed::Status refused = heed::Validate(p);
  std::printf("%s\n", refused.message().c_str());
  if (refused || refused.message().find("locality is -1") == std::string::npos) wrong++;
  return wrong;
}
