// mutants.h: the switches that scripts/cuda_mutants.py puts into a copy of the kernels' text, one a mutant:
// HEED_MUTANT names the one that is on, and every test says which it came by. Included before all else in a
// test that is compiled with such a copy, and nowhere else. Not here: which mutants there are.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>

#include "emu/emu_testing.h"

namespace heed::mutants {

inline int ChosenByEnvironment() {
  const char* const number = std::getenv("HEED_MUTANT");
  return number ? std::atoi(number) : -1;
}
inline const int chosen = ChosenByEnvironment();
inline unsigned char met[4096];

template <int n>
[[gnu::always_inline]] inline bool On() {
  met[n] = 1;
  return n == chosen;
}

// A number.
template <int n>
[[gnu::always_inline]] inline int Pick(int as_it_is, int mutated) {
  return On<n>() ? mutated : as_it_is;
}

// a < Comparison<n>{} < b: the left half takes a, the right one compares, with or without equality.
template <int n>
struct Comparison {};
template <int n, class A>
struct Left {
  A a;
};
#define HEED_MUTANT_COMPARISON(op, other)                                    \
  template <int n, class A>                                                  \
  [[gnu::always_inline]] inline Left<n, A> operator op(A a, Comparison<n>) { \
    return {a};                                                              \
  }                                                                          \
  template <int n, class A, class B>                                         \
  [[gnu::always_inline]] inline bool operator op(Left<n, A> left, B b) {     \
    return On<n>() ? left.a other b : left.a op b;                           \
  }
HEED_MUTANT_COMPARISON(<, <=)
HEED_MUTANT_COMPARISON(<=, <)
HEED_MUTANT_COMPARISON(>, >=)
HEED_MUTANT_COMPARISON(>=, >)
#undef HEED_MUTANT_COMPARISON

// a ^ Xor<n>{} ^ b, or their sum.
template <int n>
struct Xor {};
template <int n, class A>
[[gnu::always_inline]] inline Left<n, A> operator^(A a, Xor<n>) {
  return {a};
}
template <int n, class A, class B>
[[gnu::always_inline]] inline auto operator^(Left<n, A> left, B b) {
  return On<n>() ? left.a + b : left.a ^ b;
}

// Behind each test: its name, the milliseconds it took, the numbers of the mutants it came by.
class Report : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override {
    for (unsigned char& x : met) x = 0;
  }
  void OnTestEnd(const testing::TestInfo& test) override {
    std::printf("MET %s.%s %lld", test.test_suite_name(), test.name(),
                static_cast<long long>(test.result()->elapsed_time()));
    for (int n = 0; n < 4096; ++n) {
      if (met[n]) std::printf(" %d", n);
    }
    std::printf("\n");
  }
};
inline const bool reporting = [] {
  if (std::getenv("HEED_MUTANTS_MET")) {
    testing::UnitTest::GetInstance()->listeners().Append(new Report);
  }
  return true;
}();

}  // namespace heed::mutants
