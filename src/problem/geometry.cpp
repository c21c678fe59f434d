// geometry.cpp: CountPairs, CountTiles, CountWork. Not here: words about them (describe.cpp).
#include "problem/geometry.h"

#include <algorithm>

#include "problem/layout.h"
#include "problem/normal.h"
#include "problem/schedule.h"

namespace heed {
namespace {

double Real(std::int64_t n) { return static_cast<double>(n); }

// Sum of Clamp(first + i, low, high) over i in [0, n).
double SumClamped(std::int64_t first, std::int64_t n, std::int64_t low, std::int64_t high) {
  const std::int64_t below = Clamp(low - first, 0, n);
  const std::int64_t inside = Clamp(high - first, below, n) - below;
  return Real(below) * Real(low) + Real(inside) * Real(first + below) +
         Real(inside) * Real(inside - 1) / 2 + Real(n - below - inside) * Real(high);
}

// The bands of n rows that stand at `at` and behind, none outside the keys [low, high). As every
// band holds its own `at` before it is clamped, its size is the difference of its clamped ends.
double SumBands(const Visibility& v, std::int64_t at, std::int64_t n, std::int64_t low,
                std::int64_t high) {
  const double ends =
      v.right >= 0 ? SumClamped(at + v.right + 1, n, low, high) : Real(n) * Real(high);
  const double begins = v.left >= 0 ? SumClamped(at - v.left, n, low, high) : Real(n) * Real(low);
  return ends - begins;
}

// Tiles of `keys` keys that lie within [from, to) of sk keys; the last tile may be partial.
Interval TilesWithin(std::int64_t from, std::int64_t to, std::int64_t sk, std::int64_t keys) {
  return {CeilDiv(from, keys), to == sk ? CeilDiv(sk, keys) : to / keys};
}
Interval TilesMeeting(Interval range, std::int64_t keys) {
  if (range.empty()) return {0, 0};
  return {range.first / keys, CeilDiv(range.last, keys)};
}
std::int64_t SizeOfUnion(Interval a, Interval b) {
  const Interval both = {Max(a.first, b.first), Min(a.last, b.last)};
  return a.size() + b.size() - (a.empty() || b.empty() ? 0 : both.size());
}

}  // namespace

double CountPairs(const Visibility& v) {
  const std::int64_t prefix = PrefixKeys(v).last;
  double pairs = Real(prefix) * Real(v.sq);
  if (v.chunk == 0) return pairs + SumBands(v, v.shift, v.sq, prefix, v.sk);
  for (std::int64_t i = 0; i < v.sq;) {
    const std::int64_t at = i + v.shift, c = FloorDiv(at, v.chunk) * v.chunk;
    const std::int64_t n = Min(c + v.chunk - at, v.sq - i);
    pairs += SumBands(v, at, n, Clamp(c, prefix, v.sk), Clamp(c + v.chunk, prefix, v.sk));
    i += n;
  }
  return pairs;
}

TileCounts CountTiles(const Visibility& v, std::int64_t rows, std::int64_t keys) {
  TileCounts counts;
  const Interval prefix = PrefixKeys(v);
  const std::int64_t across = CeilDiv(v.sk, keys);
  for (std::int64_t i = 0; i < v.sq; i += rows) {
    const Interval low = Band(v, i), high = Band(v, Min(i + rows, v.sq) - 1);
    // Seen by all rows: the prefix, and [high.first, low.last), which may continue it.
    Interval all = TilesWithin(0, prefix.last, v.sk, keys), more = {0, 0};
    if (high.first < low.last) {
      if (high.first == prefix.last) {
        all = TilesWithin(0, low.last, v.sk, keys);
      } else {
        more = TilesWithin(high.first, low.last, v.sk, keys);
      }
    }
    const std::int64_t full = SizeOfUnion(all, more);
    const std::int64_t some =
        SizeOfUnion(TilesMeeting(prefix, keys), TilesMeeting({low.first, high.last}, keys));
    counts.full += Real(full);
    counts.edge += Real(some - full);
    counts.empty += Real(across - some);
  }
  return counts;
}

namespace {

// `count` entries of the same lengths.
void AddEntries(const Problem& p, std::int64_t count, std::int64_t sq, std::int64_t sk,
                std::int64_t tile_rows, std::int64_t tile_keys, Work* work) {
  if (count <= 0) return;
  const Visibility v = VisibilityOf(p, sq, sk, p.query_offset.value_or(0));
  const double heads = Real(count) * Real(p.q_heads);
  const TileCounts tiles = CountTiles(v, tile_rows, tile_keys);
  work->tiles.full += heads * tiles.full;
  work->tiles.edge += heads * tiles.edge;
  work->tiles.empty += heads * tiles.empty;
  work->pairs += heads * CountPairs(v);
  work->dense_pairs += heads * Real(sq) * Real(sk);
}

double Elements(const Sequence& s) {
  return Real(s.batch) * Real(s.rows) * Real(s.heads) * Real(s.width);
}
double Elements(const Broadcast& t) {
  return Real(t.batch) * Real(t.heads) * Real(t.rows) * Real(t.cols);
}

void AddBytes(const Problem& p, Work* work) {
  double& read = work->bytes_read;
  double& written = work->bytes_written;
  ForEachSequence(p, [&](Sequence s) {
    const double element = Real(SizeOf(s.dtype));
    const bool cache = s.id == TensorId::kKCache || s.id == TensorId::kVCache;
    if (cache) {
      // Of a cache the rows in use, which are all that an entry may fill; written are the new ones.
      s.batch = p.batch;
      s.rows = p.cache.new_len;
      written += Elements(s) * element;
      s.rows = p.k_len;
    }
    const bool adds = s.written && !cache && p.accumulate;
    if (!s.written || cache || adds) read += Elements(s) * element;
    if (s.written && !cache) written += Elements(s) * element;
    return true;
  });
  ForEachBroadcast(p, [&](const BroadcastUse& use) {
    read += Elements(p.*use.tensor) * Real(use.bytes);
    return true;
  });
  const double rows =
      Real(p.q_heads) * (p.ragged ? Real(p.total_q) : Real(p.batch) * Real(p.q_len));
  if (p.op == Op::kBackward) {
    read += rows * 4 * (p.dlse ? 2 : 1);
    if (p.want_dbias) {
      const double bias = Elements(p.bias) * Real(SizeOf(p.f32_grads ? DType::kF32 : p.bias_dtype));
      written += bias;
      if (p.accumulate) read += bias;
    }
  } else {
    if (p.want_lse) written += rows * 4;
    if (p.want_probs) {
      written += Real(p.batch) * Real(p.q_heads) * Real(p.q_len) * Real(p.k_len) *
                 Real(SizeOf(*p.out_dtype));
    }
  }
}

}  // namespace

double FlopsPerPair(const Problem& p) {
  const double d = Real(p.dim), dv = Real(p.dim_v);
  return p.op == Op::kBackward ? 6 * d + 4 * dv : 2 * (d + dv);
}

Work CountWork(const Problem& p, std::int64_t tile_rows, std::int64_t tile_keys) {
  Work work;
  if (p.ragged && p.batch > 0) {
    // Lengths of total / batch, one more for the first total % batch of them.
    const std::int64_t sq = p.total_q / p.batch, sk = p.total_k / p.batch;
    const std::int64_t more_q = p.total_q % p.batch, more_k = p.total_k % p.batch;
    const std::int64_t both = Min(more_q, more_k), either = Max(more_q, more_k);
    AddEntries(p, both, sq + 1, sk + 1, tile_rows, tile_keys, &work);
    AddEntries(p, either - both, sq + (more_q > more_k), sk + (more_k > more_q), tile_rows,
               tile_keys, &work);
    AddEntries(p, p.batch - either, sq, sk, tile_rows, tile_keys, &work);
  } else {
    AddEntries(p, p.batch, p.q_len, p.k_len, tile_rows, tile_keys, &work);
  }
  AddBytes(p, &work);

  work.flops = work.pairs * FlopsPerPair(p);
  work.dense_flops = work.dense_pairs * FlopsPerPair(p);
  // The standard way keeps S x S matrices of f32 in memory, whatever is masked. Forward: S written
  // by QK', read by the softmax, P written by it, read by PV. Backward, with P kept: P read for dV,
  // dP written, P and dP read for dS, dS written, dS read for dQ and for dK.
  const double passes = p.op == Op::kBackward ? 7 : 4;
  work.bytes_standard = work.bytes_read + work.bytes_written + passes * 4 * work.dense_pairs;
  return work;
}

}  // namespace heed
