// call.h: one call of Python as a Problem and Buffers. Not here: results, running.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "device.h"
#include "heed/heed.h"
#include "options.h"
#include "plans.h"
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
  /// From the first array on: of a plan for a tensor without data there is none to make current.
  std::optional<OnDevice> on_device;
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
  /// lse, f32 (B, H, S), or (H, T) where ragged.
  float* NewRowState(nb::object* out);

  View Read(nb::handle array, const char* name) {
    return shapes_alone ? arrays.ReadShape(array, name) : arrays.Read(array, name);
  }

  /// q, k, v of shapes (B, S, H, D), or (T, H, D) where ragged. k and v are checked against q.
  void ReadQkv(nb::handle q, nb::handle k, nb::handle v, bool ragged);
  /// Plans, computes, on this call's device.
  Plan MakePlan() { return PlanFor(problem, options, arrays.device()); }
  void Run(const Plan& plan) { RunPlan(problem, plan, buffers, arrays.device()); }

  /// Everything of kOptionNames but what ReadQkv needs to know before. After ReadQkv.
  void ReadOptions(const nb::handle* o);

  // Parts of these that a call on a cache shares.

  /// Of f32, bf16, f16 or f64, the last axis dense, (B, S, H, D) whatever lay there.
  View ReadRows(nb::handle array, const char* name, int ndim);
  void ReadScore(const nb::handle* o);
  /// backend and threads; on a device the one backend that computes there.
  void ReadHow(const nb::handle* o);
  /// The device of q from here on, and its address, which says where the call runs.
  void Begin(nb::handle q, const View& view);
  /// Numbers of one element type, dense: as they lie, else as a copy that lives as long as the call.
  const float* Floats(nb::handle array, const char* name,
                      std::initializer_list<std::int64_t> shape);
  const std::int32_t* Integers(nb::handle array, const char* name, std::int64_t size,
                               const char* symbols = "one number for each entry of the batch");
  /// The same from a tensor of one number on a device, where it stays.
  const std::int32_t* Spread(nb::handle tensor, const char* name);
  /// The same number for each entry.
  const std::int32_t* Repeated(std::int32_t n);

 private:
  void ReadRagged(const nb::handle* o);
  void ReadOffset(nb::handle align, nb::handle offset);
  Broadcast ReadBroadcast(nb::handle array, const char* name, const void** data, View* view);
  const void* Dense(nb::handle array, const char* name, const View& view);
  void ClearRows(const nb::object& made, double value);

  std::vector<std::vector<std::int32_t>> copies_;
  std::vector<nb::object> on_device_copies_;
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

/// Whether the option is an array; the others are numbers and names, which are needed here to plan.
constexpr bool IsArrayOption(int option) {
  for (const int array : {kAlibiSlopes, kBias, kMask, kBlockMap, kSinks, kKeyLengths, kCuSeqlensQ,
                          kCuSeqlensK, kQueryOffset}) {
    if (option == array) return true;
  }
  return false;
}

inline bool Given(nb::handle value) { return !value.is_none(); }

}  // namespace heed::python
