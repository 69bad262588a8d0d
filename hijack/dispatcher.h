// Where every way into the library ends: one function that thinks in system calls.
#ifndef HIJACK_DISPATCHER_H_
#define HIJACK_DISPATCHER_H_

#include "hijack/outcome.h"

namespace rump::hijack {

// Takes system call `number` if it concerns a socket of ours, or something that the library keeps
// track of. Makes its own system calls and calls nothing in libc. Where the thread may be cancelled
// at any instruction, this frame may be unwound; nothing is held then.
Outcome Dispatch(long number, const Args& args);

}  // namespace rump::hijack

#endif  // HIJACK_DISPATCHER_H_
