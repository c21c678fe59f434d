// Fibers: the switch, in assembly where it is known, and their stacks.
#include "emu/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// The callee-saved registers of the System V ABI lie on the stack that is left.
asm(R"(
.text
.p2align 4
.globl heed_emu_switch
.type heed_emu_switch,@function
heed_emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size heed_emu_switch,.-heed_emu_switch
)");
#elif defined(__aarch64__)
// x19 to x30 and d8 to d15.
asm(R"(
.text
.p2align 4
.globl heed_emu_switch
.type heed_emu_switch,%function
heed_emu_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size heed_emu_switch,.-heed_emu_switch
)");
#endif

#if defined(__x86_64__) || defined(__aarch64__)
extern "C" void heed_emu_switch(void** left, void* entered);
#endif

namespace emu {

namespace {

// The fiber that was just left, whose bounds only the sanitizer knows where it is the main stack.
Fiber* left_last = nullptr;

size_t PageBytes() { return size_t(sysconf(_SC_PAGESIZE)); }

}  // namespace

void Fiber::Prepare(std::byte* stack, size_t bytes, void (*entry)()) {
  bottom_ = stack;
  bytes_ = bytes;
  fake_stack_ = nullptr;
#ifdef EMU_ASAN
  // A fiber that a failure left in the middle has never taken its red zones back.
  __asan_unpoison_memory_region(stack, bytes);
#endif
#if defined(__x86_64__)
  // As heed_emu_switch leaves it: six registers, then the address it returns to. At entry the stack
  // pointer is 8 below a multiple of 16, as behind a call.
  void** top = reinterpret_cast<void**>(stack + bytes) - 2;
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#elif defined(__aarch64__)
  void** top = reinterpret_cast<void**>(stack + bytes - 160);
  for (int i = 0; i < 20; ++i) top[i] = nullptr;
  top[11] = reinterpret_cast<void*>(entry);  // x30
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = bytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#endif
}

void Fiber::Arrived([[maybe_unused]] void* fake_stack) {
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, &left_last->bottom_, &left_last->bytes_);
#endif
}

void Fiber::Entered() { Arrived(nullptr); }

void Switch(Fiber& from, Fiber& to) {
  left_last = &from;
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.bytes_);
#endif
#if defined(__x86_64__) || defined(__aarch64__)
  heed_emu_switch(&from.stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
  Fiber::Arrived(from.fake_stack_);
}

Stacks::Stacks(int count) : count_(count) {
  const size_t page = PageBytes();
  void* p = mmap(nullptr, (kBytes + page) * size_t(count), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(p);
  for (int i = 0; i < count; ++i) mprotect(Get(i) - page, page, PROT_NONE);
}

Stacks::~Stacks() { munmap(memory_, (kBytes + PageBytes()) * size_t(count_)); }

std::byte* Stacks::Get(int i) const {
  return memory_ + (kBytes + PageBytes()) * size_t(i) + PageBytes();
}

}  // namespace emu
