// Prints the names of the calls for which the client has stubs: all of the table but our own.
#include <stdio.h>

#include "protocol/syscalls.h"

int main() {
  for (const rump::SyscallSpec& row : rump::AllSyscalls()) {
    if (row.number >= rump::kPrivateCallBase) continue;
    printf("%.*s\n", static_cast<int>(row.name.size()), row.name.data());
  }
}
