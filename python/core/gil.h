// gil.h: computing without Python's lock. Not here: who computes.
#pragma once

#include <Python.h>
#include <unistd.h>

#include <exception>
#include <optional>
#include <utility>

namespace heed::python {

/// Calls `compute`, which touches nothing of Python, with the GIL released.
template <class Compute>
auto WithoutGil(Compute compute) {
  PyThreadState* state = PyEval_SaveThread();
  std::optional<decltype(compute())> result;
  std::exception_ptr error;
  try {
    result = compute();
  } catch (...) {
    error = std::current_exception();
  }
  // Before 3.14 the interpreter ends daemon threads that come back while it shuts down by
  // pthread_exit, which unwinds through this frame, C++'s noexcept ones above it and destructors that
  // need the GIL: terminate. Such a thread sleeps here instead, as later versions let it.
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    for (;;) pause();
  }
  if (error) std::rethrow_exception(error);
  return *std::move(result);
}

}  // namespace heed::python
