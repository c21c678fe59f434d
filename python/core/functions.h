// functions.h: what the module _core offers; each file adds its own. Not here: docstrings for users,
// which stand in the package's Python files.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <utility>

#include "options.h"

namespace heed::python {

void AddAttention(nb::module_& m);  // forward.cpp
void AddBackward(nb::module_& m);   // backward.cpp
void AddDecode(nb::module_& m);     // decode.cpp
void AddMerge(nb::module_& m);      // merge.cpp
void AddExplain(nb::module_& m);    // explain.cpp

/// A parameter of each index, so that one list of names makes a signature.
template <std::size_t>
using Each = nb::handle;
using OptionIndices = std::make_index_sequence<kOptions>;

/// NotImplemented: the caller takes the way of PyTorch's dispatcher.
inline nb::object NotHere() { return nb::borrow(Py_NotImplemented); }

}  // namespace heed::python
