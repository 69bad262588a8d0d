#include "hijack/diagnostic.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {

void Complain(std::initializer_list<std::string_view> parts) {
  char line[1024];
  size_t used = 0;
  const auto append = [&](std::string_view part) {
    for (const char c : part) {
      if (used < sizeof line - 1) line[used++] = c;
    }
  };
  append("rumphijack: ");
  for (const std::string_view part : parts) append(part);
  line[used++] = '\n';
  client::RawSyscall(SYS_write, 2, line, used);
}

std::string_view DescribeErrno(int error) {
  switch (error) {
    case ENOENT:
      return "no such socket";
    case ECONNREFUSED:
      return "connection refused";
    case EACCES:
    case EPERM:
      return "permission denied";
    case ENOTDIR:
      return "not a directory on the way";
    case EPROTO:
      return "what listens there is not a rump_server";
    case EPROTONOSUPPORT:
      return "its protocol version is another one";
    case EAGAIN:
      return "it takes no more connections";
    case EMFILE:
    case ENFILE:
      return "no file descriptor left";
    case EOPNOTSUPP:
      return "it cannot pass file descriptors";
    default:
      return "the connection failed";
  }
}

}  // namespace rump::hijack
