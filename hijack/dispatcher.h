// Where every way into the library ends: one function that thinks in system calls.
#ifndef HIJACK_DISPATCHER_H_
#define HIJACK_DISPATCHER_H_

#include "hijack/outcome.h"

namespace rump::hijack {

// Takes system call `number` if it concerns a socket of ours, or something that the library keeps
// track of. What blocks does so in a call through `real`, which may unwind this frame
// (cancellation).
Outcome Dispatch(long number, const Args& args);

}  // namespace rump::hijack

#endif  // HIJACK_DISPATCHER_H_
