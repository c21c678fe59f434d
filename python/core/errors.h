// errors.h: how a sentence becomes a Python exception. Not here: the sentences.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "heed/heed.h"

namespace heed::python {

namespace nb = nanobind;

/// Makes heed.Error and heed.ArgumentTypeError and puts them into the module.
void AddErrors(nb::module_& m);

/// heed.Error: the values of a call are wrong, or no backend serves it.
nb::handle ErrorType();
[[noreturn]] void Raise(const std::string& sentence);
/// heed.ArgumentTypeError: an argument is of the wrong Python type. Derives from heed.Error and
/// TypeError.
[[noreturn]] void RaiseType(const std::string& sentence);
/// Hands on an exception that a call into Python has left.
[[noreturn]] inline void RaiseCurrent() { throw nb::python_error(); }

inline void Check(const Status& status) {
  if (!status) Raise(status.message());
}

/// str(object) in UTF-8, what has no UTF-8 escaped.
std::string Text(nb::handle object);
/// "float", "list": for sentences about what was given.
std::string TypeName(nb::handle object);

}  // namespace heed::python
