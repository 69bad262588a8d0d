// Where a libc makes the system calls that the library takes.
#ifndef HIJACK_CALL_SITE_H_
#define HIJACK_CALL_SITE_H_

#include <stdint.h>
#include <sys/syscall.h>

namespace rump::hijack {

// A `syscall` instruction. The instructions before it, `displaced` bytes of them, can be executed
// elsewhere, and nothing jumps between them and it. A jump to a stub is written over the first five
// of these bytes; where they are fewer, a short jump to `cave`, where nothing ever runs and a jump
// has room.
struct CallSite {
  uint32_t address;   // of the syscall instruction, from where libc is loaded
  uint32_t cave;      // the same; 0: none
  int16_t number;     // of the system call, or kAnyNumber
  uint8_t displaced;  // at most kMaxDisplaced
};

// The number is only known when the call is made: syscall(3).
inline constexpr int16_t kAnyNumber = -1;
inline constexpr int kMaxDisplaced = 24;
// The sizes of `syscall`, and of a jump to anywhere and to near by.
inline constexpr int kSyscallSize = 2;
inline constexpr int kJumpSize = 5;
inline constexpr int kShortJumpSize = 2;

// Whether the library takes system call `number`.
constexpr bool IsDispatched(int64_t number) {
  switch (number) {
#define CALL(name, ...) case SYS_##name:
#include "hijack/dispatched_calls.inc"
#undef CALL
    return true;
    default:
      return false;
  }
}

}  // namespace rump::hijack

#endif  // HIJACK_CALL_SITE_H_
