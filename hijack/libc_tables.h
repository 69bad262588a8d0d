// The call sites of the libcs that this library was built for.
#ifndef HIJACK_LIBC_TABLES_H_
#define HIJACK_LIBC_TABLES_H_

#include <stdint.h>

#include <span>

#include "hijack/call_site.h"

namespace rump::hijack {

struct LibcTable {
  std::span<const uint8_t> build_id;
  std::span<const CallSite> sites;
  bool complete;  // nothing is missing
};

// nullptr for a libc that is not known.
const LibcTable* FindLibcTable(std::span<const uint8_t> build_id);

}  // namespace rump::hijack

#endif  // HIJACK_LIBC_TABLES_H_
