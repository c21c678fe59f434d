// call.h: one call of Python as a Problem and Buffers. Not here: results, running.
#pragma once

#include <cstdint>
#include <vector>

#include "heed/heed.h"
#include "options.h"
#include "views.h"

namespace heed::python {

struct Call {
  Call(nb::handle first, const char* name, bool for_a_plan = false)
      : arrays(first, name), shapes_alone(for_a_plan) {}

  void TakeHeadsFirst() {
    if (arrays.library() != Library::kTorch) Raise("heads_first is for PyTorch's tensors alone");
    heads_first = true;
  }

  Arrays arrays;
  bool shapes_alone;         ///< for a Plan: tensors need no data
  bool heads_first = false;  ///< rows come and go as (B, H, S, D)
  /// With heads_first, which of q, k, v lie contiguous: what belongs to them is to lie as they do.
  bool dense_q = false, dense_k = false, dense_v = false;
  Problem problem;
  Buffers buffers;
  PlanOptions options;

  /// Rows of a result: (B, S, H, D), or (T, H, D) where ragged; their strides, before they are there.
  struct Rows {
    std::int64_t len, total, heads, dim;
    bool dense;
  };
  Strides StridesOf(const Rows& rows) const;
  void* NewRows(Element element, const Rows& rows, nb::object* out);

  View Read(nb::handle array, const char* name) {
    return shapes_alone ? arrays.ReadShape(array, name) : arrays.Read(array, name);
  }

  /// q, k, v of shapes (B, S, H, D), or (T, H, D) where ragged. k and v are checked against q.
  void ReadQkv(nb::handle q, nb::handle k, nb::handle v, bool ragged);
  /// Everything of kOptionNames but what ReadQkv needs to know before. After ReadQkv.
  void ReadOptions(const nb::handle* o);

  // Parts of these that a call on a cache shares.

  /// Of f32, bf16, f16 or f64, the last axis dense, (B, S, H, D) whatever lay there.
  View ReadRows(nb::handle array, const char* name, int ndim);
  void ReadScore(const nb::handle* o);
  /// Numbers of one element type, dense: as they lie, else as a copy that lives as long as the call.
  const float* Floats(nb::handle array, const char* name,
                      std::initializer_list<std::int64_t> shape);
  const std::int32_t* Integers(nb::handle array, const char* name, std::int64_t size,
                               const char* symbols = "one number for each entry of the batch");

 private:
  void ReadRagged(const nb::handle* o);
  void ReadOffset(nb::handle align, nb::handle offset);
  Broadcast ReadBroadcast(nb::handle array, const char* name, const void** data, View* view);
  const void* Dense(const View& view);

  std::vector<std::vector<std::int32_t>> copies_;
};

/// Strides of the rows of a view of (…, S, H, D); axes of size 1 have none.
Strides RowStrides(const View& view);
/// Never null: an array without elements still needs an address.
const void* AddressOf(const View& view);
inline void* AddressOf(View& view) {
  return const_cast<void*>(AddressOf(static_cast<const View&>(view)));
}

/// Fails with a sentence where a view does not have this shape.
void CheckShape(const View& view, const char* name, std::initializer_list<std::int64_t> shape,
                const char* symbols);

inline bool Given(nb::handle value) { return !value.is_none(); }

}  // namespace heed::python
