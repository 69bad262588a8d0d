// The call sites of the libcs that this library was built for.
#ifndef HIJACK_LIBC_TABLES_H_
#define HIJACK_LIBC_TABLES_H_

#include <stdint.h>

#include <span>

#include "hijack/call_site.h"

namespace rump::hijack {

// Empty for a libc that is not known.
std::span<const CallSite> FindLibcTable(std::span<const uint8_t> build_id);

}  // namespace rump::hijack

#endif  // HIJACK_LIBC_TABLES_H_
