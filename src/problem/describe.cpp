// describe.cpp: what a Plan says about itself: PlanInfo for programs, Describe for people. Not
// here: counting (geometry.cpp).
#include <cmath>
#include <cstdio>

#include "problem/geometry.h"
#include "problem/plan.h"
#include "problem/words.h"

namespace heed {
namespace {

// Three significant digits, none of them an exponent.
std::string Digits(double value) {
  char text[64];
  const int decimals = value >= 99.95 || value == 0 ? 0 : value >= 9.995 ? 1 : 2;
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

struct Unit {
  double size;
  const char* prefix;
};
Unit UnitOf(double value) {
  constexpr Unit kUnits[] = {{1e18, "E"}, {1e15, "P"}, {1e12, "T"},
                             {1e9, "G"},  {1e6, "M"},  {1e3, "k"}};
  for (const Unit& unit : kUnits) {
    if (value >= unit.size * 0.9995) return unit;
  }
  return {1, ""};
}

// "168 MB", "12.3 GB", "96 B"
std::string Amount(double value, const char* of) {
  const Unit unit = UnitOf(value);
  const std::string digits =
      unit.size == 1 ? Words(std::llround(value)) : Digits(value / unit.size);
  return Words(digits, " ", unit.prefix, of);
}

std::string Count(std::int64_t n, const char* noun) {
  return Words(n, " ", noun, n == 1 ? "" : "s");
}

// "14 %", "< 1 %": never 0 % of something, never 100 % of less than all.
std::string Percent(double part, double whole) {
  if (part == 0) return "0 %";
  if (part == whole) return "100 %";
  const double percent = 100 * part / whole;
  return percent < 1 ? "< 1 %" : percent > 99 ? "> 99 %" : Words(std::llround(percent), " %");
}

std::int64_t Whole(double count) {
  return count < 9.2e18 ? static_cast<std::int64_t>(count) : INT64_MAX;
}

void Append(std::string* list, bool here, const char* what) {
  if (here) *list += Words(list->empty() ? "" : ", ", what);
}

// What makes the visible pairs fewer than all.
std::string Limits(const Problem& p) {
  std::string list;
  const bool causal = p.window_right == 0;
  Append(&list, causal, "causal");
  Append(&list, p.window_left >= 0 || (p.window_right > 0), "window");
  Append(&list, p.chunk > 0, "chunk");
  Append(&list, p.prefix > 0, "prefix");
  return list;
}

// What may hide more, or shift it, but lies in arrays.
std::string Unknown(const Problem& p) {
  std::string list;
  Append(&list, p.mask.given, "mask");
  Append(&list, p.block_map.given, "block_map");
  Append(&list, p.key_lengths, "key_lengths");
  Append(&list, p.query_offsets, "query_offsets");
  Append(&list, p.ragged, "cu_seqlens");
  Append(&list, p.cache.given, "cache_seqlens");
  return list;
}

std::string TilesLine(const PlanInfo& info) {
  std::string line = Words(info.tile_rows, " × ", Count(info.tile_keys, "key"));
  if (info.block_rows > info.tile_rows || info.block_keys > info.tile_keys) {
    line += Words(" in blocks of ", info.block_rows, " × ", info.block_keys);
  }
  line += "; " + Count(info.items, "item");
  const double full = static_cast<double>(info.tiles_full),
               edge = static_cast<double>(info.tiles_edge),
               empty = static_cast<double>(info.tiles_empty), all = full + edge + empty;
  if (all == 0) return line + "; nothing to compute";
  line += Words("; ", Percent(full + edge, all), " of ", Count(Whole(all), "tile"), " computed (",
                Percent(full, all), " full, ", Percent(edge, all), " edge)");
  return empty > 0 ? line + ", " + Percent(empty, all) + " skipped" : line;
}

std::string WorkLine(const Problem& p, const PlanInfo& info, const Work& work) {
  const Unit unit = UnitOf(info.flops);
  std::string line = Amount(info.flops, "FLOP");
  if (info.flops < info.dense_flops) {
    const std::string limits = Limits(p);
    line += " of " + Digits(info.dense_flops / unit.size);
    if (!limits.empty()) line += " (" + limits + ")";
  }
  line +=
      Words("; memory ", Amount(work.bytes_read, "B"), " read, ", Amount(work.bytes_written, "B"),
            " written; standard attention would move ", Amount(info.bytes_standard, "B"));
  const std::string unknown = Unknown(p);
  return unknown.empty() ? line : line + "; geometry only, without what is in " + unknown;
}

std::string LaunchLine(const PlanInfo& info) {
  return Words(Count(info.launches, "kernel"), "; ", Count(info.items, "block"), " of ",
               info.block_threads, " threads and ", info.block_shared_bytes,
               " bytes of shared memory, ", info.blocks_at_once,
               " at a time on each multiprocessor");
}

// Seconds are Amounts from a nanosecond on.
std::string ExpectedLine(const PlanInfo& info) {
  const double s = info.expected_seconds;
  const std::string time = s >= 1      ? Words(Digits(s), " s")
                           : s >= 1e-3 ? Words(Digits(s * 1e3), " ms")
                                       : Words(Digits(s * 1e6), " us");
  return Words(time, " or more, limited by ", info.expected_limit, ": ", info.assumes);
}

std::string LimitLine(const PlanInfo& info) {
  std::string line;
  if (info.bytes_moved > 0) line = Amount(info.bytes_moved, "B") + " between the caches; ";
  line += Words("workspace ", Amount(static_cast<double>(info.workspace_bytes), "B"));
  return info.workspace_formula.empty() ? line : line + " = " + info.workspace_formula;
}

Work WorkOf(const Plan::Impl& impl) {
  return CountWork(impl.problem, impl.tuning.tile_rows, impl.tuning.tile_keys);
}

PlanInfo InfoOf(const Plan::Impl& impl, const Work& work) {
  PlanInfo info;
  info.backend = impl.backend->name();
  info.threads = impl.tuning.threads;
  info.tile_rows = impl.tuning.tile_rows;
  info.tile_keys = impl.tuning.tile_keys;
  info.block_rows = impl.tuning.block_rows;
  info.block_keys = impl.tuning.block_keys;
  info.items = impl.tuning.items;
  info.workspace_bytes = impl.tuning.workspace_bytes;
  info.tiles_full = Whole(work.tiles.full);
  info.tiles_edge = Whole(work.tiles.edge);
  info.tiles_empty = Whole(work.tiles.empty);
  info.visible_pairs = work.pairs;
  info.flops = work.flops;
  info.dense_flops = work.dense_flops;
  info.bytes_min = work.bytes_read + work.bytes_written;
  info.bytes_standard = work.bytes_standard;
  impl.backend->Describe(impl.problem, impl.tuning, &info);
  for (const Candidate& c : impl.candidates) {
    if (c.backend == impl.backend) continue;
    const Status status = c.backend->Supports(impl.problem, OptionsFor(c, impl.options));
    if (!status) {
      info.refused.push_back({c.backend->name(), status.message()});
    } else {
      info.besides.push_back({c.backend->name(), !c.automatic  ? "would serve this if asked by name"
                                                 : c.on_device ? "would serve this in device memory"
                                                 : impl.on_device
                                                     ? "would serve this in host memory"
                                                     : "would serve this, too"});
    }
  }
  return info;
}

}  // namespace

const Problem& Plan::problem() const {
  static const Problem kNone;
  return valid() ? impl_->problem : kNone;
}

const char* Plan::backend() const { return valid() ? impl_->backend->name() : ""; }

std::int64_t Plan::workspace_bytes() const { return valid() ? impl_->tuning.workspace_bytes : 0; }

PlanInfo Plan::Info() const { return valid() ? InfoOf(*impl_, WorkOf(*impl_)) : PlanInfo(); }

std::string Plan::Describe() const {
  if (!valid()) return "plan      none: the plan is empty\n";
  const Work work = WorkOf(*impl_);
  const PlanInfo info = InfoOf(*impl_, work);
  std::string text = "plan      " + info.backend;
  if (!info.isa.empty()) text += " · " + info.isa;
  if (!info.arch.empty()) text += " · " + info.arch;
  if (!info.kernel.empty()) text += " · " + info.kernel;
  text += info.arch.empty() ? Words(" · ", Count(info.threads, "thread"), "\n") : "\n";
  text += "tiles     " + TilesLine(info) + "\n";
  if (!info.arch.empty()) text += "launch    " + LaunchLine(info) + "\n";
  text += "work      " + WorkLine(problem(), info, work) + "\n";
  text += "limit     " + LimitLine(info) + "\n";
  if (!info.arch.empty()) text += "expected  " + ExpectedLine(info) + "\n";
  for (const Refusal& r : info.besides) text += "besides   " + r.backend + ": " + r.reason + "\n";
  for (const Refusal& r : info.refused) text += "refused   " + r.backend + ": " + r.reason + "\n";
  return text;
}

}  // namespace heed
