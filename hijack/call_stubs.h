// What a rewritten libc jumps to before it makes a system call.
#ifndef HIJACK_CALL_STUBS_H_
#define HIJACK_CALL_STUBS_H_

#include <stddef.h>
#include <stdint.h>

#include "hijack/call_site.h"

namespace rump::hijack {

// No stub is bigger.
inline constexpr size_t kMaxStubSize = 128;

// Writes the stub of `site`, of a libc that is loaded at `base`, to `stub`, less than 2 GiB away.
// Returns its size.
size_t WriteStub(const CallSite& site, const uint8_t* base, uint8_t* stub);

// Makes `site` jump to its stub. libc's code must be writable.
void WriteJumps(const CallSite& site, uint8_t* base, const uint8_t* stub);

}  // namespace rump::hijack

#endif  // HIJACK_CALL_STUBS_H_
