// cli/options_settle.cpp: what can be said only when all options are known: default sizes, batches of
// sequences, pages, whole axes, layouts. Not here: the options.
#include <algorithm>
#include <cmath>

#include "cli/options.h"
#include "cli/options_parse.h"

namespace heed::cli {
namespace {

constexpr std::int64_t kDecodeKeys = 16384;

// Sizes may be anything a user typed: a product that leaves int64 becomes "contiguous", whose check
// is the library's, with a sentence.
std::int64_t Times(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? kPacked : product;
}

std::int64_t KeyHeads(const Problem& p) { return p.k_heads != 0 ? p.k_heads : p.q_heads; }
std::int64_t DimV(const Problem& p) { return p.dim_v != 0 ? p.dim_v : p.dim; }

std::int64_t Keys(const Problem& p) {
  const Cache& c = p.cache;
  return !c.given ? p.k_len : c.blocks > 0 ? Times(c.blocks, c.rows) : c.rows;
}

// Rows of one slot or page, or of an entry.
std::int64_t RowsOfKeys(const Problem& p) { return p.cache.given ? p.cache.rows : p.k_len; }

Strides HeadFirst(std::int64_t heads, std::int64_t rows, std::int64_t width) {
  const std::int64_t head = Times(rows, width);
  return {head == kPacked ? kPacked : Times(heads, head), width, head};
}

void ApplyLayout(const std::string& layout, Problem* p) {
  const std::int64_t k_heads = KeyHeads(*p), dim_v = DimV(*p), keys = RowsOfKeys(*p);
  if (layout == "bhsd") {
    const std::int64_t queries = p->ragged ? p->total_q : p->q_len;
    const std::int64_t rows = p->ragged ? p->total_k : keys;
    p->q_strides = p->dq_strides = HeadFirst(p->q_heads, queries, p->dim);
    p->k_strides = p->dk_strides = HeadFirst(k_heads, rows, p->dim);
    p->v_strides = p->dv_strides = HeadFirst(k_heads, rows, dim_v);
    p->o_strides = p->dout_strides = HeadFirst(p->q_heads, queries, dim_v);
    if (!p->ragged) return;
    for (Strides* s : {&p->q_strides, &p->dq_strides, &p->k_strides, &p->dk_strides, &p->v_strides,
                       &p->dv_strides, &p->o_strides, &p->dout_strides}) {
      s->batch = kPacked;  // packed sequences have no batch axis
    }
  } else if (layout == "qkv") {  // rows of one packed tensor: q heads, then k heads, then v heads
    const std::int64_t k_row = Times(k_heads, p->dim), v_row = Times(k_heads, dim_v);
    const std::int64_t q_row = Times(p->q_heads, p->dim);
    if (k_row == kPacked || v_row == kPacked || q_row == kPacked) return;
    std::int64_t row = 0;
    if (__builtin_add_overflow(q_row, k_row, &row) || __builtin_add_overflow(row, v_row, &row)) {
      return;
    }
    const auto batch = [&](std::int64_t rows) { return p->ragged ? kPacked : Times(rows, row); };
    p->q_strides = {batch(p->q_len), row, p->dim};
    p->k_strides = {batch(keys), row, p->dim};
    p->v_strides = {batch(keys), row, dim_v};
  }
}

// The rows of k are those of v, too, so their strides may no longer follow from v's own sizes.
void PutValuesIntoKeys(Problem* p) {
  if (DimV(*p) > p->dim) {
    Contradict("--v-in-k", "--dv is " + std::to_string(DimV(*p)) + " and a row of k has " +
                               std::to_string(p->dim) + " entries: it may be that many at most");
  }
  const std::int64_t row = Times(KeyHeads(*p), p->dim);
  if (p->k_strides.row == kPacked) {
    const std::int64_t batch = row == kPacked ? kPacked : Times(RowsOfKeys(*p), row);
    p->k_strides = {p->ragged ? kPacked : batch, row, p->dim};
  }
  p->v_strides = p->k_strides;
}

std::int64_t Whole(std::int64_t size, std::int64_t all) { return size == kWholeAxis ? all : size; }

void FillAxes(const Problem& p, std::int64_t rows, std::int64_t cols, Broadcast* t) {
  t->batch = Whole(t->batch, p.batch);
  t->heads = Whole(t->heads, p.q_heads);
  t->rows = Whole(t->rows, rows);
  t->cols = Whole(t->cols, cols);
}

// Of `count` lengths, repeated as often as it takes. A sum that leaves int64 is one that the library
// refuses.
std::int64_t SumOf(const std::vector<std::int64_t>& lengths, std::int64_t count) {
  const auto n = static_cast<std::int64_t>(lengths.size());
  std::int64_t once = 0, rest = 0;
  bool lost = false;
  for (std::int64_t b = 0; b < n; ++b) {
    const std::int64_t length = lengths[static_cast<std::size_t>(b)];
    lost |= __builtin_add_overflow(once, length, &once);
    if (b < count % n) lost |= __builtin_add_overflow(rest, length, &rest);
  }
  std::int64_t sum = 0;
  lost |= __builtin_mul_overflow(once, count / n, &sum);
  lost |= __builtin_add_overflow(sum, rest, &sum);
  return lost ? INT64_MAX : sum;
}

std::int64_t BlocksOf(std::int64_t size, std::int64_t block) {
  return block > 0 && size > 0 ? (size - 1) / block + 1 : 0;
}

}  // namespace

void ProblemOptions::SettleSizes(Problem* p) const {
  if (decode_ && !queries_) p->q_len = 1;
  if (square_ && !p->cache.given) p->k_len = decode_ ? kDecodeKeys : p->q_len;
}

// As many megabytes of keys and values as were asked for, as whole entries.
void ProblemOptions::SettleBatch(Problem* p) const {
  if (kv_megabytes_ == 0) return;
  if (batch_) {
    Contradict("--kv-total-mb", "--batch is given, too, and both say how many entries there are");
  }
  const double row = static_cast<double>(KeyHeads(*p)) *
                     static_cast<double>(patterns_.v_in_k ? p->dim : p->dim + DimV(*p)) *
                     static_cast<double>(SizeOf(p->dtype));
  const double entry = row * static_cast<double>(Keys(*p));
  if (!(entry > 0)) return;
  const double entries = std::round(static_cast<double>(kv_megabytes_) * 0x1p20 / entry);
  p->batch = static_cast<std::int64_t>(std::clamp(entries, 1.0, 1e9));
}

void ProblemOptions::SettleLengths(Problem* p) const {
  const std::vector<std::int64_t>& lengths = patterns_.lengths;
  if (lengths.empty()) return;
  if (!batch_ && kv_megabytes_ == 0) p->batch = static_cast<std::int64_t>(lengths.size());
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const bool keys_only = key_lengths_ || decode_ || p->cache.given || page_size_ > 0;
  if (keys_only) {
    if (square_ && !p->cache.given) p->k_len = longest;
    if (longest > Keys(*p)) {
      Contradict(key_lengths_ ? "--key-lengths" : "--lengths",
                 "a length of " + std::to_string(longest) + " is more than the " +
                     std::to_string(Keys(*p)) + " keys of an entry");
    }
    p->key_lengths = !p->cache.given && page_size_ == 0;  // a cache has lengths of its own
    return;
  }
  if (queries_ || !square_) {
    Contradict("--lengths",
               "--sq or --sk is given, too, and the list says how long every sequence is, queries "
               "and keys; --op decode and a cache take lengths of keys");
  }
  p->ragged = true;
  p->q_len = p->k_len = longest;
  p->total_q = SumOf(lengths, p->batch);
  p->total_k = p->total_q;
}

void ProblemOptions::SettlePages(Problem* p) {
  if (page_size_ == 0) return;
  // Pages are whole: what there is of the last one is a length.
  if (patterns_.lengths.empty() && p->k_len % page_size_ != 0) patterns_.lengths = {p->k_len};
  p->cache.given = true;
  p->cache.rows = page_size_;
  p->cache.blocks = std::max<std::int64_t>(BlocksOf(p->k_len, page_size_), 1);
  p->cache.slots = Times(p->batch, p->cache.blocks);
  p->k_len = 0;
}

Problem ProblemOptions::Over(Problem problem) {
  Problem* p = &problem;
  for (const Edit& edit : edits_) edit(p);
  if (sizes_) {
    SettleSizes(p);
    SettleLengths(p);
    SettleBatch(p);
    SettlePages(p);
    ApplyLayout(layout_, p);
    if (patterns_.v_in_k) PutValuesIntoKeys(p);
  }
  FillAxes(*p, p->q_len, Keys(*p), &p->bias);
  FillAxes(*p, p->q_len, Keys(*p), &p->mask);
  FillAxes(*p, BlocksOf(p->q_len, p->block_rows), BlocksOf(Keys(*p), p->block_cols), &p->block_map);
  return problem;
}

}  // namespace heed::cli
