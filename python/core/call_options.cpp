// call_options.cpp: the keywords of a call: ReadOptions and its parts. Not here: q, k, v (call.cpp).
#include <algorithm>
#include <string>

#include "call.h"

namespace heed::python {
namespace {

Align AlignOf(nb::handle value) {
  if (!PyUnicode_Check(value.ptr())) {
    RaiseType("align is a " + TypeName(value) +
              ": it must be \"bottom_right\", \"top_left\" or \"offset\"");
  }
  const std::string name = Text(value);
  if (name == "bottom_right") return Align::kBottomRight;
  if (name == "top_left") return Align::kTopLeft;
  if (name == "offset") return Align::kOffset;
  Raise("align is \"" + name + "\": it must be \"bottom_right\", \"top_left\" or \"offset\"");
}

// The longest of consecutive sequences; what is wrong with the numbers, heed::Run says.
std::int64_t Longest(const std::int32_t* ends, std::int64_t batch) {
  std::int64_t most = 0;
  for (std::int64_t b = 0; b < batch; b++)
    most = std::max(most, std::int64_t{ends[b + 1]} - ends[b]);
  return most;
}

}  // namespace

void Call::ReadOptions(const nb::handle* o) {
  ReadHow(o);
  ReadRagged(o);
  ReadScore(o);
  Problem& p = problem;
  if (Given(o[kKeyLengths])) {
    p.key_lengths = true;
    buffers.key_lengths = Integers(o[kKeyLengths], "key_lengths", p.batch);
  }
  p.dropout_p = Number(o[kDropoutP], "dropout_p");
  if (p.dropout_p != 0) {
    if (!Given(o[kSeed])) Raise("seed is None and dropout_p is not 0: give a seed");
    p.seed = Unsigned(o[kSeed], "seed");
    p.offset = Unsigned(o[kOffset], "offset");
  }
}

void Call::ReadHow(const nb::handle* o) {
  options = ReadPlanOptions(o[kBackend], o[kThreads]);
  if (arrays.device() == kHost) return;
  const std::string device = DeviceText(arrays.device());
  for (int i = 0; i < kOptions; i++) {
    if (IsArrayOption(i) || !IsTorch(o[i]) || !TorchIsOnDevice(o[i])) continue;
    Raise(std::string(kOptionNames[i]) + " is a tensor on the device '" + device +
          "': it must be a number here, for a call on a device does not wait to read one");
  }
  if (options.backend == "auto") options.backend = "cuda";
  if (options.backend != "cuda") {
    Raise("backend is \"" + options.backend + "\" and the tensors live on the device '" + device +
          "': there it must be \"cuda\", or None; for another make them CPU tensors");
  }
}

void Call::ReadRagged(const nb::handle* o) {
  Problem& p = problem;
  if (!p.ragged) {
    for (const int unused : {kCuSeqlensK, kMaxSeqlenQ, kMaxSeqlenK}) {
      if (Given(o[unused])) {
        Raise(std::string(kOptionNames[unused]) +
              " is given without cu_seqlens_q: ragged batches need cu_seqlens_q and cu_seqlens_k");
      }
    }
    return;
  }
  if (!Given(o[kCuSeqlensK])) {
    Raise("cu_seqlens_q is given without cu_seqlens_k: ragged batches need both");
  }
  // With its data, even for a plan, where the longest sequences have to be found.
  const bool sizes_given = Given(o[kMaxSeqlenQ]) && Given(o[kMaxSeqlenK]);
  const bool before = shapes_alone;
  shapes_alone = shapes_alone && sizes_given;
  const View ends = Read(o[kCuSeqlensQ], "cu_seqlens_q");
  if (ends.ndim != 1 || ends.shape[0] < 1) {
    Raise("cu_seqlens_q has the shape " + ShapeText(ends) +
          ": it must be (B + 1,), the ends of B sequences after a 0");
  }
  p.batch = ends.shape[0] - 1;
  if (ends.device != kHost && !sizes_given) {
    Raise(std::string(Given(o[kMaxSeqlenQ]) ? "max_seqlen_k" : "max_seqlen_q") +
          " is None and cu_seqlens_q lives on the device '" + DeviceText(ends.device) +
          "': there give max_seqlen_q and max_seqlen_k, for a call does not wait to read them (the "
          "longest lengths, or more)");
  }
  constexpr const char* kEnds = "(B + 1,), the ends of B sequences after a 0";
  buffers.cu_seqlens_q = Integers(o[kCuSeqlensQ], "cu_seqlens_q", ends.shape[0], kEnds);
  buffers.cu_seqlens_k = Integers(o[kCuSeqlensK], "cu_seqlens_k", ends.shape[0], kEnds);
  p.q_len = Given(o[kMaxSeqlenQ]) ? Integer(o[kMaxSeqlenQ], "max_seqlen_q")
                                  : Longest(buffers.cu_seqlens_q, p.batch);
  p.k_len = Given(o[kMaxSeqlenK]) ? Integer(o[kMaxSeqlenK], "max_seqlen_k")
                                  : Longest(buffers.cu_seqlens_k, p.batch);
  shapes_alone = before;
}

void Call::ReadOffset(nb::handle align, nb::handle offset) {
  Problem& p = problem;
  p.align = AlignOf(align);
  if (!Given(offset)) return;
  // An offset says where query 0 stands: with the default alignment there is nothing to contradict.
  if (p.align == Align::kBottomRight) p.align = Align::kOffset;
  if (IsNumpy(offset) || IsTorch(offset)) {
    const View view = Read(offset, "query_offset");
    if (view.ndim > 0 || view.device != kHost) {
      p.query_offsets = true;
      buffers.query_offsets = view.ndim > 0 ? Integers(offset, "query_offset", p.batch)
                                            : Spread(offset, "query_offset");
      return;
    }
  }
  p.query_offset = Integer(offset, "query_offset");
}

Broadcast Call::ReadBroadcast(nb::handle array, const char* name, const void** data, View* out) {
  const View view = Read(array, name);
  if (view.ndim > 4) {
    Raise(std::string(name) + " has the shape " + ShapeText(view) +
          ": it must have at most 4 axes, (B|1, H|1, Sq|1, Sk|1)");
  }
  // As NumPy broadcasts: axes that are missing on the left are of size 1.
  std::int64_t size[4] = {1, 1, 1, 1}, stride[4] = {kPacked, kPacked, kPacked, kPacked};
  for (int i = 0; i < view.ndim; i++) {
    const int axis = 4 - view.ndim + i;
    size[axis] = view.shape[i];
    if (view.shape[i] != 1) stride[axis] = view.strides[i];
  }
  *data = AddressOf(view);
  *out = view;
  return {true, size[0], size[1], size[2], size[3], stride[0], stride[1], stride[2], stride[3]};
}

void Call::ReadScore(const nb::handle* o) {
  Problem& p = problem;
  if (Given(o[kScale])) p.scale = Number(o[kScale], "scale");
  p.causal = Flag(o[kCausal], "causal");
  ReadOffset(o[kAlign], o[kQueryOffset]);
  if (Given(o[kWindow])) {
    const auto [left, right] = Pair(o[kWindow], "window");
    p.window_left = left;
    p.window_right = right;
  }
  p.prefix = Integer(o[kPrefix], "prefix");
  p.chunk = Integer(o[kChunk], "chunk");
  p.softcap = Number(o[kSoftcap], "softcap");
  if (Given(o[kAlibiSlopes])) {
    const bool per_entry = Read(o[kAlibiSlopes], "alibi_slopes").ndim == 2;
    p.alibi = per_entry ? Alibi::kPerBatchHead : Alibi::kPerHead;
    buffers.alibi_slopes = per_entry ? Floats(o[kAlibiSlopes], "alibi_slopes", {p.batch, p.q_heads})
                                     : Floats(o[kAlibiSlopes], "alibi_slopes", {p.q_heads});
  }
  View view;
  if (Given(o[kBias])) {
    p.bias = ReadBroadcast(o[kBias], "bias", &buffers.bias, &view);
    if (!IsTensorElement(view.element)) {
      Raise("bias has the dtype " + ElementText(view, o[kBias]) +
            ": it must be float32 or the dtype of q; a bool array is a mask");
    }
    p.bias_dtype = ToDType(view.element);
  }
  const auto read_bool = [&](int option, const char* name, Broadcast* t,
                             const std::uint8_t** data) {
    if (!Given(o[option])) return;
    const void* at = nullptr;
    *t = ReadBroadcast(o[option], name, &at, &view);
    *data = static_cast<const std::uint8_t*>(at);
    if (view.element != Element::kBool) {
      Raise(std::string(name) + " has the dtype " + ElementText(view, o[option]) +
            ": it must be bool, True where a query attends to a key; numbers to add are a bias");
    }
  };
  read_bool(kMask, "mask", &p.mask, &buffers.mask);
  read_bool(kBlockMap, "block_map", &p.block_map, &buffers.block_map);
  if (Given(o[kBlockSize])) {
    if (!p.block_map.given)
      Raise("block_size is given without block_map: it is the size of its blocks");
    const auto [rows, cols] = Pair(o[kBlockSize], "block_size");
    p.block_rows = rows;
    p.block_cols = cols;
  } else if (p.block_map.given) {
    Raise(
        "block_map is given without block_size: give the queries and keys of a block, (128, 128)");
  }
  if (Given(o[kSinks])) {
    p.sinks = true;
    buffers.sinks = Floats(o[kSinks], "sinks", {p.q_heads});
  }
}

}  // namespace heed::python
