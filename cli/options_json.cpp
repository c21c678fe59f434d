// cli/options_json.cpp: a Problem as JSON, for programs that read what was planned. Not here:
// options.
#include "cli/options.h"
#include "cli/options_parse.h"

namespace heed::cli {
namespace {

nlohmann::ordered_json ShapeOf(const Broadcast& b) { return {b.batch, b.heads, b.rows, b.cols}; }

}  // namespace

nlohmann::ordered_json ToJson(const Problem& p) {
  nlohmann::ordered_json j;
  j["op"] = Name(p.op);
  j["dtype"] = heed::Name(p.dtype);
  j["batch"] = p.batch;
  j["sq"] = p.q_len;
  j["sk"] = p.k_len;
  j["hq"] = p.q_heads;
  j["hk"] = p.k_heads != 0 ? p.k_heads : p.q_heads;
  j["d"] = p.dim;
  j["dv"] = p.dim_v != 0 ? p.dim_v : p.dim;
  j["causal"] = p.causal;
  j["align"] = Name(p.align);
  if (p.query_offset) j["query_offset"] = *p.query_offset;
  if (p.query_offsets) j["query_offsets"] = true;
  if (p.window_left >= 0 || p.window_right >= 0) j["window"] = {p.window_left, p.window_right};
  if (p.prefix != 0) j["prefix"] = p.prefix;
  if (p.chunk != 0) j["chunk"] = p.chunk;
  if (p.scale) j["scale"] = *p.scale;
  if (p.softcap > 0) j["softcap"] = p.softcap;
  if (p.alibi != Alibi::kNone) {
    j["alibi"] = p.alibi == Alibi::kPerHead ? "head" : "batch-head";
  }
  if (p.bias.given) j["bias"] = ShapeOf(p.bias);
  if (p.mask.given) j["mask"] = ShapeOf(p.mask);
  if (p.block_map.given) {
    j["block_map"] = ShapeOf(p.block_map);
    j["block_size"] = {p.block_rows, p.block_cols};
  }
  if (p.sinks) j["sinks"] = true;
  if (p.key_lengths) j["key_lengths"] = true;
  if (p.ragged) j["ragged"] = {p.total_q, p.total_k};
  if (p.cache.given) {
    j["cache"] = {{"slots", p.cache.slots},
                  {"rows", p.cache.rows},
                  {"blocks", p.cache.blocks},
                  {"new", p.cache.new_len}};
  }
  if (p.dropout_p > 0) {
    j["dropout_p"] = p.dropout_p;
    j["seed"] = p.seed;
    j["offset"] = p.offset;
  }
  return j;
}

}  // namespace heed::cli
