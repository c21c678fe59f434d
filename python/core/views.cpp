// views.cpp: what arrays of all libraries have in common. Not here: how one library is read.
#include "views.h"

#include <utility>

#include "device.h"

namespace heed::python {

bool View::contiguous() const {
  std::int64_t inside = 1;
  for (int i = ndim; i-- > 0;) {
    if (shape[i] != 1 && strides[i] != inside) return count() == 0;
    inside *= shape[i];
  }
  return true;
}

View View::turned() const {
  View other = *this;
  std::swap(other.shape[1], other.shape[2]);
  std::swap(other.strides[1], other.strides[2]);
  return other;
}

std::string DeviceText(int device) {
  return device == kHost ? "cpu" : "cuda:" + std::to_string(device);
}

std::string ShapeText(const View& view) {
  std::string text = "(";
  for (int i = 0; i < view.ndim; i++) {
    if (i > 0) text += ", ";
    text += std::to_string(view.shape[i]);
  }
  return text + (view.ndim == 1 ? ",)" : ")");
}

std::string ElementText(const View& view, nb::handle array) {
  constexpr const char* kNames[] = {"f32", "bf16", "f16", "f64", "bool", "int32"};
  if (view.element != Element::kOther) return kNames[static_cast<int>(view.element)];
  return Text(nb::object(array.attr("dtype")));
}

Arrays::Arrays(nb::handle first, const char* name) {
  if (IsNumpy(first)) {
    library_ = Library::kNumpy;
  } else if (IsTorch(first)) {
    library_ = Library::kTorch;
  } else {
    RaiseType(std::string(name) + " is a " + TypeName(first) +
              ": it must be a NumPy array, a PyTorch tensor or a JAX array");
  }
}

Arrays::~Arrays() {
  for (int i = 0; i < held_; i++) PyBuffer_Release(&buffers_[i]);
}

View Arrays::ReadNumpy(nb::handle array, const char* name) {
  if (!IsNumpy(array)) {
    RaiseType(std::string(name) + " is a " + TypeName(array) +
              ": it must be a NumPy array, as the first argument is");
  }
  if (held_ == kMostHeld) Raise("more arrays than a call can have");
  const View view = NumpyView(array, name, &buffers_[held_]);
  held_++;
  return view;
}

View Arrays::OnOneDevice(const View& view, const char* name, bool shape_alone) {
  if (first_.empty()) {
    first_ = name;
    device_ = view.device;
    if (!shape_alone) CheckDeviceIsServed(device_, name);
  } else if (view.device != device_ && !(shape_alone && view.data == nullptr)) {
    Raise(std::string(name) + " lives on the device '" + DeviceText(view.device) + "' and " +
          first_ + " on '" + DeviceText(device_) + "': all arrays of a call must be on one device");
  }
  return view;
}

View Arrays::Read(nb::handle array, const char* name) {
  return library_ == Library::kNumpy ? ReadNumpy(array, name)
                                     : OnOneDevice(TorchView(array, name, false), name, false);
}

View Arrays::ReadShape(nb::handle array, const char* name) {
  return library_ == Library::kNumpy ? ReadNumpy(array, name)
                                     : OnOneDevice(TorchView(array, name, true), name, true);
}

View Arrays::New(Element element, std::initializer_list<std::int64_t> shape, nb::object* out) {
  const int ndim = static_cast<int>(shape.size());
  if (library_ == Library::kNumpy) {
    *out = NewNumpy(element, shape.begin(), ndim);
    return ReadNumpy(*out, "a result");
  }
  *out = NewTorch(element, shape.begin(), ndim, device_);
  return TorchView(*out, "a result", false);
}

View Arrays::NewHeadsFirst(Element element, const std::int64_t (&bshd)[4], bool contiguous,
                           nb::object* out) {
  const auto [b, s, h, d] = bshd;
  if (contiguous) return New(element, {b, h, s, d}, out).turned();
  // No view of another tensor: of a view that a Function returns, PyTorch forbids changes in place.
  const std::int64_t shape[] = {b, h, s, d}, strides[] = {s * h * d, d, h * d, 1};
  *out = NewTorch(element, shape, 4, device_, strides);
  return TorchView(*out, "a result", false).turned();
}

}  // namespace heed::python
