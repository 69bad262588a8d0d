// Copies to and from the program's memory that report a bad address instead of faulting on it.
#ifndef RUMPCLIENT_CORE_USER_MEMORY_H_
#define RUMPCLIENT_CORE_USER_MEMORY_H_

#include <stddef.h>
#include <stdint.h>

namespace rump::client {

// Copies `len` bytes from `addr` to `to`. False if any of them cannot be read.
bool ReadUserMemory(void* to, uint64_t addr, size_t len);

// Copies `len` bytes from `from` to `addr`. False if any of them cannot be written; those before
// it may have been.
bool WriteUserMemory(uint64_t addr, const void* from, size_t len);

// Bytes of the string at `addr` with its NUL, or `max` if there is none within that many; 0 if it
// cannot be read.
size_t UserStringSize(uint64_t addr, size_t max);

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_USER_MEMORY_H_
