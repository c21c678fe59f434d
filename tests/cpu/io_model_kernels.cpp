// io_model_kernels.cpp: the kernels' own text, compiled with the counting lanes.
#define HEED_ISA counting
#define HEED_LANES_HEADER "cpu/lanes_counting.h"

#include "cpu/kernels.h"

namespace heed::cpu::counting {
extern const Kernels kKernels;
}

#include "cpu/kernels.cpp"
