// torch_views.cpp: PyTorch tensors without PyTorch's headers: by DLPack's C exchange interface where
// this PyTorch has it, else by a tensor's attributes; and the questions that decide whether a call
// may go past the dispatcher.
#include "dlpack.h"
#include "views.h"

namespace heed::python {
namespace {

// What was taken from the module torch. Null: this PyTorch has no such thing.
struct Torch {
  PyTypeObject* tensor = nullptr;
  PyTypeObject* parameter = nullptr;
  const dlpack::ExchangeApi* exchange = nullptr;
  PyObject *empty = nullptr, *empty_strided = nullptr;
  PyObject* dtypes[6] = {};  // by Element
  PyObject *cpu = nullptr, *cuda = nullptr;
  PyObject* make_device = nullptr;
  PyObject* empty_keywords = nullptr;
  // Questions, all without arguments but the last.
  PyObject* grad_enabled = nullptr;
  PyObject* dispatch_modes = nullptr;
  PyObject* transform = nullptr;
  PyObject* tracing = nullptr;
  PyObject* forward_ad = nullptr;  // the module, whose _current_level is -1 outside
  PyObject* autocast = nullptr;
  // Questions about a tensor.
  PyObject *is_wrapped = nullptr, *is_mapped = nullptr, *is_zero = nullptr;
  // Interned names.
  PyObject *shape = nullptr, *stride = nullptr, *dtype = nullptr, *data_ptr = nullptr,
           *requires_grad = nullptr, *is_neg = nullptr, *device = nullptr, *type = nullptr,
           *index = nullptr, *is_cuda = nullptr, *current_level = nullptr;
};

Torch the_torch;  // lives as long as the process, as torch does

PyObject* Keep(nb::object object) { return object.release().ptr(); }

// An attribute of an attribute …, or null.
PyObject* Find(nb::handle from, std::initializer_list<const char*> path) {
  nb::object at = nb::borrow(from);
  for (const char* name : path) {
    at = nb::steal(PyObject_GetAttrString(at.ptr(), name));
    if (!at.is_valid()) {
      PyErr_Clear();
      return nullptr;
    }
  }
  return Keep(at);
}

const dlpack::ExchangeApi* FindExchange(nb::handle tensor_type) {
  const nb::object capsule = nb::steal(Find(tensor_type, {"__dlpack_c_exchange_api__"}));
  if (!capsule.is_valid() || !PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api"))
    return nullptr;
  auto* api = static_cast<const dlpack::ExchangeApi*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (api != nullptr && api->version.major != dlpack::kMajor) api = api->previous;
  return api != nullptr && api->borrow != nullptr ? api : nullptr;
}

Element ElementOf(std::uint8_t code, int bits, int lanes) {
  if (lanes != 1) return Element::kOther;
  if (code == dlpack::kFloat) {
    return bits == 32   ? Element::kF32
           : bits == 16 ? Element::kF16
           : bits == 64 ? Element::kF64
                        : Element::kOther;
  }
  if (code == dlpack::kBfloat && bits == 16) return Element::kBF16;
  if (code == dlpack::kBool && bits == 8) return Element::kBool;
  if (code == dlpack::kInt && bits == 32) return Element::kI32;
  return Element::kOther;
}

[[noreturn]] void TooManyAxes(const char* name, std::int64_t ndim) {
  Raise(std::string(name) + " has " + std::to_string(ndim) + " axes: no argument has more than 4");
}

bool Borrow(nb::handle tensor, const char* name, View* view) {
  dlpack::Tensor t;
  if (the_torch.exchange->borrow(tensor.ptr(), &t) != 0) {
    PyErr_Clear();
    return false;
  }
  if (t.device_type != dlpack::kCpu && t.device_type != dlpack::kCuda) return false;
  if (t.ndim > kMaxAxes) TooManyAxes(name, t.ndim);
  if (t.device_type == dlpack::kCuda) view->device = t.device_id;
  view->data = static_cast<char*>(t.data) + t.byte_offset;
  view->ndim = t.ndim;
  view->element = ElementOf(t.code, t.bits, t.lanes);
  for (int i = 0; i < t.ndim; i++) {
    view->shape[i] = t.shape[i];
    view->strides[i] = t.strides[i];
  }
  return true;
}

nb::object Get(nb::handle object, PyObject* name) {
  PyObject* value = PyObject_GetAttr(object.ptr(), name);
  if (value == nullptr) RaiseCurrent();
  return nb::steal(value);
}

nb::object CallMethod(nb::handle object, PyObject* name) {
  PyObject* arguments[] = {object.ptr()};
  PyObject* value =
      PyObject_VectorcallMethod(name, arguments, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
  if (value == nullptr) RaiseCurrent();
  return nb::steal(value);
}

int Integers(nb::handle tuple, const char* name, std::int64_t* out) {
  const Py_ssize_t n = PyObject_Size(tuple.ptr());
  if (n < 0) RaiseCurrent();
  if (n > kMaxAxes) TooManyAxes(name, n);
  for (Py_ssize_t i = 0; i < n; i++) {
    const nb::object item = nb::steal(PySequence_GetItem(tuple.ptr(), i));
    out[i] = PyLong_AsLongLong(item.ptr());
    if (out[i] == -1 && PyErr_Occurred()) RaiseCurrent();
  }
  return static_cast<int>(n);
}

void ReadAttributesOf(nb::handle tensor, const char* name, bool shape_alone, View* view) {
  const nb::object device = Get(tensor, the_torch.device);
  const std::string type = Text(Get(device, the_torch.type));
  if (type == "cuda") {
    const nb::object index = Get(device, the_torch.index);
    view->device = index.is_none() ? 0 : static_cast<int>(PyLong_AsLong(index.ptr()));
  } else if (!shape_alone && type != "cpu") {
    Raise(std::string(name) + " lives on the device '" + Text(device) +
          "': heed computes on the CPU and on CUDA devices, so it must be a CPU or a CUDA tensor");
  }
  view->ndim = Integers(Get(tensor, the_torch.shape), name, view->shape);
  Integers(CallMethod(tensor, the_torch.stride), name, view->strides);
  const nb::object dtype = Get(tensor, the_torch.dtype);
  for (int i = 0; i < 6; i++) {
    if (dtype.ptr() == the_torch.dtypes[i]) view->element = static_cast<Element>(i);
  }
  if (shape_alone) return;
  const nb::object at = CallMethod(tensor, the_torch.data_ptr);
  view->data = PyLong_AsVoidPtr(at.ptr());
  if (view->data == nullptr && PyErr_Occurred()) RaiseCurrent();
}

// Sparse, nested and mapped tensors have no strides or no memory of their own: PyTorch says so, in
// the words that follow the sentence.
void ReadAttributes(nb::handle tensor, const char* name, bool shape_alone, View* view) {
  try {
    ReadAttributesOf(tensor, name, shape_alone, view);
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_RuntimeError) || error.matches(ErrorType())) throw;
    Raise(std::string(name) +
          " cannot be read where it lies: it must be a dense (strided) tensor " +
          "that no transform stands before; PyTorch says: " + Text(error.value()));
  }
}

// What a question answers, without arguments or about a tensor. A question that this PyTorch does not
// know is answered by `unknown`, and the call goes the way of the dispatcher.
bool Ask(PyObject* question, bool unknown, nb::handle about = {}) {
  if (question == nullptr) return unknown;
  PyObject* arguments[] = {nullptr, about.ptr()};
  PyObject* answer =
      PyObject_Vectorcall(question, arguments + 1,
                          (about.is_valid() ? 1 : 0) | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
  if (answer == nullptr) RaiseCurrent();
  const int yes = answer == Py_None ? 0 : PyObject_IsTrue(answer);
  Py_DECREF(answer);
  if (yes < 0) RaiseCurrent();
  return yes != 0;
}

bool InForwardAd() {
  if (the_torch.forward_ad == nullptr) return true;
  const nb::object level = Get(the_torch.forward_ad, the_torch.current_level);
  return PyLong_AsLong(level.ptr()) >= 0;
}

bool InAutocast(bool on_device) {
  PyObject* arguments[] = {nullptr, on_device ? the_torch.cuda : the_torch.cpu};
  PyObject* answer = PyObject_Vectorcall(the_torch.autocast, arguments + 1,
                                         1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
  if (answer == nullptr) RaiseCurrent();
  const bool yes = answer == Py_True;
  Py_DECREF(answer);
  return yes;
}

bool IsTrueAttribute(nb::handle object, PyObject* name) {
  return Get(object, name).ptr() == Py_True;
}

}  // namespace

void UseTorch(nb::module_ torch, bool exchange) {
  Torch t;
  if (exchange) t.exchange = FindExchange(torch.attr("Tensor"));
  t.empty = Find(torch, {"empty"});
  t.empty_strided = Find(torch, {"empty_strided"});
  constexpr const char* kNames[] = {"float32", "bfloat16", "float16", "float64", "bool", "int32"};
  for (int i = 0; i < 6; i++) t.dtypes[i] = Find(torch, {kNames[i]});
  t.cpu = PyUnicode_InternFromString("cpu");
  t.cuda = PyUnicode_InternFromString("cuda");
  t.make_device = Find(torch, {"device"});
  t.empty_keywords = Keep(nb::make_tuple("dtype", "device"));
  t.grad_enabled = Find(torch, {"is_grad_enabled"});
  t.dispatch_modes = Find(torch, {"_C", "_len_torch_dispatch_stack"});
  t.transform = Find(torch, {"_C", "_functorch", "peek_interpreter_stack"});
  t.tracing = Find(torch, {"_C", "_get_tracing_state"});
  t.forward_ad = Find(torch, {"autograd", "forward_ad"});
  t.autocast = Find(torch, {"is_autocast_enabled"});
  t.is_wrapped = Find(torch, {"_C", "_functorch", "is_functorch_wrapped_tensor"});
  t.is_mapped = Find(torch, {"_C", "_functorch", "is_legacy_batchedtensor"});
  t.is_zero = Find(torch, {"Tensor", "_is_zerotensor"});
  t.shape = PyUnicode_InternFromString("shape");
  t.stride = PyUnicode_InternFromString("stride");
  t.dtype = PyUnicode_InternFromString("dtype");
  t.data_ptr = PyUnicode_InternFromString("data_ptr");
  t.requires_grad = PyUnicode_InternFromString("requires_grad");
  t.is_neg = PyUnicode_InternFromString("is_neg");
  t.device = PyUnicode_InternFromString("device");
  t.type = PyUnicode_InternFromString("type");
  t.index = PyUnicode_InternFromString("index");
  t.is_cuda = PyUnicode_InternFromString("is_cuda");
  t.current_level = PyUnicode_InternFromString("_current_level");
  t.parameter = reinterpret_cast<PyTypeObject*>(Find(torch, {"nn", "Parameter"}));
  t.tensor = reinterpret_cast<PyTypeObject*>(Find(torch, {"Tensor"}));
  the_torch = t;
}

bool IsTorch(nb::handle object) {
  if (the_torch.tensor == nullptr) return false;
  return Py_TYPE(object.ptr()) == the_torch.tensor ||
         PyType_IsSubtype(Py_TYPE(object.ptr()), the_torch.tensor);
}

View TorchView(nb::handle tensor, const char* name, bool shape_alone) {
  if (!IsTorch(tensor)) {
    RaiseType(std::string(name) + " is a " + TypeName(tensor) +
              ": it must be a PyTorch tensor, as the first argument is");
  }
  View view;
  // A tensor without data, or one that stands for another, still has attributes.
  if (shape_alone || the_torch.exchange == nullptr || !Borrow(tensor, name, &view)) {
    ReadAttributes(tensor, name, shape_alone, &view);
  }
  if (view.data == nullptr && !shape_alone && view.count() != 0) {
    Raise(std::string(name) + " has the shape " + ShapeText(view) +
          " and no memory, as a tensor of a dispatch mode or of known zeros: it must be a dense "
          "tensor");
  }
  return view;
}

namespace {

// By DLPack's allocator: PyTorch's own memory, without the parsing of torch.empty's arguments.
nb::object Allocate(Element element, const std::int64_t* shape, int ndim, int device) {
  dlpack::Tensor like{};
  like.device_type = device == kHost ? dlpack::kCpu : dlpack::kCuda;
  like.device_id = device == kHost ? 0 : device;
  like.ndim = ndim;
  like.code = element == Element::kBF16 ? dlpack::kBfloat : dlpack::kFloat;
  like.bits = element == Element::kF64 ? 64 : element == Element::kF32 ? 32 : 16;
  like.lanes = 1;
  like.shape = const_cast<std::int64_t*>(shape);
  void* managed = nullptr;
  if (the_torch.exchange->allocate(&like, &managed, nullptr,
                                   [](void*, const char*, const char*) {}) != 0) {
    return {};
  }
  void* object = nullptr;
  if (the_torch.exchange->managed_to(managed, &object) != 0) {
    PyErr_Clear();
    return {};
  }
  return nb::steal(static_cast<PyObject*>(object));
}

}  // namespace

namespace {

nb::object TupleOf(const std::int64_t* values, int n) {
  nb::object tuple = nb::steal(PyTuple_New(n));
  for (int i = 0; i < n; i++) {
    if (PyTuple_SetItem(tuple.ptr(), i, PyLong_FromLongLong(values[i])) != 0) RaiseCurrent();
  }
  return tuple;
}

}  // namespace

nb::object NewTorch(Element element, const std::int64_t* shape, int ndim, int device,
                    const std::int64_t* strides) {
  if (the_torch.exchange != nullptr && strides == nullptr) {
    if (nb::object made = Allocate(element, shape, ndim, device); made.is_valid()) return made;
  }
  nb::object place = nb::borrow(the_torch.cpu);
  if (device != kHost)
    place = nb::handle(the_torch.make_device)(nb::handle(the_torch.cuda), device);
  const nb::object sizes = TupleOf(shape, ndim);
  nb::object steps;
  // The device is named, for a default device may be set.
  PyObject* arguments[5] = {nullptr, sizes.ptr()};
  int n = 1;
  if (strides != nullptr) {
    steps = TupleOf(strides, ndim);
    arguments[++n] = steps.ptr();
  }
  arguments[n + 1] = the_torch.dtypes[static_cast<int>(element)];
  arguments[n + 2] = place.ptr();
  PyObject* made = PyObject_Vectorcall(
      strides != nullptr ? the_torch.empty_strided : the_torch.empty, arguments + 1,
      static_cast<std::size_t>(n) | PY_VECTORCALL_ARGUMENTS_OFFSET, the_torch.empty_keywords);
  if (made == nullptr) RaiseCurrent();
  return nb::steal(made);
}

bool TorchStandsForOthers() {
  return Ask(the_torch.dispatch_modes, false) || Ask(the_torch.transform, false);
}

bool TorchIsOnDevice(nb::handle tensor) { return IsTrueAttribute(tensor, the_torch.is_cuda); }

bool TorchRequiresGrad(nb::handle tensor) {
  return IsTrueAttribute(tensor, the_torch.requires_grad);
}

namespace {

// Elements in memory of the host or of a CUDA device that are to be read as they lie.
bool IsPlain(nb::handle tensor) {
  const PyTypeObject* type = Py_TYPE(tensor.ptr());
  if (type != the_torch.tensor && type != the_torch.parameter) return false;
  if (the_torch.exchange != nullptr) {
    dlpack::Tensor t;
    if (the_torch.exchange->borrow(tensor.ptr(), &t) != 0) {  // it stands for another, for one
      PyErr_Clear();
      return false;
    }
    if (t.device_type != dlpack::kCpu && t.device_type != dlpack::kCuda) return false;
    if (t.data == nullptr && Ask(the_torch.is_zero, true, tensor)) return false;
  } else if (const std::string on = Text(Get(Get(tensor, the_torch.device), the_torch.type));
             (on != "cpu" && on != "cuda") || Ask(the_torch.is_wrapped, true, tensor) ||
             Ask(the_torch.is_mapped, true, tensor) || Ask(the_torch.is_zero, true, tensor)) {
    return false;
  }
  // A view whose elements are to be read with the other sign.
  return CallMethod(tensor, the_torch.is_neg).ptr() == Py_False;
}

}  // namespace

bool TorchIsPlain(const nb::handle* tensors, int count) {
  for (int i = 0; i < count; i++) {
    if (!IsPlain(tensors[i])) return false;
  }
  return !Ask(the_torch.dispatch_modes, true) && !Ask(the_torch.transform, true);
}

Watcher TorchWatcher(const nb::handle* tensors, int count, Guard guard) {
  if (guard == Guard::kNone) return Watcher::kNobody;
  if (!TorchIsPlain(tensors, count) || Ask(the_torch.tracing, true) || InForwardAd() ||
      (guard != Guard::kAllButAutocast && InAutocast(TorchIsOnDevice(tensors[0])))) {
    return Watcher::kOthers;
  }
  if (!Ask(the_torch.grad_enabled, true)) return Watcher::kNobody;
  for (int i = 0; i < count; i++) {
    if (TorchRequiresGrad(tensors[i])) return Watcher::kAutograd;
  }
  return Watcher::kNobody;
}

}  // namespace heed::python
