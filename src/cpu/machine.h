// machine.h: what this machine and this process offer: instruction sets, threads. Not here: what to
// do with them.
#pragma once

namespace heed::cpu {

// Null if the processor (and the system, which must save the registers) can run the instruction
// set, else why not.
const char* WhyUnusable(const char* isa);

}  // namespace heed::cpu
