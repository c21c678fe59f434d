// cli/options_score.cpp: score terms, arrays, results and dropout as options. Not here: sizes,
// visibility.
#include "cli/options.h"
#include "cli/options_parse.h"

namespace heed::cli {
namespace {

constexpr const char* kScoreGroup = "The score";
constexpr const char* kArrayGroup = "Options that come with arrays";
constexpr const char* kResultGroup = "Results";

}  // namespace

void ProblemOptions::AddScore(CLI::App& command) {
  Real(command, kScoreGroup, "--scale", "factor of q.k (default 1/sqrt(d))",
       [](Problem* p, double x) { p->scale = x; });
  Real(command, kScoreGroup, "--softcap", "s becomes X tanh(s / X)",
       [](Problem* p, double x) { p->softcap = x; });
}

void ProblemOptions::AddDropout(CLI::App& command) {
  Real(command, kScoreGroup, "--dropout", "drop probabilities with chance P",
       [](Problem* p, double x) { p->dropout_p = x; });
  Integer(command, kScoreGroup, "--seed", "of the dropout (default 0)",
          [](Problem* p, std::int64_t n) { p->seed = static_cast<std::uint64_t>(n); });
  Integer(command, kScoreGroup, "--offset", "of the dropout (default 0)",
          [](Problem* p, std::int64_t n) { p->offset = static_cast<std::uint64_t>(n); });
}

void ProblemOptions::AddArrays(CLI::App& command) {
  const char* group = kArrayGroup;
  Text(command, group, "--alibi", "KIND", "slopes per head, or per batch-head",
       [](Problem* p, const std::string& text) {
         if (text != "head" && text != "batch-head") {
           Reject("--alibi", text, "one of head, batch-head");
         }
         p->alibi = text == "head" ? Alibi::kPerHead : Alibi::kPerBatchHead;
       });
  Text(command, group, "--bias", "B,H,I,J", "shape of a bias, 1 where it repeats",
       [](Problem* p, const std::string& text) { p->bias = ParseBroadcast("--bias", text); });
  Text(command, group, "--bias-dtype", "TYPE", "f32 (default) or the tensors' dtype",
       [](Problem* p, const std::string& t) { p->bias_dtype = ParseDType("--bias-dtype", t); });
  Text(command, group, "--mask", "B,H,I,J", "shape of a mask, 1 where it repeats",
       [](Problem* p, const std::string& text) { p->mask = ParseBroadcast("--mask", text); });
  Text(command, group, "--block-map", "B,H,I,J", "shape of a map of blocks",
       [](Problem* p, const std::string& text) {
         p->block_map = ParseBroadcast("--block-map", text);
       });
  Text(command, group, "--block-size", "R,C", "queries and keys of a block of the map",
       [](Problem* p, const std::string& text) {
         const auto n = ParseIntegers("--block-size", text, 2, "two sizes R,C");
         p->block_rows = n[0];
         p->block_cols = n[1];
       });
  Flag(command, group, "--sinks", "one more logit per head joins the sum",
       [](Problem* p) { p->sinks = true; });
  Flag(command, group, "--lengths", "every entry has a key count of its own",
       [](Problem* p) { p->key_lengths = true; });
  Flag(command, group, "--query-offsets", "every entry has a query offset of its own",
       [this](Problem* p) {
         p->query_offsets = true;
         if (!align_) p->align = Align::kOffset;
       });
  Text(command, group, "--ragged", "TQ,TK", "packed sequences, TQ queries, TK keys",
       [](Problem* p, const std::string& text) {
         const auto n = ParseIntegers("--ragged", text, 2, "two totals TQ,TK");
         p->ragged = true;
         p->total_q = n[0];
         p->total_k = n[1];
       });
  Text(command, group, "--cache", "SLOTS,ROWS", "keys and values in a cache",
       [](Problem* p, const std::string& text) {
         const auto n = ParseIntegers("--cache", text, 2, "two sizes SLOTS,ROWS");
         p->cache.given = true;
         p->cache.slots = n[0];
         p->cache.rows = n[1];
         p->k_len = 0;
       });
  AddCache(command, group);
}

void ProblemOptions::AddCache(CLI::App& command, const char* group) {
  const auto integer = [&](const char* name, std::int64_t Cache::*field, const char* help) {
    Integer(command, group, name, help,
            [field](Problem* p, std::int64_t n) { p->cache.*field = n; });
  };
  integer("--pages", &Cache::blocks, "the cache's slots are pages, N for an entry");
  integer("--new", &Cache::new_len, "rows appended to the cache first");
  Flag(command, group, "--batch-idx", "every entry names its slot of the cache",
       [](Problem* p) { p->cache.batch_idx = true; });
  Flag(command, group, "--leftpad", "the first rows of an entry's cache are padding",
       [](Problem* p) { p->cache.leftpad = true; });
  Text(command, group, "--rotary", "KIND", "rotate q and new keys: interleaved or half",
       [](Problem* p, const std::string& text) {
         if (text != "interleaved" && text != "half") {
           Reject("--rotary", text, "one of interleaved, half");
         }
         p->cache.rotary = text == "half" ? Rotary::kHalf : Rotary::kInterleaved;
       });
  integer("--rotary-dim", &Cache::rotary_dim, "entries of a row that are rotated");
  integer("--rotary-rows", &Cache::rotary_rows, "positions that the rotary tables have");
}

void ProblemOptions::AddResults(CLI::App& command) {
  Text(command, kResultGroup, "--op", "OP", "forward (default) or backward",
       [](Problem* p, const std::string& text) {
         if (text != "forward" && text != "backward") {
           Reject("--op", text, "one of forward, backward");
         }
         p->op = text == "forward" ? Op::kForward : Op::kBackward;
       });
  Flag(command, kResultGroup, "--lse", "the logarithm of every row's sum, too",
       [](Problem* p) { p->want_lse = true; });
  Flag(command, kResultGroup, "--probs", "the probabilities, too",
       [](Problem* p) { p->want_probs = true; });
  Text(command, kResultGroup, "--out-dtype", "TYPE", "of the output: the tensors' (default) or f32",
       [](Problem* p, const std::string& t) { p->out_dtype = ParseDType("--out-dtype", t); });
  Flag(command, kResultGroup, "--dlse", "backward: the gradient of lse is given, too",
       [](Problem* p) { p->dlse = true; });
  Flag(command, kResultGroup, "--f32-grads", "backward: gradients in f32 whatever the dtype",
       [](Problem* p) { p->f32_grads = true; });
  Flag(command, kResultGroup, "--accumulate", "backward: add to what the gradients hold",
       [](Problem* p) { p->accumulate = true; });
  Flag(command, kResultGroup, "--dbias", "backward: the bias's gradient, too",
       [](Problem* p) { p->want_dbias = true; });
  Flag(command, kResultGroup, "--dsinks", "backward: the sinks' gradient, too",
       [](Problem* p) { p->want_dsinks = true; });
}

}  // namespace heed::cli
