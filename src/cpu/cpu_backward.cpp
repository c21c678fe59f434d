// cpu_backward.cpp: see cpu_backward.h.
#include "cpu/cpu_backward.h"

#include <cmath>
#include <cstring>

#include "cpu/backward_call.h"
#include "cpu/cpu_call.h"
#include "cpu/entry.h"
#include "cpu/threads.h"
#include "problem/normal.h"

namespace heed::cpu {
namespace {

// Contiguous, in the bias' shape.
Spread PackedSpread(const Broadcast& t, void* data) {
  const auto step = [](std::int64_t size, std::int64_t inner) { return size > 1 ? inner : 0; };
  return {data, step(t.batch, t.heads * t.rows * t.cols), step(t.heads, t.rows * t.cols),
          step(t.rows, t.cols), step(t.cols, 1)};
}
std::int64_t Elements(const Broadcast& t) { return t.batch * t.heads * t.rows * t.cols; }

// Whether the sums of a bias' gradient take more than one head or entry in.
bool SumsAcross(const Problem& p) {
  return p.want_dbias && (p.bias.batch < p.batch || p.bias.heads < p.q_heads);
}

BiasGradient BiasOf(const Problem& p) {
  using Kind = BiasGradient::Kind;
  BiasGradient g;
  if (!p.want_dbias) return g;
  g.kind = p.bias.cols == 1 ? Kind::kQueries : p.bias.rows == 1 ? Kind::kKeys : Kind::kPairs;
  g.f32 = p.f32_grads || p.bias_dtype == DType::kF32;
  g.direct = g.kind == Kind::kPairs && !SumsAcross(p);
  g.add = p.accumulate;
  g.to = PackedSpread(p.bias, nullptr);
  return g;
}

// Whether sums of the bias' gradient are kept apart from the result: where that has 16 bits, or holds
// something already.
bool KeepsBiasSums(const Problem& p, const BiasGradient& g) {
  if (g.kind == BiasGradient::Kind::kNone || g.direct) return false;
  return !g.f32 || p.accumulate;
}

// Where every part of the workspace lies.
struct Layout {
  std::int64_t each = 0;  // of a thread
  std::int64_t facts = 0, packed = 0, dq_parts = 0, key_sums = 0, touched = 0, bias_parts = 0,
               bias_sums = 0, sink_sums = 0, kinds = 0, bytes = 0;
};

std::int64_t Units(const Problem& p) { return p.batch * p.k_heads; }

// Partial sums of dq of one head.
std::int64_t HeadBytes(const BackwardCall& c) {
  return c.parts * c.rows * c.dq_step * std::int64_t{4};
}
// What partial sums of dq may take where fewer would do: then they are found in the outer caches.
constexpr std::int64_t kFlightBytes = std::int64_t{2} << 20;

// Heads of a group in flight: all, or one where that takes less memory, the sums that wait included. Sums
// across heads are made in the order of units and heads, whatever a wave holds, so there it is all.
std::int64_t HeadsInFlight(const Problem& p, const BackwardCall& c) {
  const std::int64_t all = c.in.group * HeadBytes(c), waiting = p.k_len * (p.dim + p.dim_v) * 4;
  return SumsAcross(p) || all <= Max(kFlightBytes, HeadBytes(c) + waiting) ? c.in.group : 1;
}

// Enough units for all threads to finish a wave together, and for a wave not to be over at once.
std::int64_t WaveUnits(const Problem& p, const BackwardCall& c, int threads) {
  constexpr std::int64_t kItemsPerThread = 16;
  const std::int64_t most = threads > 1 ? CeilDiv(kItemsPerThread * threads, Max(1, c.parts)) : 1;
  return Clamp(Max(most, kFlightBytes / Max(1, c.heads * HeadBytes(c))), 1, Max(1, Units(p)));
}

BackwardCall CallOf(const Problem& p, const Kernels& kernels, const BackwardKernels& backward,
                    int threads) {
  BackwardCall c;
  c.in = heed::cpu::CallOf(p, kernels);
  c.in.packed = false;
  c.in.split = {};
  c.dout_steps = StepsOf(p.dout_strides);
  c.dq_steps = StepsOf(p.dq_strides);
  c.dk_steps = StepsOf(p.dk_strides);
  c.dv_steps = StepsOf(p.dv_strides);
  c.grads_f32 = p.f32_grads;
  c.accumulate = p.accumulate;
  c.k_heads = p.k_heads;
  c.rows_k = p.k_len;
  c.dbias = BiasOf(p);
  c.blocks = backward.blocks(c.in.dim, c.in.dim_v);
  c.key_step = backward.key_step;
  Visibility longest = c.in.rule;
  longest.sq = p.q_len;
  longest.sk = p.k_len;
  const KeyCut cut = CutOf(c, longest);
  c.parts = Max(1, cut.parts);
  c.packs_ahead = cut.blocks > 1 && !cut.adjacent;
  c.tile_rows = kernels.tile_rows;
  c.rows = CeilDiv(p.q_len, kernels.tile_rows) * kernels.tile_rows;
  c.dq_step = kernels.sum_step(c.in.dim);
  c.heads = HeadsInFlight(p, c);
  c.wave = WaveUnits(p, c, threads);
  if (c.heads < c.in.group) c.key_blocks = MostBlocks(p.k_len, c.blocks.keys);
  const bool summed = c.dbias.kind == BiasGradient::Kind::kKeys ||
                      (c.dbias.kind == BiasGradient::Kind::kPairs && !c.dbias.direct);
  c.chains_batch = summed && p.bias.batch < p.batch;
  c.chains_heads = summed && p.bias.heads < p.q_heads;
  c.chains_parts = c.chains_batch && (p.ragged || p.key_lengths) && c.parts > 1;
  return c;
}

Layout LayOut(const Problem& p, const BackwardCall& c, const BackwardKernels& backward,
              int threads) {
  constexpr std::int64_t kFloat = sizeof(float);
  Layout w;
  w.each = AlignUp(backward.workspace(c));
  std::int64_t at = threads * w.each;
  const auto take = [&at](std::int64_t floats) {
    const std::int64_t here = at;
    at += AlignUp(floats * kFloat);
    return here;
  };
  const std::int64_t heads = c.wave * c.heads;
  w.facts = take(3 * heads * c.rows);
  if (c.packs_ahead) w.packed = take(CeilDiv(backward.packed(c), kFloat));
  w.dq_parts = take(heads * c.parts * c.rows * c.dq_step);
  w.key_sums = take(CeilDiv(backward.key_sums(c), kFloat));
  w.touched = take(CeilDiv(heads * c.parts * (c.rows / c.tile_rows), kFloat));
  w.bias_parts = take(c.dbias.kind == BiasGradient::Kind::kQueries ? heads * c.parts * c.rows : 0);
  w.bias_sums = take(KeepsBiasSums(p, c.dbias) ? Elements(p.bias) : 0);
  w.sink_sums = take(p.want_dsinks ? p.batch * p.q_heads * 2 : 0);
  w.kinds = take(CeilDiv(c.in.kinds.count(), 2));
  w.bytes = at;
  return w;
}

// Zeros to `bytes` bytes from `to` on, by all threads.
void Clear(void* to, std::int64_t bytes, int threads) {
  constexpr std::int64_t kPiece = 1 << 16;
  Parallel({CeilDiv(bytes, kPiece), threads, 1, true},
           [&](std::int64_t first, std::int64_t last, int) {
             std::memset(static_cast<char*>(to) + first * kPiece, 0,
                         static_cast<std::size_t>(Min(last * kPiece, bytes) - first * kPiece));
           });
}

// Parts of the sum over the keys, to the gradient of a bias without an axis of keys: few additions,
// always in one order.
void AddBiasParts(const BackwardCall& c) {
  for (std::int64_t unit = c.first; unit < c.last; unit++) {
    const std::int64_t b = unit / c.k_heads;
    const Entry entry = EntryOf(c.in, b);
    const std::int64_t parts = CutOf(c, entry.sees).parts;
    for (std::int64_t g = c.g_first; g < c.g_first + c.heads; g++) {
      const std::int64_t h = unit % c.k_heads * c.in.group + g;
      float* const to = static_cast<float*>(const_cast<void*>(c.dbias.to.data)) +
                        b * c.dbias.to.batch + h * c.dbias.to.head;
      for (std::int64_t part = 0; part < parts; part++) {
        const float* const from = c.bias_parts + c.PartRows(unit, part, g);
        for (std::int64_t i = 0; i < entry.sees.sq; i++) to[i * c.dbias.to.row] += from[i];
      }
    }
  }
}

// The gradient of a head's sink from one entry: the sum of p_sink (dlse - delta) over its queries.
double SinkSum(const BackwardCall& c, std::int64_t unit, std::int64_t g) {
  const Entry entry = EntryOf(c.in, unit / c.k_heads);
  // Folded as the forward folds it: a row that reads nothing else has exactly its p = 1.
  const double sink = FoldExp2<ScalarLanes<float>>(c.in.sinks[unit % c.k_heads * c.in.group + g]);
  const std::int64_t rows = c.HeadRows(unit, g);
  double sum = 0;
  for (std::int64_t i = 0; i < entry.sees.sq; i++)
    sum -= std::exp2(sink - c.shift[rows + i]) * c.weight[rows + i] * c.delta[rows + i];
  return sum;
}

// Of the heads in flight of one wave: what is known of their queries, then the keys, then dq.
void RunWave(const BackwardCall& c, const BackwardKernels& kernels, char* workspace,
             std::int64_t each, int threads, bool wake) {
  const auto own = [&](int worker) { return workspace + worker * each; };
  Parallel({c.TileItems(), threads, 8, wake},
           [&](std::int64_t first, std::int64_t last, int worker) {
             kernels.prepare(c, first, last, own(worker));
           });
  Parallel({c.Items(), threads, 1, wake}, [&](std::int64_t first, std::int64_t last, int worker) {
    kernels.items(c, first, last, own(worker));
  });
  Parallel({c.TileItems(), threads, 8, false},
           [&](std::int64_t first, std::int64_t last, int worker) {
             kernels.finish(c, first, last, own(worker));
           });
  if (c.bias_parts) AddBiasParts(c);
  if (c.sink_sums)
    Parallel({(c.last - c.first) * c.heads, threads, 1, false},
             [&](std::int64_t first, std::int64_t last, int) {
               for (std::int64_t n = first; n < last; n++) {
                 const std::int64_t unit = c.first + n / c.heads, g = c.g_first + n % c.heads;
                 c.sink_sums[unit * c.in.group + g] = SinkSum(c, unit, g);
               }
             });
}

// Whether some pair of a bias' gradient is visited by no tile.
bool LeavesPairsOut(const Problem& p, const BackwardCall& c) {
  return p.mask.given || p.block_map.given || p.ragged || p.key_lengths || c.in.rule.left >= 0 ||
         c.in.rule.right >= 0 || c.in.rule.chunk > 0;
}

}  // namespace

BackwardSize SizeOfBackward(const Problem& p, const Kernels& kernels,
                            const BackwardKernels& backward, int threads) {
  const BackwardCall c = CallOf(p, kernels, backward, threads);
  BackwardSize size;
  size.items = Units(p) * c.parts;
  size.block_rows = static_cast<std::int64_t>(c.blocks.tiles) * c.tile_rows;
  size.block_keys = CutKeys(p.k_len, c.blocks.keys, c.key_step).keys;
  size.workspace_bytes = LayOut(p, c, backward, threads).bytes + kAlign - 1;
  return size;
}

void RunBackward(const Problem& p, const Buffers& b, const Kernels& kernels,
                 const BackwardKernels& backward, int threads, bool wake, const char** ran) {
  BackwardCall c = CallOf(p, kernels, backward, threads);
  SetPointers(p, b, &c.in);
  c.in.ran = ran;
  c.in.lse = b.lse;
  c.dout = b.dout;
  c.dlse = p.dlse ? b.dlse : nullptr;
  c.dq = b.dq;
  c.dk = b.dk;
  c.dv = b.dv;

  char* const workspace = AlignedStart(b.workspace);
  const Layout at = LayOut(p, c, backward, threads);
  const auto floats = [&](std::int64_t offset) {
    return reinterpret_cast<float*>(workspace + offset);
  };
  const std::int64_t facts = c.wave * c.heads * c.rows;
  c.delta = floats(at.facts);
  c.shift = c.delta + facts;
  c.weight = c.shift + facts;
  if (c.packs_ahead) c.packed = floats(at.packed);
  c.dq_parts = floats(at.dq_parts);
  if (c.heads < c.in.group) c.key_sums = floats(at.key_sums);
  c.touched = reinterpret_cast<std::uint8_t*>(workspace + at.touched);
  if (c.dbias.kind == BiasGradient::Kind::kQueries) c.bias_parts = floats(at.bias_parts);
  if (p.want_dsinks) c.sink_sums = reinterpret_cast<double*>(workspace + at.sink_sums);
  if (c.in.kinds.count() > 0) {
    c.in.kinds.words = reinterpret_cast<std::uint16_t*>(workspace + at.kinds);
    Classify(c.in, kernels, threads, wake);
  }
  const bool apart = KeepsBiasSums(p, c.dbias);
  if (p.want_dbias) {
    c.dbias.to.data = apart ? floats(at.bias_sums) : b.dbias;
    const std::int64_t bytes = Elements(p.bias) * (apart || c.dbias.f32 ? 4 : SizeOf(p.bias_dtype));
    const bool all = c.dbias.direct && (p.accumulate || !LeavesPairsOut(p, c));
    if (!all) Clear(const_cast<void*>(c.dbias.to.data), bytes, threads);
  }

  const bool rows = p.ragged ? p.total_q + p.total_k > 0 : p.q_len + p.k_len > 0;
  for (c.first = 0; rows && c.first < Units(p); c.first = c.last) {
    c.last = Min(c.first + c.wave, Units(p));
    for (c.g_first = 0; c.g_first < c.in.group; c.g_first += c.heads)
      RunWave(c, backward, workspace, at.each, threads, wake);
  }
  if (apart)
    Parallel({Elements(p.bias), threads, 4096, wake},
             [&](std::int64_t first, std::int64_t last, int) {
               backward.store_bias(c, first, last, b.dbias);
             });
  if (p.want_dsinks)
    for (std::int64_t h = 0; h < p.q_heads; h++) {
      double sum = p.accumulate ? static_cast<double>(b.dsinks[h]) : 0;
      for (std::int64_t n = 0; rows && n < p.batch; n++) sum += c.sink_sums[n * p.q_heads + h];
      b.dsinks[h] = static_cast<float>(sum);
    }
}

double BackwardBytes(const Problem& p, std::int64_t block_keys) {
  const Visibility v = VisibilityOf(p, p.q_len, p.k_len, p.query_offset.value_or(0));
  const double in = static_cast<double>(SizeOf(p.dtype)),
               out = static_cast<double>(p.f32_grads ? 4 : SizeOf(p.dtype));
  const double d = static_cast<double>(p.dim), dv = static_cast<double>(p.dim_v);
  double queries = 0;
  for (std::int64_t k0 = 0; k0 < p.k_len; k0 += Max(1, block_keys)) {
    const std::int64_t last = Min(k0 + block_keys, p.k_len) - 1;
    queries += static_cast<double>(
        k0 < v.prefix ? v.sq : Interval{QueriesOf(v, k0).first, QueriesOf(v, last).last}.size());
  }
  const double heads = static_cast<double>(p.batch * p.q_heads);
  const double rows = static_cast<double>((p.ragged ? p.total_q : p.batch * p.q_len) * p.q_heads);
  const double keys = static_cast<double>((p.ragged ? p.total_k : p.batch * p.k_len) * p.k_heads);
  return heads * queries * ((d + dv) * in + 8 * d) + rows * (2 * dv * in + d * out + 8) +
         keys * (d + dv) * (in + out);
}

const char* BackwardFormula() {
  return "threads x 4 bytes x (block rows x (2 D + 2 Dv) + 3 block keys x (block rows + D + Dv)), "
         "about; per head in flight Sq x (parts x D + 2 D + 2 Dv + 3) x 4 bytes; per group whose "
         "heads take turns Sk x (D + Dv) x 4 bytes";
}

}  // namespace heed::cpu
