// module.cpp: the extension heed._core. Not here: its functions, each in a file of its own.
#include "functions.h"
#include "views.h"

NB_MODULE(_core, m) {
  namespace python = heed::python;
  m.doc() = "The C++ side of heed: reads arrays, keeps plans, computes. Use the package heed.";
  python::AddErrors(m);
  python::AddAttention(m);
  python::AddBackward(m);
  python::AddDecode(m);
  python::AddMerge(m);
  python::AddExplain(m);
  m.def("use_torch", &python::UseTorch, nanobind::arg("torch"), nanobind::arg("exchange") = true,
        "Hands over the module torch; before it no tensor is known.");
  m.def("stand_ins", &python::TorchStandsForOthers,
        "Whether torch tensors may stand for others now: a dispatch mode or a function transform.");
}
