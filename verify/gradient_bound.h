// verify/gradient_bound.h: how far the gradients may be off in floating point: the rows' bounds
// carried through the backward. Not here: the rows (row_bound.h).
#pragma once

#include <cstdint>
#include <vector>

#include "verify/plain.h"
#include "verify/row_bound.h"

namespace heed::verify {

/// Collects row after row, then gives the bounds of dq, dk, dv, dbias, dsinks.
class GradientBound {
 public:
  GradientBound(const Call& call, const Arithmetic& arithmetic);

  void AddRow(const Sequence& s, std::int64_t h, std::int64_t i, const RowBound& row);
  void Finish(Results* bounds);

 private:
  // A sum over pairs: what its terms may be off, their magnitude, and how many there are.
  struct Sum {
    std::vector<double> error, mass;
    void Resize(std::int64_t n);
    void Add(std::int64_t at, double term_error, double term) {
      error[static_cast<std::size_t>(at)] += term_error;
      mass[static_cast<std::size_t>(at)] += term;
    }
    Array Bound(std::vector<std::int64_t> shape, const std::vector<double>& terms, double u,
                double flush, double factor) const;
  };

  const Call& call_;
  const Problem& p_;
  const Arithmetic& a_;
  View dbias_view_;
  Array dq_;
  Sum dk_, dv_, dbias_, dsinks_;
  std::vector<double> key_terms_, dbias_terms_,
      dsinks_terms_;           // per (key row, kv head); per element
  std::vector<bool> unknown_;  // per (b, kv head): anything may come out
};

}  // namespace heed::verify
