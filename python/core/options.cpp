// options.cpp: see options.h.
#include "options.h"

#include <climits>
#include <string>

namespace heed::python {
namespace {

[[noreturn]] void WrongType(const char* name, nb::handle value, const char* accepted) {
  PyErr_Clear();
  RaiseType(std::string(name) + " is a " + TypeName(value) + ": it must be " + accepted);
}

nb::object Index(nb::handle value, const char* name) {
  PyObject* index = PyNumber_Index(value.ptr());
  if (index == nullptr) WrongType(name, value, "an integer");
  return nb::steal(index);
}

}  // namespace

double Number(nb::handle value, const char* name) {
  const double x = PyFloat_AsDouble(value.ptr());
  if (x == -1 && PyErr_Occurred()) WrongType(name, value, "a number");
  return x;
}

std::int64_t Integer(nb::handle value, const char* name) {
  const nb::object index = Index(value, name);
  int overflow = 0;
  const long long n = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0) {
    Raise(std::string(name) + " is " + Text(index) + ": it must fit in 64 bits");
  }
  if (n == -1 && PyErr_Occurred()) RaiseCurrent();
  return n;
}

std::uint64_t Unsigned(nb::handle value, const char* name) {
  const nb::object index = Index(value, name);
  const unsigned long long n = PyLong_AsUnsignedLongLong(index.ptr());
  if (n == ULLONG_MAX && PyErr_Occurred()) {
    PyErr_Clear();
    Raise(std::string(name) + " is " + Text(index) +
          ": it must be from 0 to 18446744073709551615 (2^64 - 1)");
  }
  return n;
}

bool Flag(nb::handle value, const char* name) {
  if (value.ptr() == Py_True) return true;
  if (value.ptr() == Py_False) return false;
  // NumPy's bool, 0 and 1; not None, words or arrays, whose truth would be a guess.
  if (!PyNumber_Check(value.ptr())) WrongType(name, value, "True or False");
  const int yes = PyObject_IsTrue(value.ptr());
  if (yes < 0) WrongType(name, value, "True or False");
  return yes != 0;
}

std::pair<std::int64_t, std::int64_t> Pair(nb::handle value, const char* name) {
  const Py_ssize_t n = PySequence_Check(value.ptr()) ? PySequence_Size(value.ptr()) : -1;
  if (n < 0) WrongType(name, value, "a pair of integers");
  if (n != 2) {
    Raise(std::string(name) + " has " + std::to_string(n) +
          " elements: it must be a pair of integers");
  }
  const nb::object first = nb::steal(PySequence_GetItem(value.ptr(), 0));
  const nb::object second = nb::steal(PySequence_GetItem(value.ptr(), 1));
  if (!first.is_valid() || !second.is_valid()) RaiseCurrent();
  return {Integer(first, name), Integer(second, name)};
}

PlanOptions ReadPlanOptions(nb::handle backend, nb::handle threads) {
  PlanOptions options;
  if (!backend.is_none()) {
    if (!PyUnicode_Check(backend.ptr())) WrongType("backend", backend, "a name or None");
    options.backend = Text(backend);
    const std::size_t colon = options.backend.find(':');
    if (colon != std::string::npos) {
      const bool device = options.backend.starts_with("cuda:");
      (device ? options.arch : options.isa) = options.backend.substr(colon + 1);
      options.backend.resize(colon);
    }
  }
  if (!threads.is_none()) {
    const std::int64_t n = Integer(threads, "threads");
    if (n < 1 || n > INT_MAX) {
      Raise("threads is " + std::to_string(n) +
            ": it must be 1 or more, or None for as many as this process may use");
    }
    options.threads = static_cast<int>(n);
  }
  return options;
}

}  // namespace heed::python
