// verify/plain.cpp: see plain.h. One text at two precisions. Rows one after the other, every
// visible key in order, no tiles.
#include "verify/plain.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "verify/formula.h"
#include "verify/layout.h"

namespace heed::verify {
namespace {

// Beyond this f32 cannot hold log l beside m in one lse: the backward uses m and l themselves.
constexpr double kLargeLse = 4096;

template <class Real>
class Program {
 public:
  // rounding: what p, ds (if round_p) and the results are rounded to; nullopt: nothing is.
  Program(const Call& call, std::optional<DType> rounding, bool round_p)
      : call_(call),
        p_(call.problem),
        rounding_(rounding),
        round_p_(round_p),
        q_(Narrow(call.q)),
        k_(Narrow(call.k)),
        v_(Narrow(call.v)),
        dout_(Narrow(call.dout)) {}

  Results Run() {
    MakeResults();
    for (const Sequence& s : call_.sequences) {
      for (std::int64_t h = 0; h < p_.q_heads; ++h) {
        for (std::int64_t i = 0; i < s.sq; ++i) RunRow(s, h, i);
      }
    }
    Finish();
    return std::move(r_);
  }

 private:
  using Index = std::int64_t;
  using Vector = std::vector<Real>;

  struct Key {
    Index j = 0;
    Real s = 0, tanh = 0, p = 0;
    bool keep = true;
  };

  static Vector Narrow(const Array& a) { return Vector(a.values.begin(), a.values.end()); }

  Real Rounded(Real x) const {
    return rounding_ && round_p_ ? static_cast<Real>(RoundTo(*rounding_, x)) : x;
  }

  const Real* Row(const Vector& t, Index row, Index heads, Index head, Index width) const {
    return t.data() + (row * heads + head) * width;
  }
  static Real Dot(const Real* a, const Real* b, Index n) {
    Real sum = 0;
    for (Index d = 0; d < n; ++d) sum += a[d] * b[d];
    return sum;
  }
  static void Add(Real factor, const Real* x, Index n, Real* sum) {
    for (Index d = 0; d < n; ++d) sum[d] += factor * x[d];
  }

  void MakeResults() {
    r_.o = Zeros(ViewOf(p_, Role::kO).shape);
    r_.lse = Zeros(ViewOf(p_, Role::kLse).shape);
    if (p_.want_probs) r_.probs = Zeros(ViewOf(p_, Role::kProbs).shape);
    if (p_.cache.given) {
      r_.k_cache = call_.k_cache;
      r_.v_cache = call_.v_cache;
    }
    if (p_.op != Op::kBackward) return;
    r_.dq = Zeros(ViewOf(p_, Role::kDq).shape);
    dk_.assign(k_.size(), 0);
    dv_.assign(v_.size(), 0);
    if (p_.want_dbias)
      dbias_.assign(static_cast<std::size_t>(CountOf(ViewOf(p_, Role::kDbias).shape)), 0);
    if (p_.want_dsinks) dsinks_.assign(static_cast<std::size_t>(p_.q_heads), 0);
  }

  // The scores of the visible keys.
  void Scores(const Sequence& s, Index h, Index i) {
    keys_.clear();
    const Real* q = Row(q_, s.q_first + i, p_.q_heads, h, p_.dim);
    for (Index j = 0; j < s.sk; ++j) {
      if (!Visible(call_, s, h, i, j)) continue;
      const Real* k = Row(k_, s.k_first + j, p_.k_heads, h / call_.group(), p_.dim);
      const Score<Real> x = ScoreOf<Real>(call_, s, h, i, j, Dot(q, k, p_.dim));
      const bool keep = p_.dropout_p <= 0 || Keep(p_, s.index, h, i, j);
      keys_.push_back({j, x.s, x.tanh, 0, keep});
    }
  }

