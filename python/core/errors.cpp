// errors.cpp: see errors.h.
#include "errors.h"

namespace heed::python {
namespace {

PyObject* error_type = nullptr;
PyObject* argument_type_error_type = nullptr;

[[noreturn]] void RaiseAs(PyObject* type, const std::string& sentence) {
  PyErr_SetString(type, sentence.c_str());
  throw nb::python_error();
}

// Named after the module, so that its stub has them; the package calls them its own.
PyObject* NewType(nb::module_& m, const char* name, const char* doc, nb::tuple bases) {
  PyObject* type = PyErr_NewExceptionWithDoc(
      (Text(nb::object(m.attr("__name__"))) + "." + name).c_str(), doc, bases.ptr(), nullptr);
  if (type == nullptr) RaiseCurrent();
  return type;
}

}  // namespace

void AddErrors(nb::module_& m) {
  // Two families: callers of flash-attn and PyTorch look for RuntimeError, NumPy's for ValueError.
  // Made once: an extension that is loaded again must raise what the first one raised.
  if (error_type != nullptr) {
    m.attr("Error") = nb::handle(error_type);
    m.attr("ArgumentTypeError") = nb::handle(argument_type_error_type);
    return;
  }
  error_type =
      NewType(m, "Error",
              "A request that is wrong, or that no backend serves: the message is a "
              "sentence with the field, what was given and what would be accepted.",
              nb::make_tuple(nb::handle(PyExc_ValueError), nb::handle(PyExc_RuntimeError)));
  argument_type_error_type =
      NewType(m, "ArgumentTypeError", "An argument of the wrong Python type.",
              nb::make_tuple(nb::handle(error_type), nb::handle(PyExc_TypeError)));
  m.attr("Error") = nb::handle(error_type);
  m.attr("ArgumentTypeError") = nb::handle(argument_type_error_type);
}

nb::handle ErrorType() { return error_type; }
void Raise(const std::string& sentence) { RaiseAs(error_type, sentence); }
void RaiseType(const std::string& sentence) { RaiseAs(argument_type_error_type, sentence); }

std::string Text(nb::handle object) {
  const nb::object text = nb::steal(PyObject_Str(object.ptr()));
  if (!text.is_valid()) RaiseCurrent();
  Py_ssize_t size = 0;
  if (const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size)) {
    return {data, static_cast<std::size_t>(size)};
  }
  PyErr_Clear();  // half a surrogate pair, which UTF-8 has no bytes for
  const nb::object bytes =
      nb::steal(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "backslashreplace"));
  char* data = nullptr;
  if (!bytes.is_valid() || PyBytes_AsStringAndSize(bytes.ptr(), &data, &size) != 0) RaiseCurrent();
  return {data, static_cast<std::size_t>(size)};
}

std::string TypeName(nb::handle object) {
  const nb::handle type(reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())));
  return Text(nb::object(type.attr("__name__")));
}

}  // namespace heed::python
