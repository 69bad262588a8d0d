// Call sites of a libc that no table knows.
#ifndef HIJACK_SITE_SCAN_H_
#define HIJACK_SITE_SCAN_H_

#include <stddef.h>
#include <stdint.h>

#include <span>

#include "hijack/call_site.h"

namespace rump::hijack {

// Looks for `mov $number, %eax` right before `syscall`, for calls that the library takes, in
// `code`, which lies `code_address` behind where libc is loaded. Since only the mov is displaced,
// whole, no jump can lead into what is displaced. Returns how many sites it stored, at most `room`.
size_t ScanForSites(std::span<const uint8_t> code, uint32_t code_address, CallSite* sites,
                    size_t room);

}  // namespace rump::hijack

#endif  // HIJACK_SITE_SCAN_H_
