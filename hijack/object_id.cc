#include "hijack/object_id.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <string_view>

#include "protocol/syscalls.h"
#include "protocol/text.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

// 0 for what is no lower-case hexadecimal number of at most 64 bits.
uint64_t ParseHex(std::string_view digits) {
  if (digits.size() > 16) return 0;
  uint64_t value = 0;
  for (const char c : digits) {
    unsigned digit;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else {
      return 0;
    }
    value = value << 4 | digit;
  }
  return value;
}

}  // namespace

long ObjectOf(int fd) {
  sockaddr_un addr = {};
  socklen_t len = sizeof addr;
  const long r = client::RawSyscall(SYS_getsockname, fd, &addr, &len);
  if (r < 0) return r == -EBADF ? r : 0;
  const size_t head = offsetof(sockaddr_un, sun_path) + 1;
  if (addr.sun_family != AF_UNIX || len <= head || len > sizeof addr || addr.sun_path[0] != 0) {
    return 0;
  }
  std::string_view name(addr.sun_path + 1, len - head);
  if (!Skip(&name, kHostNamePrefix)) return 0;
  const uint64_t object = ParseHex(name);
  return object >= kFirstObjectId && object <= INT64_MAX ? static_cast<long>(object) : 0;
}

}  // namespace rump::hijack
