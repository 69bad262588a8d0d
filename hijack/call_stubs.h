// What a rewritten libc jumps to before it makes a system call.
#ifndef HIJACK_CALL_STUBS_H_
#define HIJACK_CALL_STUBS_H_

#include <stddef.h>
#include <stdint.h>

#include "hijack/call_site.h"

namespace rump::hijack {

// What a stub takes, and how many there is room for. gates.S knows them as well.
inline constexpr size_t kStubSize = 128;
inline constexpr size_t kMaxStubs = 256;

// The room for stubs, in whole pages. Part of the library, so that it can say how a thread that is
// cancelled there is unwound.
extern "C" [[gnu::visibility("hidden")]] uint8_t rumphijack_stubs[kMaxStubs * kStubSize];

// Writes the stub of `site`, of a libc that is loaded at `base`, to `stub`, less than 2 GiB away.
void WriteStub(const CallSite& site, const uint8_t* base, uint8_t* stub);

// Makes `site` jump to its stub. libc's code must be writable.
void WriteJumps(const CallSite& site, uint8_t* base, const uint8_t* stub);

}  // namespace rump::hijack

#endif  // HIJACK_CALL_STUBS_H_
