// numpy_views.cpp: NumPy arrays by Python's buffer protocol, which needs nothing of NumPy to build;
// bfloat16 (ml_dtypes) has no buffer format and is read as the 16-bit integers it lies in.
#include "views.h"

namespace heed::python {
namespace {

struct Numpy {
  PyTypeObject* array = nullptr;
  PyObject* empty = nullptr;
  PyObject* dtypes[7] = {};  // by Element; bf16 from ml_dtypes, once it is needed
  PyObject* as_uint16 = nullptr;
};

// Lives as long as the process: Python's modules do, too.
Numpy& TheNumpy() {
  // No initializer of a static: its lock would be held while Python may hand the GIL to a thread
  // that waits for that lock.
  static Numpy* numpy = nullptr;
  if (numpy == nullptr) {
    Numpy n;
    nb::module_ np = nb::module_::import_("numpy");
    n.array = reinterpret_cast<PyTypeObject*>(nb::object(np.attr("ndarray")).release().ptr());
    n.empty = nb::object(np.attr("empty")).release().ptr();
    constexpr const char* kNames[] = {"float32", "", "float16", "float64", "bool", "int32"};
    for (int i = 0; i < 6; i++) {
      if (*kNames[i]) n.dtypes[i] = nb::object(np.attr("dtype")(kNames[i])).release().ptr();
    }
    n.as_uint16 = nb::object(np.attr("dtype")("uint16")).release().ptr();
    if (numpy == nullptr) numpy = new Numpy(n);
  }
  return *numpy;
}

PyObject* Bfloat16() {
  Numpy& n = TheNumpy();
  PyObject*& type = n.dtypes[static_cast<int>(Element::kBF16)];
  if (type == nullptr) {
    nb::object bf16 = nb::module_::import_("ml_dtypes").attr("bfloat16");
    type = nb::object(nb::module_::import_("numpy").attr("dtype")(bf16)).release().ptr();
  }
  return type;
}

nb::object DtypeOf(nb::handle array) {
  static PyObject* name = PyUnicode_InternFromString("dtype");
  PyObject* dtype = PyObject_GetAttr(array.ptr(), name);
  if (dtype == nullptr) RaiseCurrent();
  return nb::steal(dtype);
}

// An array of bfloat16 exists only where ml_dtypes was imported: by name first, then by the object.
bool IsBfloat16(nb::handle dtype) {
  PyObject*& known = TheNumpy().dtypes[static_cast<int>(Element::kBF16)];
  if (dtype.ptr() == known) return true;
  if (Text(dtype) != "bfloat16") return false;
  if (known == nullptr) Bfloat16();
  return true;
}

// Asked of every array once bfloat16 was seen: cheaper than the buffer that such an array refuses.
bool IsKnownBfloat16(nb::handle array) {
  PyObject* known = TheNumpy().dtypes[static_cast<int>(Element::kBF16)];
  return known != nullptr && DtypeOf(array).ptr() == known;
}

nb::object AsUint16(nb::handle array) {
  static PyObject* view = PyUnicode_InternFromString("view");
  PyObject* arguments[] = {array.ptr(), TheNumpy().as_uint16};
  PyObject* bits =
      PyObject_VectorcallMethod(view, arguments, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
  if (bits == nullptr) RaiseCurrent();
  return nb::steal(bits);
}

Element ElementOf(const char* format, std::int64_t size) {
  if (format == nullptr || format[0] == '\0') return Element::kOther;
  if (format[0] == '<' || format[0] == '=' || format[0] == '@') format++;
  if (format[0] == '\0' || format[1] != '\0') return Element::kOther;  // also '>': other byte order
  switch (format[0]) {
    case 'f':
      return Element::kF32;
    case 'e':
      return Element::kF16;
    case 'd':
      return Element::kF64;
    case '?':
      return Element::kBool;
    case 'i':
    case 'l':
      return size == 4 ? Element::kI32 : Element::kOther;
    default:
      return Element::kOther;
  }
}

}  // namespace

bool IsNumpy(nb::handle object) {
  PyTypeObject* array = TheNumpy().array;
  return Py_TYPE(object.ptr()) == array || PyType_IsSubtype(Py_TYPE(object.ptr()), array);
}

View NumpyView(nb::handle array, const char* name, Py_buffer* buffer) {
  View view;
  bool bf16 = IsKnownBfloat16(array);
  if (!bf16 && PyObject_GetBuffer(array.ptr(), buffer, PyBUF_RECORDS_RO) != 0) {
    PyErr_Clear();
    const nb::object dtype = DtypeOf(array);
    bf16 = IsBfloat16(dtype);
    if (!bf16) {
      Raise(std::string(name) + " has the dtype " + Text(dtype) +
            ": it must be float32, bfloat16, float16 or float64");
    }
  }
  if (bf16) {
    const nb::object bits = AsUint16(array);
    if (PyObject_GetBuffer(bits.ptr(), buffer, PyBUF_RECORDS_RO) != 0) RaiseCurrent();
  }
  const auto fail = [&](const std::string& sentence) {
    PyBuffer_Release(buffer);
    Raise(std::string(name) + sentence);
  };
  if (buffer->ndim > kMaxAxes) {
    fail(" has " + std::to_string(buffer->ndim) + " axes: no argument has more than 4");
  }
  view.data = buffer->buf;
  view.ndim = buffer->ndim;
  view.writable = !buffer->readonly;
  view.element = bf16 ? Element::kBF16 : ElementOf(buffer->format, buffer->itemsize);
  const Py_ssize_t bytes = buffer->itemsize > 0 ? buffer->itemsize : 1;  // of an empty string: 0
  for (int i = 0; i < buffer->ndim; i++) {
    view.shape[i] = buffer->shape[i];
    // Elements of a structured array's field may lie between others.
    if (buffer->strides[i] % bytes != 0 && buffer->shape[i] > 1) {
      fail(" has a stride of " + std::to_string(buffer->strides[i]) + " bytes: strides must be " +
           "multiples of the " + std::to_string(bytes) + " bytes of an element");
    }
    view.strides[i] = buffer->strides[i] / bytes;
  }
  return view;
}

nb::object NewNumpy(Element element, const std::int64_t* shape, int ndim) {
  PyObject* type =
      element == Element::kBF16 ? Bfloat16() : TheNumpy().dtypes[static_cast<int>(element)];
  nb::object sizes = nb::steal(PyTuple_New(ndim));
  for (int i = 0; i < ndim; i++) {
    if (PyTuple_SetItem(sizes.ptr(), i, PyLong_FromLongLong(shape[i])) != 0) RaiseCurrent();
  }
  PyObject* arguments[] = {nullptr, sizes.ptr(), type};
  PyObject* made = PyObject_Vectorcall(TheNumpy().empty, arguments + 1,
                                       2 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
  if (made == nullptr) RaiseCurrent();
  return nb::steal(made);
}

}  // namespace heed::python
