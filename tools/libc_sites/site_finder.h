// Finds the system calls in a libc that librumphijack.so can take by writing jumps over its code.
#ifndef TOOLS_LIBC_SITES_SITE_FINDER_H_
#define TOOLS_LIBC_SITES_SITE_FINDER_H_

#include <stdint.h>

#include <string>
#include <vector>

#include "hijack/call_site.h"
#include "tools/libc_sites/elf_file.h"

namespace rump {

// A call that the library should take but cannot.
struct RefusedSite {
  uint64_t address = 0;
  int16_t number = 0;
  std::string reason;
};

struct FoundSites {
  std::vector<hijack::CallSite> sites;  // by address
  std::vector<RefusedSite> refused;
};

// Decodes all code of `libc`. A site is only found where it is certain which call is made, or that
// syscall(3) makes it, and that no jump leads between what is displaced and the call: none in the
// code, no exported function, and no entry of a jump table.
FoundSites FindCallSites(const ElfFile& libc);

}  // namespace rump

#endif  // TOOLS_LIBC_SITES_SITE_FINDER_H_
