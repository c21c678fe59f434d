// views.h: Python's arrays as pointers, shapes and strides, and new arrays of the same library. Not
// here: what an array means to a call.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "errors.h"
#include "heed/heed.h"

namespace heed::python {

enum class Element : std::uint8_t { kF32, kBF16, kF16, kF64, kBool, kI32, kOther };

constexpr int kMaxAxes = 6;

/// Where an array lies: here, or on the CUDA device of this index.
constexpr int kHost = -1;
/// "cpu", "cuda:0".
std::string DeviceText(int device);

/// An array as it lies. Strides count elements. Valid while the Arrays that read it lives.
struct View {
  void* data = nullptr;
  int ndim = 0;
  Element element = Element::kOther;
  bool writable = true;
  int device = kHost;
  std::int64_t shape[kMaxAxes] = {};
  std::int64_t strides[kMaxAxes] = {};

  std::int64_t count() const {
    std::int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    return n;
  }
  bool contiguous() const;
  /// (B, H, S, D) as (B, S, H, D), and back.
  View turned() const;
};

/// "(2, 16, 4, 64)".
std::string ShapeText(const View& view);

/// "f32", "bool"; of another element what Python calls it.
std::string ElementText(const View& view, nb::handle array);

constexpr bool IsTensorElement(Element e) { return e <= Element::kF64; }
constexpr DType ToDType(Element e) { return static_cast<DType>(e); }
constexpr Element FromDType(DType t) { return static_cast<Element>(t); }
static_assert(ToDType(Element::kBF16) == DType::kBF16 && ToDType(Element::kF64) == DType::kF64);

enum class Library : std::uint8_t { kNumpy, kTorch };

/// The arrays of one call: all of the library that the first one belongs to. Holds what keeps the
/// views valid.
class Arrays {
 public:
  /// Fails with a sentence where `first` is no array.
  Arrays(nb::handle first, const char* name);
  ~Arrays();
  Arrays(const Arrays&) = delete;
  Arrays& operator=(const Arrays&) = delete;

  Library library() const { return library_; }
  /// That of the first array read, which every other has to be on.
  int device() const { return device_; }

  /// Fails with a sentence for what is not an array of this library on this device, or where this
  /// build cannot compute.
  View Read(nb::handle array, const char* name);
  /// Shape and strides alone: accepts tensors that hold no data, too.
  View ReadShape(nb::handle array, const char* name);
  /// A contiguous array that is not initialised.
  View New(Element element, std::initializer_list<std::int64_t> shape, nb::object* out);
  /// Of the shape (B, H, S, D), lying as (B, S, H, D) unless it is to be contiguous; the result has the
  /// axes as the contract has them. PyTorch's alone.
  View NewHeadsFirst(Element element, const std::int64_t (&bshd)[4], bool contiguous,
                     nb::object* out);

 private:
  View ReadNumpy(nb::handle array, const char* name);

  View OnOneDevice(const View& view, const char* name, bool shape_alone);

  Library library_;
  int device_ = kHost;
  std::string first_;  // the name of the first array; empty before it
  int held_ = 0;
  static constexpr int kMostHeld = 40;
  Py_buffer buffers_[kMostHeld];
};

// ---- NumPy (numpy_views.cpp)
bool IsNumpy(nb::handle object);
/// Takes the buffer that the view stands on.
View NumpyView(nb::handle array, const char* name, Py_buffer* buffer);
nb::object NewNumpy(Element element, const std::int64_t* shape, int ndim);

// ---- PyTorch (torch_views.cpp): known once it was handed over by UseTorch
/// exchange: by DLPack's exchange interface where it is there; false is for tests.
void UseTorch(nb::module_ torch, bool exchange);
bool IsTorch(nb::handle object);
View TorchView(nb::handle tensor, const char* name, bool shape_alone);
/// strides: null for a contiguous one.
nb::object NewTorch(Element element, const std::int64_t* shape, int ndim, int device,
                    const std::int64_t* strides = nullptr);
/// Whether it lies on a CUDA device; of any tensor, stand-ins included.
bool TorchIsOnDevice(nb::handle tensor);
/// Whether tensors may be stand-ins now: under a dispatch mode or a function transform.
bool TorchStandsForOthers();
/// Whether tensors hold their own elements, in host memory or a CUDA device's, and neither a dispatch mode
/// nor a function transform stands before them.
bool TorchIsPlain(const nb::handle* tensors, int count);
bool TorchRequiresGrad(nb::handle tensor);

/// Who, beside the kernels, has a say in a call.
enum class Watcher : std::uint8_t {
  kNobody,    ///< compute at once
  kAutograd,  ///< compute at once, and let the results join its graph
  kOthers,    ///< a mode, a transform, tracing, autocast, tensors that are not plain
};
/// How much is asked of Watchers.
enum class Guard : std::uint8_t { kNone, kAll, kAllButAutocast };
Watcher TorchWatcher(const nb::handle* tensors, int count, Guard guard);

}  // namespace heed::python