  void RunRow(const Sequence& s, Index h, Index i) {
    Scores(s, h, i);
    constexpr Real kInfinity = std::numeric_limits<Real>::infinity();
    Real m = p_.sinks ? static_cast<Real>(call_.buffers.sinks[h]) : -kInfinity;
    bool finite = true;
    for (const Key& key : keys_) {
      finite = finite && key.s < kInfinity;  // NaN and +infinity fail
      m = std::max(m, key.s);
    }
    o_.assign(static_cast<std::size_t>(p_.dim_v), 0);
    Real* o = o_.data();
    Real lse = -kInfinity, l = 0;
    if (!finite) {
      std::fill_n(o, p_.dim_v, std::numeric_limits<Real>::quiet_NaN());
      lse = std::numeric_limits<Real>::quiet_NaN();
    } else if (m > -kInfinity) {
      l = p_.sinks ? std::exp(static_cast<Real>(call_.buffers.sinks[h]) - m) : 0;
      for (Key& key : keys_) l += key.p = std::exp(key.s - m);
      Product(s, h, 1 / (l * KeptShare()), o);
      lse = m + std::log(l);
    }
    for (Index d = 0; d < p_.dim_v; ++d) {
      o[d] = rounding_ ? static_cast<Real>(RoundTo(OutDType(p_), o[d])) : o[d];
      r_.o[((s.q_first + i) * p_.q_heads + h) * p_.dim_v + d] = o[d];
    }
    r_.lse[call_.LseIndex(s, h, i)] = lse;
    if (p_.want_probs) Probabilities(s, h, i, std::isnan(lse) ? lse : l);
    if (p_.op == Op::kBackward) BackwardRow(s, h, i, m, l, lse);
  }

  Real KeptShare() const { return static_cast<Real>(1 - p_.dropout_p); }

  void Product(const Sequence& s, Index h, Real factor, Real* o) {
    for (const Key& key : keys_) {
      if (!key.keep || key.s == -std::numeric_limits<Real>::infinity()) continue;
      Add(Rounded(key.p), Row(v_, s.k_first + key.j, p_.k_heads, h / call_.group(), p_.dim_v),
          p_.dim_v, o);
    }
    for (Index d = 0; d < p_.dim_v; ++d) o[d] *= factor;
  }

  // Of a dead row l is 0 and p is 0 already; of a row that is not finite l is NaN.
  void Probabilities(const Sequence& s, Index h, Index i, Real l) {
    const Index first = ((s.index * p_.q_heads + h) * p_.q_len + i) * p_.k_len;
    for (const Key& key : keys_) {
      const Real p = l == 0 ? 0 : key.p / l;
      const double rounded = rounding_ ? RoundTo(OutDType(p_), p) : p;
      r_.probs[first + key.j] = key.keep ? rounded : -rounded;
    }
  }

  // p from lse as a backward pass has it, or from m and l where lse cannot hold both.
  void Recompute(Real m, Real l, Real lse) {
    const bool from_lse = std::fabs(lse) <= kLargeLse;
    for (Key& key : keys_) key.p = from_lse ? std::exp(key.s - lse) : std::exp(key.s - m) / l;
  }

