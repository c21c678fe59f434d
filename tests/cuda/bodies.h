// bodies.h: the bodies of all rows of kernels.def, compiled for the emulator in a few files that a build
// makes side by side. Not here: the rows (src/cuda/kernels.def).
#pragma once

#include "cuda/call.h"

namespace heed::cuda {

using BodyOf = void (*)(const ForwardCall& call);

// Of row n of the table; null: no such row.
BodyOf EmulatedBody(int row);

// What each file has: sets the entries of its rows.
void AddMmaF16Plain(BodyOf* table);
void AddMmaF16General(BodyOf* table);
void AddMmaBf16Plain(BodyOf* table);
void AddMmaBf16General(BodyOf* table);
void AddOthers(BodyOf* table);

}  // namespace heed::cuda
