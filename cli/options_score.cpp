// cli/options_score.cpp: score terms, arrays, results and dropout as options. Not here: sizes,
// visibility.
#include <cstdlib>
#include <string>

#include "cli/options.h"
#include "cli/options_parse.h"
#include "cli/options_patterns.h"

namespace heed::cli {
namespace {

constexpr const char* kScoreGroup = "The score";
constexpr const char* kArrayGroup = "Options that come with arrays";
constexpr const char* kResultGroup = "Results";

CLI::Validator AtLeastOne() {
  return {[](const std::string& text) {
            return std::atoll(text.c_str()) >= 1 ? "" : "'" + text + "' is not 1 or more";
          },
          ""};
}

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
  Text(command, group, "--alibi", "KIND", "slopes per head (default), or per batch-head",
       [](Problem* p, const std::string& text) {
         if (text != "" && text != "head" && text != "batch-head") {
           Reject("--alibi", text, "one of head, batch-head");
         }
         p->alibi = text == "batch-head" ? Alibi::kPerBatchHead : Alibi::kPerHead;
       })
      ->expected(0, 1);
  Text(command, group, "--bias", "B,H,I,J",
       "shape of a bias: 1 where it repeats, a letter for a whole axis, as in 1,H,S,S",
       [](Problem* p, const std::string& text) { p->bias = ParseBroadcast("--bias", text); });
  Text(command, group, "--bias-dtype", "TYPE", "f32 (default) or the tensors' dtype",
       [](Problem* p, const std::string& t) { p->bias_dtype = ParseDType("--bias-dtype", t); });
  AddPatterns(command, group);
  Flag(command, group, "--sinks", "one more logit per head joins the sum",
       [](Problem* p) { p->sinks = true; });
  Flag(command, group, "--query-offsets", "every entry has a query offset of its own",
       [this](Problem* p) {
         p->query_offsets = true;
         if (!align_) p->align = Align::kOffset;
       });
  AddCache(command, group);
}

// Those whose arrays are made up after a pattern.
void ProblemOptions::AddPatterns(CLI::App& command, const char* group) {
  Text(
      command, group, "--mask", "PATTERN",
      "random:P, blocks:N:P (each visible with chance P), causal; behind a shape and a colon as in "
      "1,H,S,S:random:0.7; or a shape alone",
      [this](Problem* p, const std::string& text) { ParseMask(text, &p->mask, &patterns_); });
  Text(command, group, "--block-map", "RxC:P",
       "blocks of R queries and C keys, each kept with chance P; or a shape B,H,I,J",
       [this](Problem* p, const std::string& text) { ParseBlockMap(text, p, &patterns_); });
  Text(command, group, "--block-size", "R,C", "queries and keys of a block of a map's shape",
       [](Problem* p, const std::string& text) {
         const auto n = ParseIntegers("--block-size", text, 2, "two sizes R,C");
         p->block_rows = n[0];
         p->block_cols = n[1];
       });
  CLI::Option* lengths =
      Text(command, group, "--lengths", "LIST",
           "a packed batch of sequences: N, NxC (C times N), A-B:C (C lengths from A to B), or a "
           "list of them; decoding and with a cache: the keys that every entry has",
           [this](Problem*, const std::string& text) {
             patterns_.lengths = ParseLengths("--lengths", text);
           });
  Text(command, group, "--key-lengths", "LIST",
       "every entry has a key count of its own: as --lengths, or without a list all of them",
       [this](Problem* p, const std::string& text) {
         p->key_lengths = true;
         key_lengths_ = true;
         if (!text.empty()) patterns_.lengths = ParseLengths("--key-lengths", text);
       })
      ->expected(0, 1)
      ->excludes(lengths);
  Text(command, group, "--ragged", "TQ,TK", "packed sequences, TQ queries, TK keys",
       [](Problem* p, const std::string& text) {
         const auto n = ParseIntegers("--ragged", text, 2, "two totals TQ,TK");
         p->ragged = true;
         p->total_q = n[0];
         p->total_k = n[1];
       })
      ->excludes(lengths);
  CLI::Option* cache = Text(command, group, "--cache", "SLOTS,ROWS", "keys and values in a cache",
                            [](Problem* p, const std::string& text) {
                              const auto n =
                                  ParseIntegers("--cache", text, 2, "two sizes SLOTS,ROWS");
                              p->cache.given = true;
                              p->cache.slots = n[0];
                              p->cache.rows = n[1];
                              p->k_len = 0;
                            });
  command
      .add_option("--page-size", page_size_,
                  "keys and values in a cache of pages of N keys, in random order")
      ->type_name("N")
      ->check(AtLeastOne())
      ->group(group)
      ->excludes(cache);
  command
      .add_option("--kv-total-mb", kv_megabytes_,
                  "as many entries as make about N MiB of keys and values")
      ->type_name("N")
      ->check(AtLeastOne())
      ->group(group);
  command
      .add_flag("--v-in-k", patterns_.v_in_k, "v is the first dv entries of the rows of k (MLA)")
      ->group(group);
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
  Text(command, kResultGroup, "--op", "OP",
       "forward (default), backward, forward+backward (bench), or decode: a forward of one query "
       "unless --sq says more",
       [this](Problem* p, const std::string& text) {
         if (text != "forward" && text != "backward" && text != "forward+backward" &&
             text != "decode") {
           Reject("--op", text, "one of forward, backward, forward+backward, decode");
         }
         decode_ = text == "decode";
         with_forward_ = text == "forward+backward";
         p->op = text == "backward" || with_forward_ ? Op::kBackward : Op::kForward;
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
