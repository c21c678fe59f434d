// runs_check.cpp: the table of one instruction set's runs of queries. Compiled once per set with
// -DHEED_ISA=<name> and its flags, as the kernels are, and under their rules: no std templates.
#include "runs_check.h"

#include "cpu/gradient_runs.h"

namespace heed::cpu::HEED_ISA {
namespace {

int QueriesOfKeys(const RunsCall& c, UnitRun* out) {
  ForwardCall call;
  call.terms = Terms<float>::Of({});
  call.mask = {c.mask, 0, 0, c.sees.sk, 1};
  Entry entry;
  entry.sees = c.sees;
  Run runs[kMostRunTiles];
  int n = 0;
  for (int t = 0; t < c.tiles; t++) {
    RowState rows;
    RowFacts facts;
    Live live;
    const std::int64_t first = c.query + t * kRows;
    BeginRows(call, entry, {0, 0, {first, heed::Min(first + kRows, c.sees.sq)}}, &rows, &facts);
    FindLiveByInterval(rows, c.sees, c.k0, c.keys, &live);
    if (live.live && c.mask) {
      FillFacts(call, 0, &facts);
      FindLiveByMask(call, rows, facts, c.k0, c.keys, &live);
    }
    n = c.pair == 1 ? AddRowRun<1>(rows, live, t, c.k0, c.from, c.to, runs, n)
                    : AddRowRun<2>(rows, live, t, c.k0, c.from, c.to, runs, n);
  }
  for (int i = 0; i < n; i++) out[i] = {runs[i].first, runs[i].units};
  return n;
}

}  // namespace

const RunsCheck kRuns = {kIsaName, kRows, W, kKeys, kMaxKeys, QueriesOfKeys};

}  // namespace heed::cpu::HEED_ISA
