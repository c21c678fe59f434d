// runs_check.cpp: the table of one instruction set's runs. Compiled once per set with
// -DHEED_ISA=<name> and its flags, as the kernels are, and under their rules: no std templates.
#include "runs_check.h"

#include "cpu/gradient_runs.h"
#include "cpu/runs.h"

namespace heed::cpu::HEED_ISA {
namespace {

struct Tile {
  RowState rows;
  RowFacts facts;
  Live live;
};

// Tile t of the call against its block.
void Begin(const RunsCall& c, int t, Tile* tile) {
  ForwardCall call;
  call.terms = Terms<float>::Of({});
  call.mask = {c.mask, 0, 0, c.sees.sk, 1};
  Entry entry;
  entry.sees = c.sees;
  const std::int64_t first = c.query + t * kRows;
  BeginRows(call, entry, {0, 0, {first, heed::Min(first + kRows, c.sees.sq)}}, &tile->rows,
            &tile->facts);
  FindLiveByInterval(tile->rows, c.sees, c.k0, c.keys, &tile->live);
  if (tile->live.live && c.mask) {
    FillFacts(call, 0, &tile->facts);
    FindLiveByMask(call, tile->rows, tile->facts, c.k0, c.keys, &tile->live);
  }
}

int QueriesOfKeys(const RunsCall& c, UnitRun* out) {
  Run runs[kMostRunTiles];
  int n = 0;
  for (int t = 0; t < c.tiles; t++) {
    Tile tile;
    Begin(c, t, &tile);
    n = c.pair == 1 ? AddRowRun<1>(tile.rows, tile.live, t, c.k0, c.from, c.to, runs, n)
                    : AddRowRun<2>(tile.rows, tile.live, t, c.k0, c.from, c.to, runs, n);
  }
  for (int i = 0; i < n; i++) out[i] = {runs[i].first, runs[i].units};
  return n;
}

int KeysOfQueries(const RunsCall& c, int row, int count, UnitRun* out, std::uint64_t* live) {
  static_assert(kMostRuns <= kMostKeyRuns);
  Tile tile;
  Begin(c, 0, &tile);
  *live = tile.live.live;
  if (!tile.live.live) return 0;
  Run runs[kMostRuns];
  const int n = c.pair == 1 ? RunsOf<1>(tile.rows, tile.live, row, count, c.k0, runs)
                            : RunsOf<2>(tile.rows, tile.live, row, count, c.k0, runs);
  for (int i = 0; i < n; i++) out[i] = {runs[i].first, runs[i].units};
  return n;
}

}  // namespace

const RunsCheck kRuns = {kIsaName, kRows, W, kKeys, kMaxKeys, QueriesOfKeys, KeysOfQueries};

}  // namespace heed::cpu::HEED_ISA
