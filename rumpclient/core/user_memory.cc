#include "rumpclient/core/user_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include <algorithm>

#include "rumpclient/core/raw_syscall.h"

namespace rump::client {
namespace {

enum class Direction { kFromUser, kToUser };

bool Copy(Direction direction, void* ours, uint64_t addr, size_t len) {
  if (len == 0) return true;
  void* const theirs = reinterpret_cast<void*>(addr);
  const iovec local = {ours, len};
  const iovec remote = {theirs, len};
  const long number =
      direction == Direction::kFromUser ? SYS_process_vm_readv : SYS_process_vm_writev;
  const long n = RawSyscall(number, RawSyscall(SYS_getpid), &local, 1, &remote, 1, 0);
  if (n == -ENOSYS || n == -EPERM) {
    // A sandbox. A bad pointer then faults here, as it would in any library.
    if (direction == Direction::kFromUser) {
      memcpy(ours, theirs, len);
    } else {
      memcpy(theirs, ours, len);
    }
    return true;
  }
  return n >= 0 && static_cast<size_t>(n) == len;
}

}  // namespace

bool ReadUserMemory(void* to, uint64_t addr, size_t len) {
  return Copy(Direction::kFromUser, to, addr, len);
}

bool WriteUserMemory(uint64_t addr, const void* from, size_t len) {
  return Copy(Direction::kToUser, const_cast<void*>(from), addr, len);
}

size_t UserStringSize(uint64_t addr, size_t max) {
  // No chunk crosses its own alignment, hence none a page: what follows the NUL is not touched.
  constexpr size_t kChunk = 256;
  char chunk[kChunk];
  for (size_t size = 0; size < max;) {
    const uint64_t at = addr + size;
    const size_t n = std::min(max - size, kChunk - at % kChunk);
    if (!ReadUserMemory(chunk, at, n)) return 0;
    for (size_t i = 0; i < n; ++i) {
      if (chunk[i] == '\0') return size + i + 1;
    }
    size += n;
  }
  return max;
}

}  // namespace rump::client