  void BackwardRow(const Sequence& s, Index h, Index i, Real m, Real l, Real lse) {
    if (lse == -std::numeric_limits<Real>::infinity()) return;
    const Index hk = h / call_.group(), row = s.q_first + i;
    const Real* q = Row(q_, row, p_.q_heads, h, p_.dim);
    const Real* dout = Row(dout_, row, p_.q_heads, h, p_.dim_v);
    const Real dlse = p_.dlse ? static_cast<Real>(call_.buffers.dlse[call_.LseIndex(s, h, i)]) : 0;
    const Real delta = Dot(o_.data(), dout, p_.dim_v);
    const Real unkept = 1 / KeptShare();
    Recompute(m, l, lse);
    Vector dq(static_cast<std::size_t>(p_.dim), 0);
    for (const Key& key : keys_) {
      if (key.s == -std::numeric_limits<Real>::infinity()) continue;
      const Index key_row = s.k_first + key.j;
      const Real* k = Row(k_, key_row, p_.k_heads, hk, p_.dim);
      const Real* v = Row(v_, key_row, p_.k_heads, hk, p_.dim_v);
      if (key.keep) {
        Add(Rounded(key.p) * unkept, dout, p_.dim_v, &dv_[At(key_row, hk, p_.dim_v)]);
      }
      const Real dp = key.keep ? Dot(dout, v, p_.dim_v) * unkept : 0;
      Real ds = key.p * (dp - delta + dlse);
      if (p_.want_dbias) {
        dbias_[static_cast<std::size_t>(Spread(ViewOfDbias(), s.index, h, i, key.j))] += ds;
      }
      if (p_.softcap > 0) ds *= 1 - key.tanh * key.tanh;
      const Real rounded = Rounded(ds);
      Add(rounded, k, p_.dim, dq.data());
      Add(rounded, q, p_.dim, &dk_[At(key_row, hk, p_.dim)]);
    }
    for (Index d = 0; d < p_.dim; ++d) {
      r_.dq[(row * p_.q_heads + h) * p_.dim + d] =
          RoundedGrad(dq[static_cast<std::size_t>(d)] * Scale());
    }
    if (p_.want_dsinks) {
      const Real sink = static_cast<Real>(call_.buffers.sinks[h]);
      dsinks_[static_cast<std::size_t>(h)] += std::exp(sink - lse) * (dlse - delta);
    }
  }

  Real Scale() const { return static_cast<Real>(*p_.scale); }
  double RoundedGrad(Real x) const { return rounding_ ? RoundTo(GradDType(p_), x) : x; }
  std::size_t At(Index row, Index head, Index width) const {
    return static_cast<std::size_t>((row * p_.k_heads + head) * width);
  }
  const View& ViewOfDbias() {
    if (dbias_view_.shape.empty()) dbias_view_ = ViewOf(p_, Role::kDbias);
    return dbias_view_;
  }

  void Finish() {
    if (p_.op != Op::kBackward) return;
    r_.dk = Zeros(ViewOf(p_, Role::kDk).shape);
    r_.dv = Zeros(ViewOf(p_, Role::kDv).shape);
    for (std::size_t n = 0; n < dk_.size(); ++n) r_.dk.values[n] = RoundedGrad(dk_[n] * Scale());
    for (std::size_t n = 0; n < dv_.size(); ++n) r_.dv.values[n] = RoundedGrad(dv_[n]);
    if (p_.want_dbias) {
      r_.dbias = Zeros(ViewOf(p_, Role::kDbias).shape);
      const DType type = ViewOf(p_, Role::kDbias).type;
      for (std::size_t n = 0; n < dbias_.size(); ++n) {
        r_.dbias.values[n] = rounding_ ? RoundTo(type, dbias_[n]) : dbias_[n];
      }
    }
    if (p_.want_dsinks) {
      r_.dsinks = Zeros({p_.q_heads});
      r_.dsinks.values.assign(dsinks_.begin(), dsinks_.end());
    }
  }

  const Call& call_;
  const Problem& p_;
  std::optional<DType> rounding_;
  bool round_p_;
  Vector q_, k_, v_, dout_;
  Vector o_, dk_, dv_, dbias_, dsinks_;
  View dbias_view_;
  std::vector<Key> keys_;
  Results r_;
};

}  // namespace

Results Truth(const Call& call) { return Program<double>(call, std::nullopt, false).Run(); }

Results Truth(const Problem& problem, const Buffers& buffers) {
  return Truth(MakeCall(problem, buffers, std::nullopt));
}

Results Plain(const Problem& problem, const Buffers& buffers, bool round_p) {
  const Call call = MakeCall(problem, buffers, problem.dtype);
  if (problem.dtype == DType::kF64) return Truth(call);
  return Program<float>(call, problem.dtype, round_p).Run();
}

}  // namespace heed::verify
