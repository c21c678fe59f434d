// A fiber: a stack and where it stands. x86-64 and AArch64 switch by a few instructions of their
// own; elsewhere ucontext does it. No scheduling: block.h.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

namespace emu {

class Fiber {
 public:
  // To run entry(), which never returns, on this stack when first switched to.
  void Prepare(std::byte* stack, size_t bytes, void (*entry)());
  // Leaves `from` and continues `to`; returns when somebody switches back.
  friend void Switch(Fiber& from, Fiber& to);
  // The first thing an entry function does.
  static void Entered();

 private:
  static void Arrived(void* fake_stack);

#if defined(__x86_64__) || defined(__aarch64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  // For the address sanitizer, which has to know the bounds of the stack it is on.
  const void* bottom_ = nullptr;
  size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
};

void Switch(Fiber& from, Fiber& to);

// Stacks for some fibers, each with an unmapped page below it, so that an overflow is a crash and
// not a neighbour's wrong numbers.
class Stacks {
 public:
  static constexpr size_t kBytes = 256 << 10;
  explicit Stacks(int count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  std::byte* Get(int i) const;

 private:
  int count_;
  std::byte* memory_;
};

}  // namespace emu
