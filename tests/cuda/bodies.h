// bodies.h: the bodies of all rows of kernels.def, compiled for the emulator in a few files that a build
// makes side by side. Not here: the rows (src/cuda/kernels.def).
#pragma once

#include "cuda/kernels.h"

namespace heed::cuda {

// Takes what its kernel takes, a ForwardCall or a BackwardCall.
using BodyOf = void (*)(const void* call);

// Of row n of the table; null: no such row.
BodyOf EmulatedBody(int row);

template <class R>
void BodyOfRow(const void* call) {
  Body<R::kKernel, typename R::C>(*static_cast<const CallOf<R::kKernel>*>(call));
}

// What each file has: sets the entries of its rows.
void AddMmaF16Plain(BodyOf* table);
void AddMmaF16General(BodyOf* table);
void AddMmaBf16Plain(BodyOf* table);
void AddMmaBf16General(BodyOf* table);
void AddBackwardF16(BodyOf* table);
void AddBackwardBf16(BodyOf* table);
void AddOthers(BodyOf* table);

}  // namespace heed::cuda
