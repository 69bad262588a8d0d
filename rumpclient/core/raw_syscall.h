// System calls issued by our own instruction: executables and other preloaded libraries define
// wrappers under libc's names and would capture them.
#ifndef RUMPCLIENT_CORE_RAW_SYSCALL_H_
#define RUMPCLIENT_CORE_RAW_SYSCALL_H_

#include <stdint.h>
#include <sys/syscall.h>

#include <type_traits>

namespace rump::client {

// Linux x86-64, all six argument registers. Returns the result, or -errno.
inline long RawSyscall6(long number, long a0, long a1, long a2, long a3, long a4, long a5) {
  long result;
  register long r10 asm("r10") = a3;
  register long r8 asm("r8") = a4;
  register long r9 asm("r9") = a5;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a0), "S"(a1), "d"(a2), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

template <typename T>
inline long SyscallSlot([[maybe_unused]] T value) {
  if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    return static_cast<long>(value);
  }
}

// The same with as many arguments as the call has; integers and pointers.
template <typename... Args>
inline long RawSyscall(long number, Args... args) {
  static_assert(sizeof...(Args) <= 6);
  const long slots[7] = {SyscallSlot(args)...};
  return RawSyscall6(number, slots[0], slots[1], slots[2], slots[3], slots[4], slots[5]);
}

// Tells the process's threads apart, without a system call.
inline const void* ThreadPointer() {
  const void* pointer;
  asm("mov %%fs:0, %0" : "=r"(pointer));
  return pointer;
}

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_RAW_SYSCALL_H_
